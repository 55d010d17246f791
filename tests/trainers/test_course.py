"""When runs are looked at, logged and ended."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from dd.measure.outcome import outcome
from dd.runs import logs
from dd.runs.logs import log_of
from dd.trainers.course import CHECK_STEPS, Stepper, check_steps, train, train_families
from dd.trainers.stack import Stack
from dd.trainers.table import TRAINERS
from tests.helpers import row_of, run_of
from tests.training import numbers, same_bits, solution, task_of

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
    assert {point.step for point in whole.curve} == log_of(run).steps
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


PARTS = [
    ("stack", ("model=two_layer", "width=7")),
    ("analytic", ("model=two_layer", "width=7")),
    ("engine", ("model=two_layer", "width=7", "optimizer=adam")),
    ("span", ("model=two_layer", "width=7", "data.n_train=10", "batch_size=10")),
    ("engine", ("width=30", "loss=cross_entropy")),
    ("function_space", ("width=90", "solver=dual")),
]


@pytest.mark.parametrize("steps", [0, 5])
@pytest.mark.parametrize(("name", "line"), PARTS)
def test_the_first_samples_alone_can_be_evaluated(name: str, line: tuple[str, ...], steps: int) -> None:
    run = run_of(*NET[2:], "steps=9", "dtype=float64", *line)
    task = task_of(run)
    trainer = next(t for t in TRAINERS if t.name == name)
    assert issubclass(trainer, Stepper)
    taking = trainer.begun([task])
    if steps:
        taking.advance(0, steps)
    for samples in (1, 7, 8, 1000, None):
        (point,) = taking.evaluate(samples)
        network = task_of(run).network
        theta = network.named(taking.state(0, steps, saved=False).theta[None])
        parts = network.exact_train.first(samples), network.exact_test.first(samples)
        (plain,) = outcome(network, theta, {}, *parts).points()
        assert numbers(point) == pytest.approx(numbers(plain), rel=1e-9), samples


def test_curves_say_on_how_many_samples_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = solution(run_of(*NET, "steps=300"), "engine").curve
    monkeypatch.setattr(logs, "SUBSET", 10)
    monkeypatch.setattr(logs, "SHARE", 0.02)
    few = solution(run_of(*NET, "steps=300"), "engine").curve
    assert {point.curve_samples for point in whole} == {60}
    assert {point.curve_samples for point in few} == {10}
    assert few[-1] != whole[-1]


def test_fewer_logged_steps_leave_the_end_of_a_diverging_run_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses overflow before weights do: they are looked at once weights have grown, logged or not."""
    line = (*NET, "lr=30", "steps=300")
    dense = solution(run_of(*line), "engine")
    monkeypatch.setattr(logs, "SHARE", 0.0)
    sparse = solution(run_of(*line), "engine")
    assert dense.status == sparse.status == "diverged"
    assert dense.steps_done == sparse.steps_done > 0
    assert len(sparse.curve) < len(dense.curve)
    assert torch.equal(dense.theta, sparse.theta)
