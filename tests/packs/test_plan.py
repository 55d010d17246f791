"""Planning: deterministic, complete, grouped by features.

Covers: dd/packs/place.py.
"""

from __future__ import annotations

import itertools
import pickle
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from dd.errors import ConfigError
from dd.measure.conditioning import Measure
from dd.optim.adam import Adam
from dd.optim.momentum import Momentum
from dd.optim.sgd import SGD
from dd.packs.place import ON_CPU, ON_GPU, Limits, Place
from dd.packs.plan import UNWEIGHED, Demand, Need, Pack, describe, families, plan, weighed
from dd.runs.run import Run, core_axes
from tests.helpers import run_of

HERE = Place()
GPU = Place(ON_GPU, device=torch.device("cuda"))


def limited(runs: int, seconds: float, bytes: int) -> Place:
    return Place(Limits(runs, seconds, bytes))


def bytes_of(runs: Sequence[Run], place: Place = HERE) -> int:
    return Pack(tuple(runs), place).bytes


def seconds_of(run: Run, place: Place = HERE) -> float:
    return Pack((run,), place).seconds


BASE = run_of()
RUNS = [
    BASE.replace(width=w, seed=s, optimizer=o) for w in (10, 200, 900) for s in range(3) for o in (SGD(), Momentum())
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
            assert holder[run] == holder[run.replace(optimizer=SGD())], "one decomposition serves both"


def test_runs_with_the_same_features_are_neighbours() -> None:
    for pack in plan(RUNS):
        keys = [run.design_key for run in pack.runs]
        changes = sum(a != b for a, b in itertools.pairwise(keys))
        assert changes == len(set(keys)) - 1


def test_most_work_comes_first_and_small_runs_share_files() -> None:
    packs = plan(RUNS)
    seconds = [pack.seconds for pack in packs]
    assert seconds == sorted(seconds, reverse=True)
    tiny = plan([run_of("width=5", "optimizer=min_norm").replace(seed=s) for s in range(200)])
    assert len(tiny) <= 200 * seconds_of(tiny[0].runs[0]) / ON_CPU.seconds + 1
    assert max(len(pack.runs) for pack in plan(RUNS, limited(4, 1e9, 1 << 40))) == 4


def test_small_data_share_a_pack_whole_and_large_ones_do_not() -> None:
    base = run_of("model=linear", "data=linear_teacher", "optimizer=min_norm", "width=10", "data.n_train=20")
    many = [base.replace(data_seed=d, width=w) for d in range(100) for w in (5, 10)]
    packs = plan(many)
    seconds = sum(seconds_of(run) for run in many)
    assert len(packs) <= seconds / ON_CPU.seconds + 1
    assert {run for pack in packs for run in pack.runs} == set(many)
    for place in (limited(7, 1e9, 1 << 40), limited(1000, 1e9, 3 * bytes_of(many[:2]))):
        packs = plan(many, place)
        assert 1 < len(packs) < 100
        assert all(len(pack.runs) % 2 == 0 for pack in packs), "no data set is torn apart"
        assert all(pack.bytes <= place.limits.bytes for pack in packs)
    large = [BASE.replace(data_seed=d, width=w) for d in range(3) for w in (500, 1000, 2000)]
    assert all(len({run.data_seed for run in pack.runs}) == 1 for pack in plan(large))


def test_a_pack_that_would_not_fit_is_split() -> None:
    whole = plan(RUNS, limited(10_000, 1e9, 1 << 40))
    assert len(whole) == 1
    limit = 2 * whole[0].bytes // 3
    split = plan(RUNS, limited(10_000, 1e9, limit))
    assert len(split) > 1
    assert all(pack.bytes <= limit for pack in split)
    assert {run for pack in split for run in pack.runs} == set(RUNS)
    alone = plan(RUNS, limited(10_000, 1e9, 1))
    assert [len(pack.runs) for pack in alone] == [1] * len(RUNS), "a run that needs more is a pack by itself"


def test_every_kind_of_run_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what it needs, by whatever reads a plan: trainers take most of the time that planning takes."""
    asked: list[Run] = []

    def of(run: Run, place: Place) -> Need:
        asked.append(run)
        return found(run, place)

    found = Need.of
    monkeypatch.setattr(Need, "of", of)
    data = [run.replace(data_seed=seed, seed=seed, lr=0.1 + seed) for run in RUNS for seed in range(3)]
    for place in (HERE, limited(5, 1e9, 1 << 40), limited(10_000, 1e9, 1 << 26), GPU):
        asked.clear()
        packs = plan(data, place)
        describe(packs)
        assert sum(pack.seconds for pack in packs) > 0
        assert len(asked) == len({run.but(*UNWEIGHED) for run in RUNS}) < len(data) / 2


def test_runs_added_up_need_what_their_pack_needs() -> None:
    """Whatever is shared, and in whichever order they come."""
    runs = [*RUNS, *(run_of("model=two_layer", f"width={w}", "normalization=batch_norm") for w in (3, 9))]
    runs += [deep(f"epochs={e}") for e in (3, 1, 2)]
    for order in (runs, runs[::-1]):
        needs = weighed(order, HERE)
        for k in range(1, len(needs)):
            first, rest = Demand(needs[:k]), Demand(needs[k:])
            assert first.bytes_with(rest) == rest.bytes_with(first) == Demand(needs).bytes
    together, reversed_ = Pack(tuple(runs)), Pack(tuple(runs[::-1]))
    assert together.bytes == reversed_.bytes
    assert together.seconds == pytest.approx(reversed_.seconds)
    for pack in plan(runs):
        again = Pack(pack.runs, pack.place)
        assert (pack.bytes, pack.trainers) == (again.bytes, again.trainers)
        assert pack.seconds == pytest.approx(again.seconds)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("optimizer=adam", "solver=iterative"),
        ("optimizer=gd", "batch_size=full"),
        ("optimizer=ridge",),
        ("optimizer=muon",),
        ("model=two_layer", "data=fashion_mnist"),
        ("model=two_layer", "normalization=batch_norm"),
        ("model=rmt", "width=2"),
    ],
)
def test_estimates_do_not_depend_on_seeds_and_step_sizes(overrides: tuple[str, ...]) -> None:
    run = run_of(*overrides)
    other = run.replace(seed=5, data_seed=6, test_seed=7, data_content="0a", lr=None if run.lr is None else 3 * run.lr)
    assert Need.of(run, HERE) == Need.of(other, HERE)
    assert {name for name in core_axes() if getattr(run, name) != getattr(other, name)} <= set(UNWEIGHED)


def test_a_sharpness_is_counted_once_a_start() -> None:
    place = Place(measure=Measure())
    absolute = [run_of("model=two_layer", "width=100", "epochs=1", "lr_unit=absolute", "lr=0.1")]
    sharp = [run.replace(lr_unit="sharpness") for run in absolute]
    more = seconds_of(sharp[0], place) - seconds_of(absolute[0], place)
    assert more > 0.01
    several = [sharp[0].replace(lr=0.1 + k) for k in range(8)]
    alone = Pack((sharp[0],), place).seconds
    assert Pack(tuple(several), place).seconds < 8 * alone - 6.9 * more
    assert seconds_of(BASE.replace(lr_unit="sharpness"), place) == seconds_of(BASE.replace(lr_unit="absolute"), place)


def test_rules_without_a_diagonal_are_not_charged_for_its_spectrum() -> None:
    place = Place(measure=Measure())
    adam, muon = (run_of(f"optimizer={name}", "width=1000", "steps=1") for name in ("adam", "muon"))
    assert seconds_of(adam, place) > 2 * seconds_of(muon, place)


def test_a_worker_is_sent_no_estimates() -> None:
    (pack,) = plan(RUNS[:3])
    sent = pickle.loads(pickle.dumps(pack))
    assert sent == pack
    assert set(vars(sent)) == {"runs", "place"}


def test_shared_features_are_counted_once() -> None:
    one = BASE.replace(width=2000)
    twenty = [one.replace(lr=0.1 + k / 100) for k in range(20)]
    assert bytes_of(twenty) < 3 * bytes_of([one])


@pytest.mark.parametrize("optimizer", ["min_norm", "gd"])
def test_factors_of_every_design_wait_for_their_runs(optimizer: str) -> None:
    """All designs of a pack are decomposed before the first run is solved."""
    runs = [run_of(f"optimizer={optimizer}", f"width={w}") for w in (1500, 1600, 1700, 1800)]
    factors = sum(8 * 500 * (500 + run.width) for run in runs)
    narrow = [run_of(f"optimizer={optimizer}", f"width={w}") for w in (1, 2, 3)]
    assert bytes_of(runs) > bytes_of([*narrow, runs[-1]]) + 0.7 * factors
    budgets = [runs[0].replace(init_scale=1.0 + k) for k in range(50)]
    assert bytes_of(budgets) < 2 * bytes_of(budgets[:1]), "one design, one decomposition"


def test_estimates_grow_with_what_costs() -> None:
    base, place = BASE.replace(width=500), Place(measure=Measure())
    for dearer in (
        base.replace(width=1000),
        base.replace(steps=50_000),
        base.replace(optimizer=Adam()),
        base.replace(n_train=1500),
    ):
        assert seconds_of(dearer, place) > seconds_of(base, place)


def test_runs_of_one_architecture_are_spread_over_packs() -> None:
    nets = [run_of("model=two_layer", "width=1000").replace(lr=0.1 + k / 100) for k in range(32)]
    longest = max(seconds_of(run) for run in nets)
    assert len(plan(nets)) > 4
    assert all(pack.seconds <= ON_CPU.seconds + longest for pack in plan(nets))
    features = [BASE.replace(width=1900, lr=0.1 + k / 100) for k in range(64)]
    assert all(pack.seconds <= 4 * ON_CPU.seconds + seconds_of(features[0]) for pack in plan(features))


def test_measurements_are_part_of_the_plan() -> None:
    line = ("model=two_layer", "epochs=1", "data.n_train=50", "lr=0.1", "lr_unit=absolute")
    nets = [run_of(*line, f"width={w}") for w in (2, 48, 300)]
    places = [Place(measure=m) for m in (None, Measure(), Measure("full", 10**9))]
    alone, basic, full = ([seconds_of(run, place) for run in nets] for place in places)
    assert basic[0] > 1.2 * alone[0], "Jacobians of small nets are measured anyway"
    assert all(a < b < 2 * a for a, b in zip(alone[1:], basic[1:], strict=True)), "one pass over all samples"
    assert all(f > 10 * b for f, b in zip(full[1:], basic[1:], strict=True))
    assert bytes_of(nets[:1], places[1]) > bytes_of(nets[:1])
    many = [nets[1].replace(lr=0.1 + k / 100) for k in range(20)]
    assert len(plan(many, places[2])) > len(plan(many)) == 1


def deep(*overrides: str) -> Run:
    return run_of("model=rmt", "width=2", "data.n_train=16", "data.n_test=10", "batch_size=8", *overrides)


def test_budgets_of_a_deep_network_are_one_family() -> None:
    budgets = [deep(f"epochs={e}") for e in (1, 4, 2)]
    other = deep("epochs=3", "seed=1")
    assert families([*budgets[:2], other, budgets[2]]) == [[budgets[1], budgets[2], budgets[0]], [other]]
    shallow = [run_of(f"epochs={e}") for e in (1, 4)]
    assert families(shallow) == [[run] for run in shallow]


def test_a_family_is_trained_once_and_stays_together() -> None:
    budgets = [deep(f"epochs={e}") for e in (10, 20, 30)]
    together, alone = Pack(tuple(budgets)).seconds, [Pack((run,)).seconds for run in budgets]
    assert max(alone) < together < sum(alone)
    packs = plan([run.replace(seed=s) for run in budgets for s in range(4)], limited(256, 1e-9, 1 << 40))
    assert [len(pack.runs) for pack in packs] == [3] * 4
    assert all(len(families(pack.runs)) == 1 for pack in packs)


def test_a_plan_names_what_trains() -> None:
    packs = plan([run_of("width=20"), run_of("width=20", "optimizer=min_norm")])
    assert [set(pack.trainers) for pack in packs] == [{"engine", "closed_form"}]
    first, *_, last = describe(packs).splitlines()
    assert first == "2 runs in 1 pack, about 1 s on one core"
    assert f"  {packs[0].pack_id}  " in last
    assert last.endswith(", ".join(packs[0].trainers))
    forced = replace(HERE, trainer="stack")
    (pack,) = plan([run_of("width=20")], forced)
    assert pack.trainers == ["stack"]
    assert pack.seconds > plan([run_of("width=20")])[0].seconds
    with pytest.raises(ConfigError, match=r"^trainer=stack: cannot train this run: .* takes no steps"):
        plan([run_of("optimizer=min_norm")], forced)


def test_what_a_gpu_plans() -> None:
    runs = [run_of("model=two_layer", "width=20").replace(lr=0.1 + k / 100) for k in range(300)]
    (pack,) = plan(runs, GPU)
    assert not {"engine", "span", "compiled"} & set(pack.trainers)
