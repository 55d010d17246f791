"""Parts of a sweep: together they are the sweep, apart they share nothing, and all take about as long."""

from __future__ import annotations

import pytest

from dd.api import compose_runs
from dd.packs.place import Place
from dd.packs.plan import plan
from dd.packs.shards import runs_of
from dd.runs.shard import Shard


@pytest.mark.parametrize(
    "overrides",
    [
        ["width=range(10,400,10)", "optimizer=sgd,adam", "seed=range(3)"],
        ["model=two_layer", "width=4,8,16,600", "seed=range(12)", "epochs=50", "data.seed=${seed}"],
    ],
)
@pytest.mark.parametrize("count", [1, 3, 10])
def test_shards_are_the_sweep_in_equal_parts(overrides: list[str], count: int) -> None:
    runs = compose_runs(*overrides, "data.n_train=50")
    parts = [runs_of(Shard(number, count), runs, Place()) for number in range(1, count + 1)]
    ids = [run.run_id for part in parts for run in part]
    assert sorted(ids) == sorted(run.run_id for run in runs)
    assert len(set(ids)) == len(ids)
    work = [sum(pack.seconds for pack in plan(part, Place())) for part in parts]
    assert min(work) > 0
    longest = max(pack.seconds for run in runs for pack in plan([run], Place()))
    assert max(work) <= 1.5 * sum(work) / count + longest


def test_a_shard_does_not_depend_on_the_order_of_the_runs() -> None:
    runs = compose_runs("width=range(10,200,10)", "seed=range(3)", "optimizer=sgd")
    forth, back = (runs_of(Shard(2, 5), some, Place()) for some in (runs, runs[::-1]))
    assert {run.run_id for run in forth} == {run.run_id for run in back}


def test_more_shards_than_runs_leave_some_empty() -> None:
    runs = compose_runs("width=10,20", "seed=0")
    parts = [runs_of(Shard(number, 5), runs, Place()) for number in range(1, 6)]
    assert sorted(len(part) for part in parts) == [0, 0, 0, 1, 1]
