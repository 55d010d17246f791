"""When runs are looked at, logged and ended."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dd.measure.outcome import outcome
from dd.measure.solution import CurvePoint
from dd.optim.adam import Adam
from dd.problems.problem import load
from dd.runs import logs
from dd.runs.logs import log_of
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.trainers.batches import Orders
from dd.trainers.course import CHECK_STEPS, Stepper, check_steps, train, train_families
from dd.trainers.stack import Stack
from dd.trainers.table import TRAINERS
from tests.helpers import network_of, row_of, run_of, solve_rows
from tests.models import networks
from tests.training import numbers, same_bits, solution, solutions, task_of

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


# --- samples held out

HELD = (*NET, "data.label_noise=0.2", "data.n_validation=15", "dtype=float64", "lr=0.5", "steps=300")
FOLLOWS = {
    "stack": HELD,
    "analytic": (*HELD, "optimizer=momentum", "lr=0.3"),
    "engine": (*HELD, "optimizer=adam", "lr=0.02"),
    "span": (*HELD, "data.n_train=10", "batch_size=10"),
    "function_space": (*HELD, "model=random_features", "width=90", "solver=dual"),
    "single": (*HELD, "model=module", f"model.path={networks.__file__}:mlp", "width=3", "optimizer=adam", "lr=0.02"),
}


def best_of_a_plain_loop(run: Run) -> tuple[int, Tensor, list[tuple[float, float]]]:
    """What anybody would write: the state with the lowest loss on samples held out, of those at logged steps.

    Returns:
        Its step and weights, and test and held-out loss at every logged step.
    """
    problem, network = load(run, Settings()), network_of(run)
    assert problem.validation_x is not None
    assert problem.validation_y is not None
    theta = network.theta.clone().requires_grad_(True)
    adam, momentum = isinstance(run.optimizer, Adam), getattr(run.optimizer, "momentum", 0.0)
    assert run.lr is not None
    rule = torch.optim.Adam([theta], run.lr) if adam else torch.optim.SGD([theta], run.lr, momentum)
    inputs = {x: network.inputs_of(x) for x in (problem.train_x, problem.test_x, problem.validation_x)}

    def loss(x: Tensor, y: Tensor, rows: Tensor | slice = slice(None)) -> Tensor:
        outputs = network.outputs(network.named(theta), inputs[x][:, rows], network.buffers, training=True)
        return torch.nn.functional.mse_loss(outputs[0], y[rows])

    orders, losses, best = Orders(run), [], (float("inf"), -1, theta.detach().clone())
    assert run.steps is not None
    assert run.batches_per_epoch is not None
    for step in range(run.steps + 1):
        if step in log_of(run).steps:
            with torch.no_grad():
                held = float(loss(problem.validation_x, problem.validation_y))
                losses.append((float(loss(problem.test_x, problem.test_y)), held))
            best = min(best, (held, step, theta.detach().clone()), key=lambda found: found[0])
        epoch, place = divmod(step, run.batches_per_epoch)
        batch = torch.from_numpy(orders.epoch(epoch)).split(run.batch_size)[place]
        rule.zero_grad()
        loss(problem.train_x, problem.train_y, batch).backward()
        rule.step()
    return best[1], best[2][0], losses


@pytest.mark.parametrize("name", FOLLOWS)
def test_a_run_ends_at_its_best_step_by_samples_held_out_as_in_a_plain_loop(name: str) -> None:
    run = run_of(*FOLLOWS[name])
    found, (step, theta, losses) = solution(run, name), best_of_a_plain_loop(run)
    assert len(losses) == len(found.curve) > 10
    assert (found.trainer, found.status, found.steps_done) == (name, "ok", step)
    assert 0 < step < 300, "neither at the start nor at the end"
    torch.testing.assert_close(found.theta, theta, rtol=1e-9, atol=1e-11)
    told = np.array([(point.test_loss, point.validation_loss) for point in found.curve])
    np.testing.assert_allclose(told, losses, rtol=1e-9)


def test_measuring_without_a_curve_ends_a_run_at_the_same_step() -> None:
    run = run_of(*HELD)
    whole, short = (train(Stack([task_of(run)]), curve=curve)[0] for curve in (True, False))
    assert same_bits(whole, short)
    rows = [solve_rows(run, settings=Settings(device="cpu", measure_name=name))[0] for name in ("none", "basic")]
    assert not {"best_step", "best_test_loss"} & set(rows[0])
    assert all(rows[0][key] == rows[1][key] for key in ("steps_done", "test_loss", "validation_loss"))
    assert rows[0]["validation_loss"] == pytest.approx(min(p.validation_loss or 9 for p in whole.curve), rel=1e-9)


def test_shorter_budgets_of_a_run_with_samples_held_out() -> None:
    runs = [run_of(*HELD).replace(steps=steps) for steps in (300, 133, 47, 2, 0)]
    (found,) = train_families(Stack([task_of(runs[0])]), [runs[1:]])
    for run, on_the_way in zip(runs, found, strict=True):
        alone = solution(run, "stack")
        assert same_bits(on_the_way, alone), run.steps
        assert on_the_way.steps_done == alone.steps_done


def test_a_run_that_diverges_keeps_its_best_state_by_samples_held_out() -> None:
    run = run_of(*HELD[:-1], "steps=3000", "lr=20")
    found = solution(run, "stack")
    held = {point.step: point.validation_loss for point in found.curve}
    assert found.status == "diverged"
    assert held[found.steps_done or 0] == min(value for value in held.values() if value is not None)


def test_the_numbers_of_a_run_with_samples_held_out_do_not_depend_on_its_pack() -> None:
    line = ("dtype=float32", "optimizer=adam", "lr=0.02")
    runs = [run_of(*HELD, *line, f"width={width}", f"seed={seed}") for width in (5, 7) for seed in (0, 1)]
    together = solutions([*runs, run_of(*HELD, *line, "stop_loss=0.05")])
    assert all(same_bits(together[run.run_id], solution(run)) for run in runs)


def test_a_trainer_that_gives_no_losses_of_samples_held_out_is_refused() -> None:
    class Blind(Stack):
        def evaluate(self, samples: int | None = None) -> list[CurvePoint]:
            return [replace(point, validation_loss=None) for point in super().evaluate(samples)]

    with pytest.raises(TypeError, match="no losses of samples held out"):
        train(Blind([task_of(run_of(*HELD))]))
