"""The reference against plain ``torch.nn`` / ``torch.optim`` loops fed the same weights and batches, in float64.

Covers: dd/network.py.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from dd.components.optimizer import Optimizer
from dd.models.two_layer import TwoLayer
from dd.network import Network
from dd.runs import registry
from dd.runs.run import Run
from dd.schedules.inverse_sqrt import InverseSqrt
from dd.trainers.batches import batch_orders
from dd.trainers.course import train
from dd.trainers.stack import Stack
from tests.helpers import row_of, run_of
from tests.training import assert_close, solution, solutions, task_of, tasks_of, torch_scheduler

pytestmark = pytest.mark.rounding

DATA = ("data.n_train=60", "data.n_test=40", "dtype=float64", "data.label_noise=0.2", "lr_unit=absolute")
TORCH: dict[str, Callable[[Any, float], torch.optim.Optimizer]] = {
    "sgd": lambda p, lr: torch.optim.SGD(p, lr),
    "momentum": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9),
    "nesterov": lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9, nesterov=True),
    "adam": lambda p, lr: torch.optim.Adam(p, lr),
    "adamw": lambda p, lr: torch.optim.AdamW(p, lr, weight_decay=0.01),
    "rmsprop": lambda p, lr: torch.optim.RMSprop(p, lr),
    "adagrad": lambda p, lr: torch.optim.Adagrad(p, lr),
    "gd": lambda p, lr: torch.optim.SGD(p, lr),
}


class Features(nn.Module):
    """Frozen features before a linear layer."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        frozen = network.model.draw_frozen(network.run, network.problem.inputs)
        self.weight = torch.from_numpy(frozen["features"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ self.weight)


def plain_net(network: Network) -> nn.Sequential:
    """The run's model in torch's own layers, with the stack's initial weights."""
    run, model, bias = network.run, network.run.model, network.run.model.has_bias
    named = network.named(network.theta).named
    norm: list[nn.Module] = {
        "none": [],
        "batch_norm": [nn.BatchNorm1d(run.width)],
        "layer_norm": [nn.LayerNorm(run.width)],
    }[run.normalization.name]
    last = nn.Linear(run.width, network.problem.outputs, bias)
    linear = {"readout": last}
    layers: list[nn.Module]
    if isinstance(model, TwoLayer):
        first = nn.Linear(network.problem.inputs, run.width, bias)
        layers = [first, nn.ReLU() if model.activation == "relu" else nn.Tanh()]
        linear["hidden"] = first
    else:
        layers = [Features(network)]
    net = nn.Sequential(*layers, *norm, last).double()
    with torch.no_grad():
        for name, layer in linear.items():
            weight = named[name][0]
            layer.weight.copy_(weight[:, : layer.in_features])
            if bias:
                layer.bias.copy_(weight[:, -1])
    return net


def plain_loop(run: Run, network: Network) -> nn.Sequential:
    """The loop that anybody would write."""
    assert run.lr is not None
    assert run.steps is not None
    net = plain_net(network)
    optimizer = TORCH[run.optimizer.name](net.parameters(), run.lr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR's own way to its second schedule
        scheduler = torch_scheduler(run, optimizer)
    x, y = network.problem.train_x, network.problem.train_y
    criterion = nn.MSELoss() if run.loss == "mse" else nn.CrossEntropyLoss()
    full = run.batch_size == run.n_train
    orders = itertools.repeat(range(run.n_train)) if full else batch_orders(run)
    step = 0
    while step < run.steps:
        order = torch.tensor([int(i) for i in next(orders)])
        for batch in order.split(run.batch_size):
            if step == run.steps:
                break
            optimizer.zero_grad()
            criterion(net(x[batch]), y[batch]).backward()
            optimizer.step()
            step += 1
            if run.schedule.per == "step":
                scheduler.step()
        if run.schedule.per == "epoch":
            scheduler.step()
    return net.eval()


CASES = [
    *(("width=11", f"optimizer={name}", "lr=0.02", "epochs=25", "model=two_layer") for name in TORCH),
    ("width=6", "optimizer=adam", "lr=0.02", "steps=45", "model=two_layer", "batch_size=full", "model.bias=false"),
    ("width=7", "optimizer=sgd", "lr=0.02", "steps=99", "model=two_layer", "batch_size=1", "loss=cross_entropy"),
    ("width=13", "optimizer=nesterov", "lr=0.02", "steps=33", "model=two_layer", "batch_size=7", "data=mnist1d"),
    *(("width=25", f"optimizer={name}", "lr=0.02", "steps=70") for name in TORCH),
    ("width=70", "optimizer=sgd", "lr=0.1", "steps=50", "batch_size=1"),
    ("width=11", "optimizer=adamw", "lr=0.02", "epochs=25", "model=two_layer", "schedule=cosine", "schedule.per=epoch"),
    ("width=25", "optimizer=momentum", "lr=0.02", "steps=70", "schedule=linear", "schedule.final=0.1"),
    ("width=25", "optimizer=sgd", "lr=0.1", "steps=70", "schedule=step", "schedule.every=9", "schedule.per=epoch"),
    ("width=11", "optimizer=adagrad", "lr=0.02", "steps=50", "model=two_layer", "schedule=inverse_sqrt"),
    ("width=25", "optimizer=momentum", "lr=0.02", "epochs=9", "batch_size=17", "model.bias=true"),
    ("width=25", "optimizer=adam", "lr=0.01", "steps=60", "batch_size=full", "loss=cross_entropy"),
    ("width=25", "optimizer=momentum", "lr=0.05", "steps=60", "batch_size=20", "normalization=batch_norm"),
    ("width=25", "optimizer=adam", "lr=0.01", "steps=60", "batch_size=20", "normalization=layer_norm"),
    ("width=11", "model=two_layer", "optimizer=adam", "lr=0.01", "steps=60", "model.activation=tanh"),
    ("width=11", "model=two_layer", "optimizer=rmsprop", "lr=0.01", "steps=60", "loss=cross_entropy", "init=he"),
    ("width=11", "model=two_layer", "optimizer=sgd", "lr=0.1", "steps=60", "batch_size=20", "normalization=batch_norm"),
]  # fmt: skip


@pytest.mark.parametrize("overrides", CASES, ids=" ".join)
def test_equals_a_plain_torch_loop(overrides: tuple[str, ...]) -> None:
    own_batch = "optimizer=gd" in overrides or any(o.startswith("batch_size") for o in overrides)
    run = run_of(*DATA, *(() if own_batch else ("batch_size=25",)), *overrides)
    network = task_of(run).network
    net = plain_loop(run, network)
    found = solution(run, "stack")
    assert (found.status, found.steps_done, found.trainer) == ("ok", run.steps, "stack")
    buffers = {k: v[None] for k, v in found.buffers.items()}
    theta = network.named(found.theta[None])
    for samples, x in ((network.train, network.problem.train_x), (network.test, network.problem.test_x)):
        ours = network.outputs(theta, samples.inputs, buffers)[0]
        torch.testing.assert_close(ours, net(x).detach(), rtol=1e-9, atol=1e-9)
    assert (found.theta - network.theta[0]).norm() > 1e-3


def test_lbfgs_is_torchs_with_as_many_iterations() -> None:
    run = run_of(*DATA, "width=12", "optimizer=lbfgs", "steps=15", "model=two_layer", "optimizer.history=5", "lr=1")
    network = task_of(run).network
    net = plain_net(network)
    x, y = network.problem.train_x, network.problem.train_y
    optimizer = torch.optim.LBFGS(
        net.parameters(), lr=1, max_iter=15, max_eval=10_000, history_size=5, line_search_fn="strong_wolfe",
        tolerance_grad=0, tolerance_change=0,
    )  # fmt: skip

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(net(x), y)
        loss.backward()
        return loss.detach()

    optimizer.step(closure)
    found = solution(run)
    ours = network.outputs(network.named(found.theta[None]), network.train.inputs, {})[0]
    # the parameters lie in another order, so sums round differently and the line searches amplify it
    torch.testing.assert_close(ours, net(x).detach(), rtol=1e-5, atol=1e-6)
    assert found.curve[-1].train_loss < 0.7 * found.curve[0].train_loss


def test_lbfgs_reaches_the_least_squares_solution() -> None:
    row = row_of("optimizer=lbfgs", "width=20", "steps=300", "dtype=float64", "init=zero")
    # torch skips curvature pairs below 1e-10, where progress ends
    assert row["train_loss"] == pytest.approx(row["min_norm_train_loss"], rel=1e-4)
    assert row["test_loss"] == pytest.approx(row["min_norm_test_loss"], rel=1e-2)


def test_every_iterated_optimizer_is_compared() -> None:
    """Methods for quadratics are compared in tests/closed, others with their own definitions in tests/optim."""
    rules = (registry.kind("optimizer", name) for name in registry.names("optimizer"))
    iterated = {rule.name for rule in rules if issubclass(rule, Optimizer) and rule.iterable and rule.step_size}
    assert iterated == TORCH.keys() | {"lbfgs", "lion", "signsgd", "muon", "pytorch_optimizer"}


STACKED = {
    "muon": ("model=two_layer", "optimizer=muon"),
    "batch norm": ("model=two_layer", "optimizer=sgd", "normalization=batch_norm"),
    "read-outs": ("optimizer=adam",),
}


@pytest.mark.parametrize("batch", ["batch_size=25", "batch_size=full"])
@pytest.mark.parametrize("name", STACKED)
def test_a_stack_trains_as_its_runs_alone(name: str, batch: str) -> None:
    """As a GPU has it: seeds, step sizes, options, starts and training sets differ."""
    base = (*DATA, "width=9", batch, "steps=20", *STACKED[name])
    first = run_of(*base, "lr=0.01")
    runs = [
        first,
        run_of(*base, "lr=0.03", "seed=1"),
        run_of(*base, "lr=0.02", "init.scale=2", "optimizer.weight_decay=0.1"),
        run_of(*base, "lr=0.02", "data.seed=1", "seed=1", "init=he"),
    ]
    gpu = torch.device("cuda")
    assert len({Stack.group_key(run, gpu) for run in runs}) == 1
    for together, run in zip(train(Stack(tasks_of(runs))), runs, strict=True):
        assert_close(together, solution(run, "stack"))


def test_what_a_stack_cannot_take_together() -> None:
    base, gpu = run_of("model=two_layer", "optimizer=muon", "width=9"), torch.device("cuda")
    key = Stack.group_key(base, gpu)
    others = [
        base.replace(width=10), base.replace(batch_size=9), base.replace(steps=9), base.replace(loss="cross_entropy"),
        base.replace(stop_loss=0.1), base.replace(dtype="float64"), base.replace(n_train=400),
        base.replace(model=replace(base.model, bias=False)),
        base.replace(optimizer=replace(base.optimizer, ns_steps=3)), base.replace(schedule=InverseSqrt()),
    ]  # fmt: skip
    assert all(Stack.group_key(other, gpu) != key for other in others)
    alone = [run_of("optimizer=lbfgs", f"lr={lr}", "lr_unit=absolute") for lr in (0.1, 1)]
    assert len({Stack.group_key(run, gpu) for run in alone}) == 2, "an optimizer of PyTorch's kind knows one model"
    cpu = torch.device("cpu")
    assert Stack.group_key(base, cpu) != Stack.group_key(base.replace(seed=1), cpu), "bits must not depend on others"


def test_runs_leave_a_stack_without_disturbing_others() -> None:
    base = (*DATA, "width=30", "optimizer=momentum", "batch_size=20", "steps=600", "stop_loss=0.04")
    runs = [run_of(*base, "lr=0.03"), run_of(*base, "lr=500"), run_of(*base, "lr=0.06", "seed=1")]
    good, bad, done = train(Stack(tasks_of(runs)))
    assert [s.status for s in (good, bad, done)] == ["ok", "diverged", "ok"]
    assert bad.steps_done < done.steps_done < good.steps_done
    assert torch.isfinite(bad.theta).all()
    assert done.curve[-1].train_loss <= 0.04
    alone = solutions(runs, "stack")
    for run, together in zip(runs, (good, bad, done), strict=True):
        assert_close(together, alone[run.run_id], rel=1e-8)
