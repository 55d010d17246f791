"""What a sweep is, in a few lines: dd.packs.overview."""

from __future__ import annotations

from dd.packs.overview import swept
from dd.packs.plan import describe, plan
from tests.helpers import runs_of


def test_axes_that_vary_are_named_by_their_keys_with_their_values() -> None:
    found = swept(runs_of("width=20,10", "data.label_noise=0,0.1", "optimizer=sgd,adam", "optimizer.weight_decay=0,1"))
    assert found == {
        "optimizer": ["adam", "sgd"],
        "width": [10, 20],
        "data.label_noise": [0.0, 0.1],
        "optimizer.weight_decay": [0.0, 1.0],
    }, "the step size goes with the optimizer"


def test_what_another_key_decides_is_left_out() -> None:
    assert list(swept(runs_of("seed=1,2", "data.seed=${seed}"))) == ["seed"]
    assert list(swept(runs_of("data.n_train=60,80", "batch_size=full", "optimizer=gd", "steps=5"))) == ["data.n_train"]
    assert list(swept(runs_of("width=10,400", "optimizer=sgd,gd", "batch_size=full"))) == ["optimizer", "width"]
    assert swept(runs_of("width=5")) == {}


def test_a_solver_that_is_asked_for_is_an_axis() -> None:
    assert list(swept(runs_of("width=10,20", "optimizer=gd", "steps=9", "solver=exact,iterative"))) == [
        "width",
        "solver",
    ]


def test_a_plan_says_time_and_axes_before_its_packs() -> None:
    lines = describe(plan(runs_of("width=range(10,100,10)", "optimizer=min_norm", "seed=0,1"))).splitlines()
    assert lines[0] == "18 runs in 1 pack, about 1 s on one core"
    assert lines[1:4] == ["  width  9 values from 10 to 90", "  seed   0, 1", ""]
    assert lines[4].split() == ["seconds", "runs", "widths", "MB", "pack", "trainer"]
    assert lines[5].split()[-1] == "closed_form"
    assert describe([]) == "0 runs in 0 packs, about 0 s on one core"
