"""Planning: deterministic, complete, grouped by features."""

from __future__ import annotations

import itertools
import random

from dd.measure.conditioning import Measure
from dd.pack import ON_CPU, ON_GPU, Limits, estimated_bytes, estimated_seconds, plan
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
    assert len(tiny) <= 200 * estimated_seconds(tiny[0].runs[0]) / ON_CPU.seconds + 1
    assert max(len(pack.runs) for pack in plan(RUNS * 1, Limits(4, 1e9, 1 << 40))) == 4


def test_small_data_share_a_pack_whole_and_large_ones_do_not() -> None:
    base = run_of("model=linear", "data=linear_teacher", "optimizer=min_norm", "width=10", "data.n_train=20")
    many = [base.replace(data_seed=d, width=w) for d in range(100) for w in (5, 10)]
    packs = plan(many)
    seconds = sum(estimated_seconds(run) for run in many)
    assert len(packs) <= seconds / ON_CPU.seconds + 1
    assert {run for pack in packs for run in pack.runs} == set(many)
    for limits in (Limits(7, 1e9, 1 << 40), Limits(1000, 1e9, 3 * estimated_bytes(many[:2]))):
        packs = plan(many, limits)
        assert 1 < len(packs) < 100
        assert all(len(pack.runs) % 2 == 0 for pack in packs), "no data set is torn apart"
        assert all(pack.bytes <= limits.bytes for pack in packs)
    large = [BASE.replace(data_seed=d, width=w) for d in range(3) for w in (500, 1000, 2000)]
    assert all(len({run.data_seed for run in pack.runs}) == 1 for pack in plan(large))


def test_a_pack_that_would_not_fit_is_split() -> None:
    whole = plan(RUNS, ON_GPU)
    assert len(whole) == 1
    limit = whole[0].bytes // 2
    split = plan(RUNS, Limits(10_000, 1e9, limit))
    assert len(split) > 1
    assert all(pack.bytes <= limit for pack in split)
    assert {run for pack in split for run in pack.runs} == set(RUNS)
    alone = plan(RUNS, Limits(10_000, 1e9, 1))
    assert [len(pack.runs) for pack in alone] == [1] * len(RUNS), "a run that needs more is a pack by itself"


def test_shared_features_are_counted_once() -> None:
    one = BASE.replace(width=2000)
    twenty = [one.replace(lr=0.1 + k / 100) for k in range(20)]
    assert estimated_bytes(twenty) < 3 * estimated_bytes([one])


def test_estimates_grow_with_what_costs() -> None:
    base = BASE.replace(width=500, optimizer="sgd")
    for dearer in (
        base.replace(width=1000),
        base.replace(steps=50_000),
        base.replace(optimizer="adam"),
        base.replace(n_train=1500),
    ):
        assert estimated_seconds(dearer) > estimated_seconds(base)


def test_runs_of_one_architecture_are_spread_over_packs() -> None:
    nets = [BASE.replace(model="two_layer", width=1000, lr=0.1 + k / 100) for k in range(32)]
    nets = [run.replace(options=run_of("model=two_layer").options) for run in nets]
    longest = max(estimated_seconds(run) for run in nets)
    assert len(plan(nets)) > 4
    assert all(pack.seconds <= ON_CPU.seconds + longest for pack in plan(nets))
    features = [BASE.replace(width=1900, lr=0.1 + k / 100) for k in range(64)]
    assert all(pack.seconds <= 4 * ON_CPU.seconds + estimated_seconds(features[0]) for pack in plan(features))


def test_measurements_are_part_of_the_plan() -> None:
    nets = [run_of("model=two_layer", f"width={w}", "epochs=1") for w in (8, 48, 300)]
    alone, basic, full = (
        [estimated_seconds(run, m) for run in nets] for m in (None, Measure(), Measure(full=True, memory=10**9))
    )
    assert basic[0] > 10 * alone[0], "small nets are measured anyway"
    assert basic[1:] == alone[1:]
    assert all(f > 10 * b for f, b in zip(full[1:], basic[1:], strict=True))
    assert estimated_bytes(nets[:1], Measure()) > 5 * estimated_bytes(nets[:1])
    many = [nets[0].replace(lr=0.1 + k / 100) for k in range(20)]
    assert len(plan(many, measure=Measure())) > len(plan(many)) == 1
