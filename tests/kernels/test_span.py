"""First layers that step in the span of the training inputs: the same weights as by any other way."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import dd
from dd.config import RunConfig
from dd.kernels.engine import Engine
from dd.kernels.span import EPOCHS, SpanEngine, steps_in_span
from dd.network import Network
from dd.solvers.batches import batch_orders
from dd.solvers.train import Stack, train, trainer_of
from tests.helpers import network_of, networks_of, run_of, trained

pytestmark = pytest.mark.rounding

FEW = ("model=two_layer", "data.n_train=30", "data.n_test=20", "lr_unit=absolute", "lr=0.05", "batch_size=13")
LONG = (*FEW, f"epochs={2 * EPOCHS + 5}")


def solo(run: RunConfig) -> Network:
    """A run's network in its own precision."""
    return network_of(run, dtype=getattr(torch, run.dtype))


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "gd"])
@pytest.mark.parametrize("extra", [(), ("model.activation=tanh", "loss=cross_entropy"), ("model.bias=false",)])
def test_they_end_where_torch_optim_ends(optimizer: str, extra: tuple[str, ...]) -> None:
    """A plain module, autograd and torch.optim, over two times at which coefficients are added to the weights."""
    batch = ("batch_size=full",) if optimizer == "gd" else ()
    run = run_of(*LONG, *extra, *batch, f"optimizer={optimizer}", "width=17", "dtype=float64")
    network = solo(run)
    solution = train(SpanEngine([network], [0.05]))[0]

    x, y = network.exact_train.inputs[0], network.exact_train.targets
    initial = network.named(network_of(run).theta).named
    bias = "model.bias=false" not in extra
    activation = nn.Tanh() if "model.activation=tanh" in extra else nn.ReLU()
    net = nn.Sequential(nn.Linear(64, 17, bias=bias), activation, nn.Linear(17, 10, bias=bias)).double()
    for layer, name in ((net[0], "hidden"), (net[2], "readout")):
        with torch.no_grad():
            layer.weight.copy_(initial[name][0][:, : layer.in_features])
            if bias:
                layer.bias.copy_(initial[name][0][:, -1])
    momentum = {"momentum": 0.9, "nesterov": optimizer == "nesterov"} if optimizer in ("momentum", "nesterov") else {}
    stepper = torch.optim.SGD(net.parameters(), 0.05, **momentum)  # type: ignore[arg-type]
    orders = batch_orders(run)
    for _ in range(2 * EPOCHS + 5):
        order = torch.arange(30) if optimizer == "gd" else torch.from_numpy(next(orders))
        for index in order.split(30 if optimizer == "gd" else 13):
            stepper.zero_grad()
            predicted = net(x[index][:, :64])
            loss = (
                nn.functional.cross_entropy(predicted, y[index])
                if "loss=cross_entropy" in extra
                else nn.functional.mse_loss(predicted, y[index])
            )
            loss.backward()
            stepper.step()
    got = network.named(solution.theta[None]).named
    for layer, name in ((net[0], "hidden"), (net[2], "readout")):
        torch.testing.assert_close(got[name][0][:, : layer.in_features], layer.weight.detach(), rtol=1e-9, atol=1e-11)
        if bias:
            torch.testing.assert_close(got[name][0][:, -1], layer.bias.detach(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("optimizer", ["momentum", "nesterov"])
def test_curves_are_those_of_the_weights(optimizer: str) -> None:
    run = run_of(*LONG, f"optimizer={optimizer}", "width=40", "dtype=float64")
    curve = trained(solo(run), 0.05).curve
    eager = train(Stack(solo(run), torch.tensor([0.05], dtype=torch.float64)))[0].curve
    assert [p.step for p in curve] == [p.step for p in eager]
    for a, b in zip(curve, eager, strict=True):
        assert (a.train_loss, a.test_loss) == pytest.approx((b.train_loss, b.test_loss), rel=1e-9)


def test_rounding_is_no_worse_than_of_ordinary_steps() -> None:
    """Float32 against float64 until the loss has fallen by orders; tanh, whose course has no kinks to amplify it."""
    line = (*FEW, "model.activation=tanh", "optimizer=momentum", "width=60", "epochs=400")
    single, double = (run_of(*line, f"dtype={d}") for d in ("float32", "float64"))
    exact = train(Engine([solo(double)], [0.05]))[0]
    span, ordinary = (train(kind([solo(single)], [0.05]))[0] for kind in (SpanEngine, Engine))
    assert exact.curve[-1].train_loss < 1e-4 * exact.curve[0].train_loss
    far = [float((s.theta.double() - exact.theta).norm() / exact.theta.norm()) for s in (span, ordinary)]
    assert far[0] < max(3 * far[1], 1e-6)


def test_neighbours_and_stretches_change_no_bit() -> None:
    runs = [run_of(*FEW, "epochs=40", f"optimizer={o}", f"width={w}") for o in ("sgd", "momentum") for w in (1, 9, 64)]
    together = SpanEngine(networks_of(runs), [0.05] * len(runs))
    assert all(steps_in_span(run) for run in runs[1:3])
    for first, last in ((0, 1), (1, 50), (50, 120)):
        together.advance(first, last)
    for position, run in enumerate(runs):
        alone = SpanEngine(networks_of([run]), [0.05])
        alone.advance(0, 120)
        a, b = together.state(position, 120, saved=False), alone.state(0, 120, saved=False)
        assert torch.equal(a.theta, b.theta), run.width
        assert alone.evaluate() == together.evaluate()[position : position + 1]


def test_runs_leave_without_disturbing_others() -> None:
    base = (*FEW, "optimizer=sgd", "epochs=40")
    good = [run_of(*base, f"width={w}") for w in (20, 30)]
    bad = run_of(*base, "width=25", "lr=1000")
    trainer = trainer_of(networks_of([good[0], bad, good[1]]), [0.05, 1000.0, 0.05])
    assert isinstance(trainer, SpanEngine)
    first, diverged, second = train(trainer)
    assert diverged.status == "diverged"
    assert torch.isfinite(diverged.theta).all()
    for run, solution in zip(good, (first, second), strict=True):
        alone = trained(solo(run), 0.05)
        assert torch.equal(solution.theta, alone.theta)
        assert [vars(p) for p in solution.curve] == [vars(p) for p in alone.curve]


def test_only_what_it_is_exact_and_cheaper_for() -> None:
    line = (*FEW, "width=50", "epochs=100")
    assert steps_in_span(run_of(*line, "optimizer=momentum"))
    for other in (
        ("optimizer=adam",),
        ("optimizer=momentum", "optimizer.weight_decay=0.01"),
        ("optimizer=sgd", "normalization=batch_norm"),
        ("optimizer=sgd", "data.n_train=500"),  # more samples than pixels
        ("optimizer=sgd", "epochs=1"),  # the Gram matrix would not pay
        ("optimizer=sgd", "model=random_features"),
    ):
        assert not steps_in_span(run_of(*line, *other)), other


def test_a_state_is_a_copy() -> None:
    run = run_of(*FEW, "epochs=40", "optimizer=momentum", "width=12")
    engine = SpanEngine([solo(run)], [0.05])
    engine.advance(0, 10)
    engine.save()
    before = copy.deepcopy(engine.state(0, 10, saved=False))
    engine.advance(10, 120)
    assert torch.equal(engine.state(0, 10, saved=True).theta, before.theta)
    assert not torch.equal(engine.state(0, 120, saved=False).theta, before.theta)


def test_inputs_whose_products_overflow_go_the_ordinary_way() -> None:
    x, y = torch.randn(20, 200, generator=torch.Generator().manual_seed(0)), torch.zeros(20, 1)
    line = ("model=two_layer", "width=8", "optimizer=sgd", "epochs=100", "batch_size=5", "lr=1e-42", "lr_unit=absolute")
    assert dd.train(1e19 * x, y, *line)[0].status == "ok"
