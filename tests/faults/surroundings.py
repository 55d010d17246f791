"""Sweeps in processes of their own: started, disturbed from outside, and looked at afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

LONG = os.environ.get("DD_FAULTS") == "long"
"""``make test-faults`` asks for the long form of every test."""

BROKEN = """
import errno, os
left = {after}
def broken(name):
    honest = getattr(os, name)
    def call(*arguments, **named):
        global left
        left -= 1
        if left < 0:
            number = errno.{error}
            raise OSError(number, os.strerror(number), str(arguments[0]))
        return honest(*arguments, **named)
    setattr(os, name, call)
for name in {calls}:
    broken(name)
"""


def start(arguments: list[str], cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """Start ``python -m dd.run`` in a process group of its own, which Ctrl-C reaches."""
    # shells ignore Ctrl-C for what runs in the background, and nohup the hangup: that would be inherited
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGHUP)}
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "dd.run", *arguments], cwd=cwd, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True, env=os.environ | environment,
        )  # fmt: skip
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def rows_are_there(cwd: Path) -> None:
    """Wait until the first part of the table is written."""
    folder = cwd / "results/default/runs"
    wait_for(lambda: folder.is_dir() and any(folder.glob("*.parquet")))


def descendants(parent: int, depth: int = 1) -> dict[int, float]:
    """Processes at least ``depth`` generations below a process, and the seconds that each has computed."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents[int(stat.parent.name)] = (int(fields[1]), int(fields[11]) / os.sysconf("SC_CLK_TCK"))
    found = {}
    for pid, (_, seconds) in parents.items():
        ancestor, generations = pid, 0
        while ancestor in parents and ancestor != parent:
            ancestor, generations = parents[ancestor][0], generations + 1
        if ancestor == parent and generations >= depth:
            found[pid] = seconds
    return found


def workers(parent: int) -> list[int]:
    """Two workers of a sweep, once both compute; the server that forked them stands between."""

    def busy() -> list[int]:
        return [pid for pid, seconds in descendants(parent, depth=2).items() if seconds > 0.5]

    wait_for(lambda: len(busy()) >= 2)
    return busy()


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def broken_calls(folder: Path, calls: tuple[str, ...], error: str, after: int) -> dict[str, str]:
    """Environment in which some functions of ``os`` fail in every process, after some calls that succeed."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(BROKEN.format(calls=calls, error=error, after=after))
    root = str(Path(__file__).parents[2])
    return {"PYTHONPATH": os.pathsep.join([str(folder), root, os.environ.get("PYTHONPATH", "")])}


def wait_ready(process: subprocess.Popen[str]) -> None:
    """Wait until a process that a test has started says that it is ready."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def end(process: subprocess.Popen[str]) -> int:
    """Wait for the end of a process whose output nobody reads any more; its exit code."""
    assert process.stdout is not None
    process.stdout.close()
    return process.wait()
