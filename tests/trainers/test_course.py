"""When runs are looked at, logged and ended."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from dd.runs.logs import logged_steps
from dd.trainers.course import CHECK_STEPS, check_steps, train, train_families
from dd.trainers.stack import Stack
from tests.helpers import row_of, run_of
from tests.training import same_bits, solution, task_of

pytestmark = pytest.mark.rounding

NET = ("model=two_layer", "width=7", "data.n_train=60", "data.n_test=40", "batch_size=20", "lr_unit=absolute", "lr=0.1")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", ["50", "full"])
def test_a_diverging_run_keeps_its_last_finite_values(dtype: str, batch_size: str) -> None:
    row = row_of("width=50", "lr=30", f"dtype={dtype}", f"batch_size={batch_size}", "steps=5000")
    assert row["status"] == "diverged"
    assert 0 < row["steps_done"] < 5000
    for key in ("train_loss", "test_loss", "weight_norm", "gradient_norm"):
        assert 1 < row[key] < float("inf"), key


def test_a_run_whose_start_is_out_of_range_diverges_at_once() -> None:
    found = solution(run_of(*NET, "steps=30", "init.scale=1e30"))
    assert (found.status, found.steps_done, found.curve) == ("diverged", 0, [])


def test_stop_loss_ends_a_run() -> None:
    stopped = row_of("width=100", "stop_loss=0.03")
    assert stopped["status"] == "ok"
    assert stopped["train_loss"] <= 0.03 * (1 + 1e-6)
    assert stopped["steps_done"] < 5000
    assert stopped["steps_done"] % 10 == 0, "looked at after every epoch"


def test_zero_steps_measure_the_initial_state() -> None:
    row = row_of("steps=0", "init=zero", "width=20")
    assert row["train_loss"] == pytest.approx(0.1)
    assert row["steps_done"] == 0


@pytest.mark.parametrize("steps", [1, 100, 10_000])
def test_runs_are_looked_at_in_whole_epochs(steps: int) -> None:
    run = run_of(*NET, f"steps={steps}")
    assert all(step % 3 == 0 for step in check_steps(run))
    assert check_steps(run).step == 3 * math.ceil(CHECK_STEPS / 3)
    assert check_steps(run.replace(stop_loss=0.1)).step == 3


def test_without_a_curve_the_last_step_alone_is_logged() -> None:
    run = run_of(*NET, "steps=300")
    short, whole = train(Stack([task_of(run)]), curve=False)[0], solution(run, "stack")
    assert [point.step for point in short.curve] == [300]
    assert {point.step for point in whole.curve} == logged_steps(run)
    assert short.curve[-1] == whole.curve[-1]
    assert torch.equal(short.theta, whole.theta)


@pytest.mark.parametrize("stop_loss", [None, 0.085])
def test_shorter_budgets_are_solved_on_the_way_as_if_alone(stop_loss: float | None) -> None:
    """To the bit, curves too; also those that end between two looks at the longest, and at a loss."""
    runs = [run_of(*NET, f"steps={steps}").replace(stop_loss=stop_loss) for steps in (500, 333, 47, 2, 0)]
    (found,) = train_families(Stack([task_of(runs[0])]), [runs[1:]])
    assert len(found) == len(runs)
    for run, on_the_way in zip(runs, found, strict=True):
        alone = solution(run, "stack")
        assert same_bits(on_the_way, alone), run.steps
        assert on_the_way.steps_done == alone.steps_done
    assert (found[0].steps_done < 500) == (stop_loss is not None)


def test_shorter_budgets_of_a_run_that_diverges() -> None:
    """Those before the end are as alone; those after it have the last finite state that a look at them has seen."""
    long = replace(run_of(*NET, "steps=3000"), lr=1e4)
    shorter = [long.replace(steps=steps) for steps in (2900, 2)]
    (found,) = train_families(Stack([task_of(long)]), [shorter])
    for run, on_the_way in zip((long, *shorter), found, strict=True):
        alone = solution(run, "stack")
        assert (on_the_way.status, on_the_way.steps_done) == (alone.status, alone.steps_done)
        assert same_bits(on_the_way, alone)
