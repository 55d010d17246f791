"""Planning: deterministic, complete, grouped by features."""

from __future__ import annotations

import itertools
import random

from dd.pack import MAX_RUNS, plan
from tests.helpers import run_of

BASE = run_of()
RUNS = [
    BASE.replace(width=w, seed=s, optimizer=o) for w in (10, 200, 900) for s in range(3) for o in ("sgd", "momentum")
]


def test_every_run_is_in_one_pack() -> None:
    planned = [run for pack in plan(RUNS) for run in pack.runs]
    assert len(planned) == len(RUNS)
    assert set(planned) == set(RUNS)


def test_plan_is_deterministic_and_keeps_groups_whatever_the_order() -> None:
    shuffled = RUNS.copy()
    random.Random(0).shuffle(shuffled)
    assert [p.pack_id for p in plan(RUNS)] == [p.pack_id for p in plan(list(RUNS))]
    for packs in (plan(RUNS), plan(shuffled)):
        holder = {run: i for i, pack in enumerate(packs) for run in pack.runs}
        for run in RUNS:
            assert holder[run] == holder[run.replace(optimizer="sgd")], "one decomposition serves both"


def test_runs_with_the_same_features_are_neighbours() -> None:
    for pack in plan(RUNS):
        keys = [run.feature_key for run in pack.runs]
        changes = sum(a != b for a, b in itertools.pairwise(keys))
        assert changes == len(set(keys)) - 1


def test_most_work_comes_first_and_small_runs_share_files() -> None:
    packs = plan(RUNS)
    seconds = [pack.seconds for pack in packs]
    assert seconds == sorted(seconds, reverse=True)
    tiny = plan([BASE.replace(width=5, seed=s, optimizer="min_norm", steps=None) for s in range(200)])
    assert len(tiny) == -(-200 // MAX_RUNS)
