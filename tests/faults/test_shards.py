"""Shards at once on one table, while pandas reads it; in the long form some are killed and started again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
from pathlib import Path

import pandas as pd

import dd
from tests.faults.surroundings import LONG, alive, descendants, start, wait_for
from tests.faults.test_random_kills import Reader, table
from tests.helpers import dd_run

SWEEP = ["-m", "width=range(10,50,10)", "optimizer=sgd,adam", "seed=0,1,2", "epochs=20", "n_jobs=1"]
RUNS = 24
COUNT = 10 if LONG else 2
KILLED = 0.3


def test_shards_at_once_make_the_table_of_one_command(tmp_path: Path) -> None:
    together, alone = tmp_path / "together", tmp_path / "alone"
    together.mkdir()
    alone.mkdir()
    reader = Reader(together / "results/default")
    reader.start()
    _run({number: _started(number, together) for number in range(1, COUNT + 1)}, together)
    last = dd_run(*SWEEP, cwd=together)
    reader.over.set()
    reader.join()
    assert f"0 of {RUNS} runs to do ({RUNS} already in the table)" in last.stderr
    assert "optimizer" in last.stdout, "the command without shard sums up"
    assert reader.errors == []
    assert not reader.doubled.total()
    dd.sweep(*SWEEP[1:], f"results_dir={alone / 'results'}")
    for kind in ("runs", "curves"):
        pd.testing.assert_frame_equal(table(together, kind), table(alone, kind), check_exact=True)
    assert len(table(together, "runs")) == RUNS


def _started(number: int, cwd: Path) -> subprocess.Popen[str]:
    return start([*SWEEP, f"shard={number}/{COUNT}"], cwd)


def _run(processes: dict[int, subprocess.Popen[str]], cwd: Path) -> None:
    """Wait for all; in the long form kill some on the way, and start those again."""
    generator = random.Random(0)
    if LONG:
        for number in generator.sample(sorted(processes), round(KILLED * COUNT)):
            runs = cwd / "results/default/runs"
            count = len(list(runs.glob("*"))) if runs.is_dir() else 0
            wait_for(lambda count=count, runs=runs: runs.is_dir() and len(list(runs.glob("*"))) > count)
            below = descendants(processes[number].pid)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(processes[number].pid, signal.SIGKILL)
            processes[number].communicate(timeout=60)
            wait_for(lambda below=below: not any(map(alive, below)), 10)
            processes[number] = _started(number, cwd)
    for number, process in processes.items():
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert f"shard {number}/{COUNT} is done" in errors
        assert "next: " not in out
