"""What Slurm's own commands tell of jobs. A job that the queue does not list has ended."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence

SECONDS = 60.0
"""A controller under load may take so long to answer."""

ARRAY = 1001
"""Slurm's own default of MaxArraySize."""

MINE = f"--user={os.getuid()}" if hasattr(os, "getuid") else "--me"
"""Older versions have no ``--me``."""

RUNNING = ("RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED")
"""States of jobs that have started; others wait."""


def answer(*command: str) -> str | None:
    """What a command prints; None where it fails, or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def states(jobs: Sequence[str]) -> dict[str, str] | None:
    """State of each job that is in the queue.

    Args:
        jobs: as ``12`` or, for elements of an array, ``12_3``.

    Returns:
        States by job; None where nobody can tell, as while the controller restarts.
    """
    # without --jobs: squeue fails where one of them has left the queue
    listed = answer("squeue", MINE, "--noheader", "--array", "--format=%i|%T")
    if listed is None:
        return None
    known = dict(line.strip().split("|", 1) for line in listed.splitlines() if "|" in line)
    return {job: known[job] for job in jobs if job in known}


def in_words(alive: Mapping[str, str]) -> str:
    """How many jobs run and wait.

    >>> in_words({"12_0": "RUNNING", "12_1": "PENDING", "12_2": "REQUEUED"})
    '1 running, 2 waiting'
    """
    count = Counter("running" if state in RUNNING else "waiting" for state in alive.values())
    return ", ".join(f"{count[word]} {word}" for word in ("running", "waiting") if count[word]) or "all jobs have ended"


def named(name: str) -> list[str]:
    """Jobs of a name that are in the queue, arrays as a whole."""
    listed = answer("squeue", MINE, "--noheader", f"--name={name}", "--format=%F")
    return sorted(set((listed or "").split()))


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs; those that have ended do no harm."""
    if jobs:
        answer("scancel", *jobs)


def requeue(job: str) -> bool:
    """Queue a job again that runs; whether Slurm takes it."""
    return answer("scontrol", "requeue", job) is not None


def largest_array() -> int:
    """Elements that a job array may have: ``MaxArraySize`` bounds the index, which counts from 0."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer("scontrol", "show", "config") or "", re.MULTILINE)
    return max(int(found[1]) if found else ARRAY, 1)


def ending(job: str) -> str:
    """How a job ended, in Slurm's words: from its accounting, or where a cluster has none, from the controller."""
    told = answer("sacct", "--jobs", job, "--allocations", "--noheader", "--parsable2", "--format=State,ExitCode")
    if told and (line := told.strip().splitlines()):
        state, _, code = line[-1].partition("|")
        return _ended(state, code)
    shown = answer("scontrol", "show", "job", job) or ""
    found = re.search(r"JobState=(\S+).*?ExitCode=(\S+)", shown, re.DOTALL)
    return _ended(found[1], found[2]) if found else "Slurm has forgotten it, as it does with jobs cancelled early"


def _ended(state: str, code: str) -> str:
    """State and exit code in words.

    >>> _ended("FAILED", "1:0"), _ended("OUT_OF_MEMORY", "0:9"), _ended("TIMEOUT", "0:0")
    ('FAILED, exit code 1', 'OUT_OF_MEMORY, signal 9', 'TIMEOUT')
    """
    exit_code, _, number = code.partition(":")
    signal = f", signal {number}" if number.strip("0") else ""
    return state + (f", exit code {exit_code}" if exit_code.strip("0") else "") + signal
