"""Steps in function space against steps in weight space."""

from __future__ import annotations

import pytest
import torch

from dd.trainers.function_space import FunctionSpace, pays
from tests.helpers import row_of, run_of, solve_rows
from tests.training import solutions

pytestmark = pytest.mark.rounding

BASE = ("data.n_train=60", "data.n_test=40", "batch_size=13", "epochs=30", "model.activation=tanh", "dtype=float64")
COLUMNS = ("train_loss", "test_loss", "train_error", "test_error", "weight_norm", "gradient_norm")


@pytest.mark.parametrize("bias", ["true", "false"])
@pytest.mark.parametrize("decay", [0.0, 1e-2])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov"])
def test_function_space_and_weight_space_agree(optimizer: str, decay: float, bias: str) -> None:
    for width in (30, 60, 61, 200):
        overrides = (*BASE, f"width={width}", f"optimizer={optimizer}", f"optimizer.weight_decay={decay}")
        dual, plain = (row_of(*overrides, f"model.bias={bias}", f"solver={s}") for s in ("dual", "iterative"))
        assert (dual["solver"], plain["solver"]) == ("dual", "iterative")
        assert dual["steps_done"] == plain["steps_done"] == 150
        for column in COLUMNS:
            assert dual[column] == pytest.approx(plain[column], rel=1e-9), (width, column)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov"])
def test_runs_leave_as_in_weight_space(optimizer: str) -> None:
    """Two starts, one that diverges and one that stops: the others do not notice."""
    runs = [
        run_of(*BASE, "width=100", f"optimizer={optimizer}", "solver=dual", "lr_unit=absolute", f"lr={lr}",
               f"init.scale={scale}", "stop_loss=0.08", "optimizer.weight_decay=1e-4")
        for lr in (0.005, 0.07, 40.0) for scale in (0.5, 2.0)
    ]  # fmt: skip
    assert len({FunctionSpace.group_key(run, torch.device("cpu")) for run in runs}) == 1
    together, reference = solutions(runs), solutions(runs, "stack")
    assert {s.status for s in together.values()} == {"ok", "diverged"}
    assert {s.trainer for s in together.values()} == {"function_space"}
    assert len({s.steps_done for s in together.values()}) > 2
    for run in runs:
        found, expected = together[run.run_id], reference[run.run_id]
        assert (found.status, found.steps_done) == (expected.status, expected.steps_done)
        assert float(found.theta.norm()) == pytest.approx(float(expected.theta.norm()), rel=1e-9)


def test_bits_do_not_depend_on_neighbours() -> None:
    runs = [
        run_of(*BASE, f"width={w}", f"optimizer={o}", "solver=dual", f"lr={lr}")
        for w in (61, 140) for o in ("sgd", "nesterov") for lr in (0.1, 0.7)
    ]  # fmt: skip
    together = {row["run_id"]: row for row in solve_rows(*runs)}
    for run in runs:
        alone = solve_rows(run)[0]
        packed = together[run.run_id]
        assert {k: v for k, v in alone.items() if k != "seconds"} == {k: v for k, v in packed.items() if k != "seconds"}


def test_zero_steps_leave_the_start() -> None:
    row = row_of(*BASE[:3], "width=100", "solver=dual", "steps=0")
    plain = row_of(*BASE[:3], "width=100", "solver=iterative", "steps=0", "dtype=float64")
    assert row["weight_norm"] == pytest.approx(plain["weight_norm"], rel=1e-12)
    assert row["test_loss"] == pytest.approx(plain["test_loss"], rel=1e-12)


def test_it_pays_where_features_are_many_and_steps_are_too() -> None:
    assert pays(run_of("optimizer=sgd", "width=2000"))
    assert not pays(run_of("optimizer=sgd", "width=2000", "steps=1")), "Gram matrices would cost more"
    assert not pays(run_of("optimizer=sgd", "width=500")), "as many samples as features"
    line = ("optimizer=sgd", "width=510", "solver=iterative")
    assert not pays(run_of(*line)), "Gram matrices are float64, whose operations count twice"
    assert pays(run_of(*line, "dtype=float64"))
