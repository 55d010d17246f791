"""kill -9 at every step of a write, while another program reads the table with pandas.

Whatever the step: nothing is lost, nothing is there twice, nothing is unreadable, and the same command afterwards ends
with the table of a command that was never disturbed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dd.results import Store
from dd.results.repair import faults
from tests.faults.scenarios import SCENARIOS
from tests.results.tables import contents, files

LONG = os.environ.get("DD_FAULTS") == "long"
KILLS = 1000 if LONG else 3
"""Kills of one scenario at most, evenly spread over its steps."""

MOVES = {"compact", "tidy", "repair"}
"""Where a run moves from part to part: for an instant it is there twice, and a part that was listed goes."""

ROOT = Path(__file__).parents[2]


class Server:
    """Carries out scenarios in children that it forks."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.scenarios"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip

    def __call__(self, folder: Path, scenario: str, part: str = "command", kill: int | None = None) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"folder": str(folder), "scenario": scenario, "part": part, "kill": kill}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


class Poller(threading.Thread):
    """Reads ``runs`` with pandas all the while, and notes what it should not see."""

    def __init__(self, folder: Path, moves: bool) -> None:
        super().__init__()
        self.folder, self.moves = folder, moves
        self.kept: set[str] = set()
        self.found: list[str] = []
        self.reads = 0
        self.paused = threading.Lock()
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            with self.paused:
                self.look()
            self.done.wait(0.001 if LONG else 0.01)

    def look(self) -> None:
        if not list(self.folder.glob("*.parquet")):
            return
        try:
            frame = pd.read_parquet(self.folder, columns=["run_id"])
        except FileNotFoundError as error:
            if not self.moves:
                self.found.append(f"not found: {error}")
            return
        except Exception as error:
            self.found.append(f"unreadable: {error!r}")
            return
        self.reads += 1
        if lost := self.kept - set(frame["run_id"]):
            self.found.append(f"lost: {sorted(lost)}")
        if frame["run_id"].duplicated().any() and not self.moves:
            self.found.append(f"doubled: {frame['run_id'].tolist()}")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_kill_at_any_step_of_a_write(scenario: str, server: Server, tmp_path: Path) -> None:
    base, undisturbed, work = (tmp_path / name for name in ("base", "undisturbed", "work"))
    base.mkdir()
    assert server(base, scenario, "base")["status"] == 0
    shutil.copytree(base, undisturbed)
    answer = server(undisturbed, scenario)
    assert answer["status"] == 0
    steps = answer["steps"]
    assert steps > 5
    wanted = contents(Store(undisturbed, "t"))
    assert wanted[0]
    in_order = scenario != "earlier versions"  # else rows are there twice before anything is done
    poller = Poller(work / "t/runs", moves=scenario in MOVES or not in_order)
    if scenario != "repair" and (base / "t/runs").exists():
        poller.kept = set(pd.read_parquet(base / "t/runs")["run_id"])
    poller.start()
    try:
        for kill in range(1, steps + 1, max(1, steps // KILLS)):
            with poller.paused:
                shutil.rmtree(work, ignore_errors=True)
                shutil.copytree(base, work)
            assert server(work, scenario, kill=kill)["status"] == signal.SIGKILL
            poller.look()
            assert server(work, scenario)["status"] == 0, f"the command after a kill at step {kill} of {steps}"
            assert contents(Store(work, "t")) == wanted, f"after a kill at step {kill} of {steps}"
            assert faults(work / "t") == []
            assert not [f for f in files(Store(work, "t")) if f.endswith(".tmp") or "journal" in f]
    finally:
        poller.done.set()
        poller.join()
    assert poller.found == []
    assert poller.reads > 0


def test_nothing_to_do_leaves_the_table_in_order_too(server: Server, tmp_path: Path) -> None:
    """A command that finds all of its runs completes what a killed one has left."""
    base = tmp_path / "base"
    base.mkdir()
    scenario = "force over other packs"
    assert server(base, scenario, "base")["status"] == 0
    steps = server(shutil.copytree(base, tmp_path / "undisturbed"), scenario)["steps"]
    for kill in range(1, steps + 1, 1 if LONG else steps // 3):
        work = shutil.copytree(base, tmp_path / f"work{kill}")
        assert server(work, scenario, kill=kill)["status"] == signal.SIGKILL
        assert server(work, scenario, "base")["status"] == 0  # finds its runs, computes nothing
        rows, points, _ = contents(Store(work, "t"))
        assert set("abcd") <= set(rows) <= set("abcde")
        assert points == {(run_id, step): value for run_id, value in rows.items() for step in range(3)}
        assert faults(work / "t") == []
