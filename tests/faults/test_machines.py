"""Several machines that change one table at once, on a file system whose locks do nothing between them.

Every process here is a machine of its own: its ``flock`` always succeeds.
"""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
import sys
from pathlib import Path

from dd.results import Store, compaction, lock
from dd.results.repair import faults
from dd.results.schema import runs_schema
from tests.faults.scenarios import append
from tests.faults.surroundings import end, wait_ready
from tests.results.tables import contents, files

LONG = os.environ.get("DD_FAULTS") == "long"
MACHINES = 6 if LONG else 3
ROUNDS = 60 if LONG else 4
KEPT = 4
"""Runs of each machine that it computes again and again; they share parts with those of the others."""


def kept(who: int) -> list[str]:
    """Runs of one machine, which only this machine replaces."""
    return [f"m{who}-{i}" for i in range(KEPT)]


def be_a_machine(name: str) -> None:
    """Let the locks of this process do nothing, as on a file system whose locks reach no other machine."""
    fcntl.flock = lambda *_: None
    lock.domain = lambda _: name


def work(results: Path, who: int, rounds: int) -> None:
    """Append runs, replace own ones with ever larger values, merge parts now and then."""
    be_a_machine(f"machine{who}")
    runs_schema()
    print("ready", flush=True)
    rng = random.Random(who)
    store = Store(results, "t")
    for i in range(1, rounds + 1):
        append(store, [f"new{who}-{i}", f"new{who}-{i}x"], 1.0)
        append(store, kept(who), float(i), outputs=i % 2 == 0)
        if rng.random() < 0.3:
            compaction.compact(store.folder)
        if rng.random() < 0.3:
            store.open()


def start(call: str) -> subprocess.Popen[str]:
    code = f"from tests.faults.test_machines import *; {call}"
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    )


def table(results: Path) -> Store:
    """Runs of all machines, mixed over two parts."""
    store = Store(results, "t")
    store.open()
    mixed = [run_id for who in range(MACHINES) for run_id in kept(who)]
    for half in (mixed[::2], mixed[1::2]):
        append(store, half, 0.0)
    return store


def test_no_row_is_lost_doubled_or_set_back(results: Path) -> None:
    store = table(results)
    machines = [start(f"work(Path({str(results)!r}), {who}, {ROUNDS})") for who in range(MACHINES)]
    for machine in machines:
        wait_ready(machine)
    seen: dict[str, float] = {}
    reads = 0
    while any(machine.poll() is None for machine in machines):
        rows = store.read(["run_id", "train_loss"]).to_pylist()
        found = {row["run_id"]: row["train_loss"] for row in rows}
        assert len(found) == len(rows)
        assert all(found.get(run_id, -1) >= value for run_id, value in seen.items()), "no row goes, none gets older"
        seen = found
        reads += 1
    assert [end(machine) for machine in machines] == [0] * MACHINES
    assert reads > 2
    wanted = {f"new{who}-{i}{x}": 1.0 for who in range(MACHINES) for i in range(1, ROUNDS + 1) for x in ("", "x")}
    wanted |= {run_id: float(ROUNDS) for who in range(MACHINES) for run_id in kept(who)}
    rows, points, outputs = contents(store)
    assert rows == dict(sorted(wanted.items()))
    assert points == {(run_id, step): value for run_id, value in rows.items() for step in range(3)}
    assert set(outputs) == ({run_id for who in range(MACHINES) for run_id in kept(who)} if ROUNDS % 2 == 0 else set())
    assert faults(store.folder) == []
    assert not [f for f in files(store) if f.rpartition("/")[2].startswith("_")]
