"""A table that cannot be written: one line, exit code 2, within seconds, and what was written stays."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.faults.surroundings import LONG, broken_calls, rows_are_there, start
from tests.helpers import dd_run

SWEEP = ["-m", "width=range(20,200,20)", "optimizer=adam", "steps=20000", "seed=0,1"]
LIMIT = 10.0
"""Seconds from the fault to the end."""

ERRORS = ("ENOSPC", "EIO", "EROFS")
CASES = [(error, jobs, calls) for error in ERRORS for jobs in (1, 2) for calls in (("fsync",), ("replace",))]
SHORT = [("ENOSPC", 2, ("fsync",)), ("EROFS", 1, ("replace",))]


def remove(folder: Path) -> None:
    """Remove a folder in which another process creates and removes files meanwhile."""

    def unless_gone(function: object, path: str, error: tuple[object, BaseException, object]) -> None:
        if not isinstance(error[1], FileNotFoundError):
            raise error[1]

    shutil.rmtree(folder, onerror=unless_gone)


def one_line(errors: str) -> str:
    """The message; lines of progress are not part of it."""
    lines = [x for x in errors.splitlines() if "runs to do" not in x and " s left" not in x]
    assert len(lines) == 1, errors
    return lines[0]


@pytest.mark.parametrize(("error", "n_jobs", "calls"), CASES if LONG else SHORT)
def test_a_disk_that_refuses(tmp_path: Path, error: str, n_jobs: int, calls: tuple[str, ...]) -> None:
    """Each process may make two calls before the disk refuses, in the middle of a change."""
    environment = broken_calls(tmp_path / "broken", calls, error, after=2)
    began = time.monotonic()
    sweep = SWEEP if n_jobs == 2 else [*SWEEP[:3], "steps=2000", "seed=0,1"]  # one pack has no use for two processes
    process = start([*sweep, f"n_jobs={n_jobs}"], tmp_path, **environment)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert time.monotonic() - began < LIMIT + 10, "a start of Python and PyTorch included"
    reason = {"ENOSPC": "No space left on device", "EIO": "Input/output error", "EROFS": "Read-only file system"}[error]
    assert reason in one_line(errors)
    assert one_line(errors).startswith("dd: cannot write ")
    assert output == ""
    table = tmp_path / "results/default"
    before = pd.read_parquet(table / "runs") if any((table / "runs").glob("*.parquet")) else pd.DataFrame()
    done = dd_run(*sweep, "n_jobs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    after = pd.read_parquet(table / "runs")
    assert len(after) == 18
    assert not after.duplicated("run_id").any()
    assert not pd.read_parquet(table / "curves").duplicated(["run_id", "step"]).any()
    if len(before):
        kept = after[after.run_id.isin(before.run_id)].set_index("run_id").sort_index()
        pd.testing.assert_frame_equal(kept, before.set_index("run_id").sort_index(), check_exact=True)
    assert not [p for p in table.rglob("*") if p.name.startswith("_") and p.name != "_lock"]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_folder_that_goes_while_the_sweep_runs(tmp_path: Path, n_jobs: int) -> None:
    process = start([*SWEEP, f"n_jobs={n_jobs}"], tmp_path)
    rows_are_there(tmp_path)
    began = time.monotonic()
    remove(tmp_path / "results")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert time.monotonic() - began < LIMIT
    assert "results/default" in one_line(errors)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_limit_of_the_file_size_that_the_kernel_enforces(tmp_path: Path, n_jobs: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dd.run", *SWEEP, f"n_jobs={n_jobs}"], cwd=tmp_path, text=True, capture_output=True,
        check=False, timeout=60, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "File too large" in one_line(done.stderr)


def mountable(folder: Path) -> bool:
    """Whether this machine lets us mount a file system of our own."""
    if os.geteuid() != 0:
        return False
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(folder)], check=False,
                          capture_output=True)  # fmt: skip
    return done.returncode == 0


@pytest.mark.parametrize("n_jobs", [1, 2] if LONG else [2])
def test_a_file_system_that_is_full(tmp_path: Path, n_jobs: int) -> None:
    """A real one, where we may mount it; the refusals above play it elsewhere."""
    folder = tmp_path / "small"
    folder.mkdir()
    if not mountable(folder):
        pytest.skip("only root may mount a small file system")
    try:
        done = dd_run(*SWEEP, f"n_jobs={n_jobs}", f"results_dir={folder}", cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "No space left on device" in one_line(done.stderr)
    finally:
        subprocess.run(["umount", str(folder)], check=True)
