"""First layers that step in the span of the training inputs: the same weights as by any other way."""

from __future__ import annotations

import copy

import pytest
import torch

import dd
from dd.trainers.engine import Engine
from dd.trainers.span import EPOCHS, Span, pays
from dd.trainers.table import trainer_for
from tests.helpers import run_of
from tests.training import assert_close, same_bits, solution, solutions, task_of, tasks_of

pytestmark = pytest.mark.rounding

FEW = ("model=two_layer", "data.n_train=30", "data.n_test=20", "lr_unit=absolute", "lr=0.05", "batch_size=13")
LONG = (*FEW, f"epochs={2 * EPOCHS + 5}")
CPU = torch.device("cpu")


@pytest.mark.parametrize("optimizer", ["sgd", "sgd batch_size=full", "momentum", "nesterov"])
@pytest.mark.parametrize(
    "extra", [(), ("model.activation=tanh", "loss=cross_entropy"), ("model.bias=false",), ("schedule=cosine",)]
)
def test_its_steps_are_those_of_the_reference(optimizer: str, extra: tuple[str, ...]) -> None:
    """Over two times at which coefficients are added to the weights; curves, too."""
    run = run_of(*LONG, *extra, *f"optimizer={optimizer}".split(), "width=17", "dtype=float64")
    found = solution(run, "span")
    assert found.trainer == "span"
    assert_close(found, solution(run, "stack"))


def test_rounding_is_no_worse_than_of_ordinary_steps() -> None:
    """Float32 against float64 until the loss has fallen by orders; tanh, whose course has no kinks to amplify it."""
    line = (*FEW, "model.activation=tanh", "optimizer=momentum", "width=60", "epochs=400")
    single, double = (run_of(*line, f"dtype={d}") for d in ("float32", "float64"))
    exact = solution(double, "engine")
    span, ordinary = (solution(single, name) for name in ("span", "engine"))
    assert exact.curve[-1].train_loss < 1e-4 * exact.curve[0].train_loss
    far = [float((s.theta.double() - exact.theta).norm() / exact.theta.norm()) for s in (span, ordinary)]
    assert far[0] < max(3 * far[1], 1e-6)


def test_neighbours_and_stretches_change_no_bit() -> None:
    runs = [run_of(*FEW, "epochs=40", f"optimizer={o}", f"width={w}") for o in ("sgd", "momentum") for w in (1, 9, 64)]
    together = Span(tasks_of(runs))
    for first, last in ((0, 1), (1, 50), (50, 120)):
        together.advance(first, last)
    for position, run in enumerate(runs):
        alone = Span(tasks_of([run]))
        alone.advance(0, 120)
        a, b = together.state(position, 120, saved=False), alone.state(0, 120, saved=False)
        assert torch.equal(a.theta, b.theta), run.width
        assert alone.evaluate() == together.evaluate()[position : position + 1]


def test_runs_leave_without_disturbing_others() -> None:
    base = (*FEW, "optimizer=sgd", "epochs=40")
    good = [run_of(*base, f"width={w}") for w in (20, 30)]
    bad = run_of(*base, "width=25", "lr=1000")
    together = solutions([good[0], bad, good[1]])
    assert {s.trainer for s in together.values()} == {"span"}
    assert together[bad.run_id].status == "diverged"
    assert torch.isfinite(together[bad.run_id].theta).all()
    for run in good:
        assert same_bits(together[run.run_id], solution(run))


def test_only_what_it_is_exact_and_cheaper_for() -> None:
    line = (*FEW, "width=50", "epochs=100")

    def objection(*overrides: str) -> str:
        run = run_of(*line, *overrides)
        assert trainer_for(run, CPU) is not Span
        return Span.objection(run, CPU) or ""

    assert trainer_for(run_of(*line, "optimizer=momentum"), CPU) is Span
    assert "optimizer=adam is not known to stay in the span" in objection("optimizer=adam")
    assert "weight decay" in objection("optimizer=momentum", "optimizer.weight_decay=0.01")
    assert "normalization=batch_norm" in objection("optimizer=sgd", "normalization=batch_norm")
    assert "trains no first layer" in objection("optimizer=sgd", "model=random_features", "solver=iterative")
    assert "solver=dual" in objection("optimizer=sgd", "model=random_features", "solver=dual")
    assert "cheaper" in objection("optimizer=sgd", "data.n_train=500"), "more samples than pixels"
    assert "cheaper" in objection("optimizer=sgd", "epochs=1"), "the Gram matrix would not pay"


def test_whether_it_pays_follows_from_the_runs_own_axes() -> None:
    runs = [run_of(*FEW, "optimizer=sgd", f"width={w}", f"epochs={e}") for w in (1, 50) for e in (1, 3, 10)]
    assert [pays(run) for run in runs] == [False, False, True, False, True, True]
    assert not pays(run_of("optimizer=min_norm"))


def test_a_state_is_a_copy() -> None:
    span = Span([task_of(run_of(*FEW, "epochs=40", "optimizer=momentum", "width=12"))])
    span.advance(0, 10)
    span.save()
    before = copy.deepcopy(span.state(0, 10, saved=False))
    span.advance(10, 120)
    assert torch.equal(span.state(0, 10, saved=True).theta, before.theta)
    assert not torch.equal(span.state(0, 120, saved=False).theta, before.theta)


def test_inputs_whose_products_overflow_go_the_ordinary_way() -> None:
    x, y = torch.randn(20, 200, generator=torch.Generator().manual_seed(0)), torch.zeros(20, 1)
    line = ("model=two_layer", "width=8", "optimizer=sgd", "epochs=100", "batch_size=5", "lr=1e-42", "lr_unit=absolute")
    assert dd.train(1e19 * x, y, *line)[0].status == "ok"
    task = task_of(run_of(*FEW, "epochs=40", "optimizer=sgd", "width=12"))
    assert type(Span.begun([task])) is Span
    task.network.train.inputs.mul_(1e19)
    assert type(Span.begun([task])) is Engine
