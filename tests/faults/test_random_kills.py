"""``kill -9`` of a whole sweep, with its processes, at random moments, while pandas reads the table."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from tests.faults.surroundings import LONG, alive, descendants, start, wait_for
from tests.helpers import dd_run

SWEEP = ["-m", "width=range(20,200,15)", "optimizer=adam,sgd", "steps=4000", "seed=0,1", "n_jobs=2"]
RUNS = 48
COMMANDS = {
    "a new table": [],
    "force": ["force=true"],
    "full measurement over other packs": ["measure=full", "seed=1,0", "n_jobs=1"],
}
KILLS = 17
VOLATILE = ["seconds", "finished_at", "name", "git_commit"]


class Reader(threading.Thread):
    """Reads a table with pandas over and over; remembers what it could not read and whatever it lost."""

    def __init__(self, table: Path) -> None:
        super().__init__(daemon=True)
        self.table, self.errors, self.times = table, list[str](), 0
        self.doubled = Counter[str]()
        self.over = threading.Event()

    def run(self) -> None:
        seen: set[str] = set()
        while not self.over.is_set():
            for kind, key in (("runs", ["run_id"]), ("curves", ["run_id", "step"])):
                if not any((self.table / kind).glob("[!_]*.parquet")):
                    continue
                try:
                    frame = pd.read_parquet(self.table / kind, columns=key)
                except Exception as error:
                    self.errors.append(f"{kind}: {error!r}")
                    continue
                self.times += 1
                self.doubled[kind] += int(frame.duplicated().sum())
                if kind == "runs":
                    now = set(frame.run_id)
                    if lost := seen - now:
                        self.errors.append(f"lost {lost}")
                    seen |= now
            time.sleep(0.01)


def table(cwd: Path, kind: str) -> pd.DataFrame:
    key = ["run_id"] if kind == "runs" else ["run_id", "step"]
    frame = pd.read_parquet(cwd / "results/default" / kind)
    return frame.drop(columns=VOLATILE, errors="ignore").sort_values(key, ignore_index=True)


@pytest.mark.skipif(not LONG, reason="make test-faults; tests/faults/test_kills.py kills at every step of a write")
@pytest.mark.parametrize("name", COMMANDS)
def test_the_next_command_gives_the_undisturbed_table(name: str, tmp_path: Path) -> None:
    command = [*SWEEP, *COMMANDS[name]]
    undisturbed, cwd = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir()
    if COMMANDS[name]:
        assert dd_run(*SWEEP, cwd=undisturbed).returncode == 0
    shutil.copytree(undisturbed, cwd)
    before = time.monotonic()
    assert dd_run(*command, cwd=undisturbed).returncode == 0
    takes = time.monotonic() - before
    reader = Reader(cwd / "results/default")
    reader.start()
    generator = random.Random(name)
    for _ in range(KILLS):
        process = start(command, cwd)
        time.sleep(generator.uniform(0.4, 1.0) * takes)
        below = descendants(process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        wait_for(lambda below=below: not any(map(alive, below)), 10)
    assert dd_run(*command, cwd=cwd).returncode == 0
    reader.over.set()
    reader.join()
    assert reader.errors == []
    assert reader.times > 0
    assert not reader.doubled.total()
    for kind in ("runs", "curves"):
        pd.testing.assert_frame_equal(table(cwd, kind), table(undisturbed, kind), check_exact=True)
    assert len(table(cwd, "runs")) == RUNS
    left = [p.name for p in (cwd / "results/default").rglob("*") if p.is_file() and not p.name.endswith(".parquet")]
    assert left == ["_lock"]
