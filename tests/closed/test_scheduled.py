"""Exact dynamics under a schedule: single steps multiplied, against iteration in float64."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch

from dd.closed.scheduled import LONGEST, Product
from dd.errors import ConfigError
from dd.runs.run import Run
from dd.trainers.table import trainer_for
from tests.helpers import run_of
from tests.training import assert_close, same_bits, solution, solutions, task_of

pytestmark = pytest.mark.rounding

SMALL = ("data.n_train=40", "data.n_test=20", "optimizer=gd", "dtype=float64", "lr_unit=absolute")
SCHEDULES = {
    "cosine": ("schedule=cosine", "schedule.final=0.1"),
    "linear": ("schedule=linear", "schedule.warmup=7"),
    "inverse_sqrt": ("schedule=inverse_sqrt", "schedule.scale=5"),
    "step": ("schedule=step", "schedule.every=30", "schedule.gamma=0.5"),
    "warmup": ("schedule.warmup=20",),
}


@pytest.mark.parametrize("decay", [0.0, 0.01])
@pytest.mark.parametrize("width", [25, 60])
@pytest.mark.parametrize("name", SCHEDULES)
def test_gradient_descent_is_the_iterated_one(name: str, width: int, decay: float) -> None:
    line = (*SMALL, *SCHEDULES[name], f"width={width}", "steps=200", f"optimizer.weight_decay={decay}")
    exact = run_of(*line, "lr=1")
    assert exact.solver == "exact"
    iterated = run_of(*line, "lr=1", "solver=iterative")
    assert_close(solution(exact), solution(iterated), rel=1e-10, scale=1e-11)


def test_directions_that_turn_over_and_come_back_at_the_end() -> None:
    """Large steps first: |1 - lr f c| is above 1 along the steepest directions until the schedule has fallen."""
    run = run_of(*SMALL, "width=25", "steps=120", "schedule=linear", "solver=exact", "lr=1")
    sharpest = 2 / run_curvature(run)
    run = run.replace(lr=1.3 * sharpest)
    exact, iterated = solution(run), solution(run.replace(solver="iterative"))
    losses = [point.train_loss for point in exact.curve]
    assert max(losses) > 10 * losses[0] > 10 * losses[-1]
    assert_close(exact, iterated, rel=1e-8, scale=1e-9)


def run_curvature(run: Run) -> float:
    """Largest eigenvalue of the training loss's Hessian."""
    samples = task_of(run).network.exact_train
    return float(2 / samples.targets.numel() * torch.linalg.matrix_norm(samples.inputs[0], 2) ** 2)


def test_time_of_gradient_flow_is_the_sum_of_step_sizes() -> None:
    line = (*SMALL, "optimizer=gradient_flow", "width=60", "lr=1")
    falling = run_of(*line, "steps=100", "schedule=linear")  # 1, 0.99, ..., 0.01
    flow = run_of(*line, "steps=1", "lr=50.5")
    torch.testing.assert_close(solution(falling).theta, solution(flow).theta, rtol=1e-11, atol=1e-13)


def test_small_effects_keep_their_digits() -> None:
    run = run_of(*SMALL, "schedule=cosine", "steps=5000")
    h = torch.tensor([0.0, 1e-13, 1e-6, 0.3, 1.0, 1.7], dtype=torch.float64)
    got = Product(run, h).response([5000])
    factors = run.schedule.factors(run, 0, 5000)
    with mpmath.workdps(60):
        for i, one in enumerate(h.tolist()):
            expected = mpmath.fprod(1 - mpmath.mpf(one) * mpmath.mpf(f) for f in factors.tolist())
            assert float(got.filter[0, i]) == pytest.approx(float(1 - expected), rel=1e-11)
            assert float(got.residual[0, i]) == pytest.approx(float(expected), rel=1e-8, abs=1e-300)


def test_bits_do_not_depend_on_neighbours() -> None:
    runs = [run_of(*SMALL, *SCHEDULES[n], "width=25", f"steps={s}") for n in ("cosine", "step") for s in (20, 40, 333)]
    together = solutions(runs)
    assert all(same_bits(together[run.run_id], solution(run)) for run in runs)
    product = Product(runs[2], torch.linspace(0, 1.5, 7, dtype=torch.float64))
    product.response([3, 50, 17])
    late = Product(runs[2], torch.linspace(0, 1.5, 7, dtype=torch.float64)).response([333])
    assert torch.equal(product.response([333]).residual, late.residual)


def test_a_million_steps_are_some_moments() -> None:
    run = run_of(*SMALL, "width=25", "steps=1000000", "schedule=step", "schedule.every=1000", "schedule.gamma=0.999")
    found = solution(run)
    assert (found.status, found.steps_done) == ("ok", 1000000)
    assert np.all(np.diff([point.train_loss for point in found.curve]) <= 0)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("optimizer=momentum", "batch_size=full"),
         "optimizer=momentum has no exact dynamics with schedule=cosine; those that have: gd, gradient_flow, sgd"),
        (("optimizer=gd", "stop_loss=0.1"),
         "with schedule=cosine the first step at stop_loss is known by iteration only"),
        (("optimizer=gd", f"steps={LONGEST + 1}"),
         f"with schedule=cosine steps are multiplied one by one, up to steps={LONGEST}"),
    ],
)  # fmt: skip
def test_what_has_no_closed_form_says_so_and_is_iterated(overrides: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_of("schedule=cosine", *overrides, "solver=exact")
    assert str(caught.value).endswith(f"cannot be: {words}; use solver=auto")
    run = run_of("schedule=cosine", *overrides)
    assert run.solver != "exact"
    assert trainer_for(run, torch.device("cpu")).name != "exact"
