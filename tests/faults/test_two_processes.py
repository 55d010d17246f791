"""Two processes that append, force and compact one table at once, killed at random moments, beside readers."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from analysis.tables import load_curves, load_runs
from dd.results import Store, compaction
from dd.results.repair import faults
from dd.results.schema import runs_schema
from tests.faults.scenarios import append
from tests.faults.surroundings import end, wait_ready
from tests.results.tables import losses, points

LONG = os.environ.get("DD_FAULTS") == "long"
ROUNDS = 60 if LONG else 5
KILLS = 50
PARTS = 128 if LONG else 16

SHARED = [f"s{i}" for i in range(12)]


def work(results: Path, who: str, rounds: int) -> None:
    """Append own runs, force shared ones over changing packs, compact now and then."""
    runs_schema()
    print("ready", flush=True)
    rng = random.Random(who)
    store = Store(results, "t")
    store.open()
    for i in range(rounds):
        append(store, [f"{who}{i}", f"{who}{i}x"], 1.0)
        append(store, rng.sample(SHARED, 5), 2.0)
        if i % 3 == 2:
            compaction.compact(store.folder)
        if i % 4 == 3:
            store.open()


def merge_parts(results: Path) -> None:
    """Merge the parts of a table two by two, then two by two again, to the last."""
    runs_schema()
    print("ready", flush=True)
    most = 2
    while len(Store(results, "t").parts()) > 1:
        most *= 2
        compaction.compact(results / "t", below=most, most=most)


def start(results: Path, who: str, rounds: int) -> subprocess.Popen[str]:
    return call(f"work(Path({str(results)!r}), {who!r}, {rounds})")


def call(what: str) -> subprocess.Popen[str]:
    code = f"from tests.faults.test_two_processes import *; {what}"
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True)


def test_two_writers_and_readers(results: Path) -> None:
    store = Store(results, "t")
    store.open()
    append(store, SHARED, 1.0)
    writers = [start(results, who, ROUNDS) for who in ("a", "b")]
    for writer in writers:
        wait_ready(writer)
    seen: set[str] = set()
    reads = 0
    while any(writer.poll() is None for writer in writers):
        ids = store.read(["run_id"])["run_id"].to_pylist()
        assert len(ids) == len(set(ids))
        assert seen <= set(ids), "no run that was there goes"
        seen = set(ids)
        rows = load_runs(results, "t")
        assert not rows["run_id"].duplicated().any()
        assert seen <= set(rows["run_id"])
        assert not load_curves(results, "t").duplicated(["run_id", "step"]).any()
        assert len(store.rows(SHARED, ["run_id"])) == len(SHARED) == len(store.stamps(SHARED))
        reads += 1
    assert [end(writer) for writer in writers] == [0, 0]
    assert reads > 2
    names = {f"{who}{i}{x}" for who in "ab" for i in range(ROUNDS) for x in ("", "x")}
    found = losses(store)
    assert set(found) == names | set(SHARED)
    assert {found[i] for i in names} == {1.0}
    assert points(store) == {(i, s): v for i, v in found.items() for s in range(3)}
    assert faults(store.folder) == []


def test_a_reader_during_compaction_sees_each_run_once(results: Path) -> None:
    store = Store(results, "t")
    store.open()
    wanted = {f"{i}{x}" for i in range(PARTS) for x in "ab"}
    for i in range(PARTS):
        append(store, [f"{i}a", f"{i}b"], 1.0, outputs=True)
    merges = call(f"merge_parts(Path({str(results)!r}))")
    wait_ready(merges)
    reads, counts = 0, set()
    while merges.poll() is None:
        counts.add(len(store.parts()))
        ids = store.read(["run_id"])["run_id"].to_pylist()
        assert len(ids) == len(wanted)
        assert set(ids) == wanted == store.finished("basic", predictions=True)
        rows, steps = load_runs(results, "t"), load_curves(results, "t")
        assert sorted(rows["run_id"]) == sorted(wanted)
        assert len(steps) == 3 * len(wanted)
        assert not steps.duplicated(["run_id", "step"]).any()
        reads += 1
    assert end(merges) == 0
    assert reads > 2
    assert len(counts) > 2, "it was read between the merges"
    assert len(store.parts()) == 1
    assert faults(store.folder) == []


@pytest.mark.skipif(not LONG, reason="half a minute; DD_FAULTS=long")
def test_random_kills_of_one_of_two_writers(results: Path) -> None:
    """What a killed writer leaves, the other completes; whatever had a row keeps one."""
    rng = random.Random(0)
    store = Store(results, "t")
    store.open()
    append(store, SHARED, 1.0)
    survivor = start(results, "z", 10_000)
    wait_ready(survivor)
    seen: set[str] = set(SHARED)
    for kill in range(KILLS):
        victim = start(results, f"k{kill}_", 10_000)
        wait_ready(victim)
        time.sleep(rng.uniform(0.0, 0.4))
        victim.kill()
        end(victim)
        ids = store.read(["run_id"])["run_id"].to_pylist()
        assert len(ids) == len(set(ids))
        assert seen <= set(ids)
        seen = set(ids)
    survivor.kill()
    end(survivor)
    store.open()
    found = losses(store)
    assert seen <= set(found)
    assert points(store) == {(i, s): v for i, v in found.items() for s in range(3)}
    assert faults(store.folder) == []
    assert len(pd.read_parquet(store.runs)) == len(found)
