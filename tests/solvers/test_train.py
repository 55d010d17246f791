"""Training against plain ``torch.nn`` / ``torch.optim`` loops fed the same weights and batches, in float64."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from dd.config import RunConfig
from dd.errors import ConfigError
from dd.kernels.engine import suits
from dd.kernels.library import library
from dd.kernels.rules import RULES
from dd.network import Network
from dd.registry import get, names
from dd.solvers.batches import batch_orders
from dd.solvers.logs import log_steps
from dd.solvers.train import Stack, stack_of, stacks, train
from tests.helpers import network_of, row_of, run_of, solve_rows, trained

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


def plain_net(run: RunConfig, network: Network) -> nn.Sequential:
    """The run's model in torch's own layers, with the stack's initial weights."""
    options = run.group_options("model")
    named = network.named(network.theta).named
    norm: list[nn.Module] = {
        "none": [],
        "batch_norm": [nn.BatchNorm1d(run.width)],
        "layer_norm": [nn.LayerNorm(run.width)],
    }[run.normalization]
    last = nn.Linear(run.width, network.problem.outputs, options["bias"])
    linear = {"readout": last}
    layers: list[nn.Module] = []
    if run.model == "random_features":
        layers = [Features(network)]
    else:
        first = nn.Linear(network.problem.inputs, run.width, options["bias"])
        layers = [first, nn.ReLU() if options["activation"] == "relu" else nn.Tanh()]
        linear["hidden"] = first
    net = nn.Sequential(*layers, *norm, last).double()
    with torch.no_grad():
        for name, layer in linear.items():
            weight = named[name][0]
            layer.weight.copy_(weight[:, : layer.in_features])
            if options["bias"]:
                layer.bias.copy_(weight[:, -1])
    return net


def plain_loop(run: RunConfig, network: Network, lr: float) -> nn.Sequential:
    """The loop that anybody would write."""
    net = plain_net(run, network)
    optimizer = TORCH[run.optimizer](net.parameters(), lr)
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
    return net.eval()


CASES = [
    *(("width=11", f"optimizer={name}", "lr=0.02", "epochs=25", "model=two_layer") for name in TORCH),
    ("width=6", "optimizer=adam", "lr=0.02", "steps=45", "model=two_layer", "batch_size=full", "model.bias=false"),
    ("width=7", "optimizer=sgd", "lr=0.02", "steps=99", "model=two_layer", "batch_size=1", "loss=cross_entropy"),
    ("width=13", "optimizer=nesterov", "lr=0.02", "steps=33", "model=two_layer", "batch_size=7", "data=mnist1d"),
    *(("width=25", f"optimizer={name}", "lr=0.02", "steps=70") for name in TORCH),
    ("width=70", "optimizer=sgd", "lr=0.1", "steps=50", "batch_size=1"),
    ("width=25", "optimizer=momentum", "lr=0.02", "epochs=9", "batch_size=17", "model.bias=true"),
    ("width=25", "optimizer=adam", "lr=0.01", "steps=60", "batch_size=full", "loss=cross_entropy"),
    ("width=25", "optimizer=momentum", "lr=0.05", "steps=60", "batch_size=20", "normalization=batch_norm"),
    ("width=25", "optimizer=adam", "lr=0.01", "steps=60", "batch_size=20", "normalization=layer_norm"),
    ("width=11", "model=two_layer", "optimizer=momentum", "lr=0.05", "epochs=12", "batch_size=16"),
    (
        "width=11",
        "model=two_layer",
        "optimizer=adam",
        "lr=0.01",
        "steps=60",
        "model.activation=tanh",
        "model.bias=false",
    ),
    ("width=11", "model=two_layer", "optimizer=rmsprop", "lr=0.01", "steps=60", "loss=cross_entropy", "init=he"),
    ("width=11", "model=two_layer", "optimizer=sgd", "lr=0.1", "steps=60", "batch_size=20", "normalization=batch_norm"),
]


@pytest.mark.parametrize("overrides", CASES, ids=" ".join)
def test_equals_a_plain_torch_loop(overrides: tuple[str, ...]) -> None:
    own_batch = "optimizer=gd" in overrides or any(o.startswith("batch_size") for o in overrides)
    run = run_of(*DATA, *(() if own_batch else ("batch_size=25",)), *overrides)
    network = network_of(run)
    net = plain_loop(run, network, run.lr)
    solution = trained(network, run.lr)
    assert solution.status == "ok"
    assert solution.steps_done == run.steps
    buffers = {k: v[None] for k, v in solution.buffers.items()}
    theta = network.named(solution.theta[None])
    for samples, x in ((network.train, network.problem.train_x), (network.test, network.problem.test_x)):
        ours = network.outputs(theta, samples.inputs, buffers)[0]
        torch.testing.assert_close(ours, net(x).detach(), rtol=1e-9, atol=1e-9)
    assert (solution.theta - network.theta[0]).norm() > 1e-3


ENGINE = [
    ("optimizer=adamw", "optimizer.weight_decay=0.3"),
    ("optimizer=momentum", "optimizer.weight_decay=0.1", "model.activation=tanh"),
    ("optimizer=rmsprop", "optimizer.momentum=0.8", "optimizer.eps=0.01", "optimizer.weight_decay=0.05"),
    ("optimizer=adagrad", "optimizer.lr_decay=0.05", "optimizer.initial_accumulator=0.3", "optimizer.weight_decay=0.1"),
    ("optimizer=adam", "optimizer.beta1=0.5", "optimizer.eps=0.001", "optimizer.weight_decay=0.1", "batch_size=17"),
    ("optimizer=sgd", "optimizer.weight_decay=0.1", "batch_size=1"),
    ("optimizer=nesterov", "batch_size=full", "loss=cross_entropy"),
]


@pytest.mark.parametrize("overrides", ENGINE, ids=" ".join)
@pytest.mark.parametrize(
    "model", ["two_layer", "random_features", "random_features model.bias=true", "two_layer model.bias=false"]
)
@pytest.mark.parametrize("width", [1, 5, 37])
def test_the_engines_steps_equal_the_eager_ones(overrides: tuple[str, ...], model: str, width: int) -> None:
    base = (
        *DATA,
        "data.n_train=83",
        *f"model={model}".split(),
        f"width={width}",
        "lr=0.03",
        "steps=50",
        "batch_size=20",
    )
    run = run_of(*base, *overrides)
    network = network_of(run)
    assert suits(run, network)
    compiled, eager = trained(network, run.lr), trained(network, run.lr, eager=True)
    torch.testing.assert_close(compiled.theta, eager.theta, rtol=1e-9, atol=1e-11)
    assert [p.step for p in compiled.curve] == [p.step for p in eager.curve]
    for a, b in zip(compiled.curve, eager.curve, strict=True):
        assert vars(a) == pytest.approx(vars(b), rel=1e-9)
    assert (compiled.preconditioner is None) == (eager.preconditioner is None)
    if compiled.preconditioner is not None:
        torch.testing.assert_close(compiled.preconditioner, eager.preconditioner, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("batch_size", ["7", "50", "83"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize(
    "model", ["two_layer", "two_layer model.activation=tanh", "random_features", "random_features model.bias=true"]
)
def test_the_engines_gradient_is_autograds(model: str, loss: str, batch_size: str) -> None:
    overrides = (*f"model={model}".split(), f"loss={loss}", f"batch_size={batch_size}", "width=29")
    run = run_of(*DATA, "data.n_train=83", "optimizer=sgd", "lr=1", "steps=1", *overrides)
    network = network_of(run)
    moved = network.theta[0] - trained(network, 1.0).theta
    rows = torch.arange(83)
    if run.batch_size != run.n_train:
        rows = torch.from_numpy(next(batch_orders(run)))[: run.batch_size]
    leaf = network.theta.clone().requires_grad_(True)
    samples = network.train
    network.loss(network.named(leaf), samples.inputs[:, rows], samples.targets[rows], {}).sum().backward()
    torch.testing.assert_close(moved, leaf.grad[0], rtol=1e-12, atol=1e-13)


def test_the_engine_was_compiled_and_knows_the_rules_it_names() -> None:
    assert library() is not None, "pip install -e . compiles it"
    for name, known in RULES.items():
        rule = get("optimizer", name)
        run = run_of(f"optimizer={name}")
        state = rule.init_state(torch.zeros(1, 2), rule.hyper([run], torch.ones(1)))
        assert state.keys() == set(known.state)
        assert set(known.options) <= {a.key for a in rule.options}


def test_every_iterated_optimizer_is_compared() -> None:
    # methods for quadratics are compared in test_exact.py
    iterated = {n for n in names("optimizer") if get("optimizer", n).iterable and get("optimizer", n).step_size}
    assert iterated == TORCH.keys() | {"lbfgs", "lion", "signsgd", "muon", "pytorch_optimizer"}


@pytest.mark.parametrize("model", ["two_layer", "random_features"])
@pytest.mark.parametrize(("optimizer", "lr"), [("lion", 0.003), ("signsgd", 0.003), ("muon", 0.02)])
def test_sign_methods_and_muon_learn_wherever_they_run(optimizer: str, lr: float, model: str) -> None:
    row = row_of(f"model={model}", f"optimizer={optimizer}", "width=40", "epochs=60", f"lr={lr}", "data.n_train=100")
    assert row["status"] == "ok"
    assert row["train_loss"] < 0.06
    assert row["preconditioned_condition"] is None


@pytest.mark.parametrize(
    "overrides", [("optimizer=lion",), ("optimizer=signsgd", "optimizer.momentum=0.9")], ids=" ".join
)
def test_a_packages_optimizer_is_the_packed_rule(overrides: tuple[str, ...]) -> None:
    base = (*DATA, "model=two_layer", "width=9", "batch_size=20", "steps=40", "lr=0.003")
    named = {"lion": "method=lion", "signsgd": "method=signsgd optimizer.arguments=momentum=0.9"}[overrides[0][10:]]
    unpacked = ("optimizer=pytorch_optimizer", *f"optimizer.{named}".replace("arguments=", "arguments='").split())
    unpacked = tuple(f"{o}'" if "'" in o else o for o in unpacked)
    ours, theirs = (trained(network_of(run_of(*base, *o)), 0.003) for o in (overrides, unpacked))
    torch.testing.assert_close(ours.theta, theirs.theta, rtol=1e-9, atol=1e-11)


def test_a_packages_optimizer_sees_matrices() -> None:
    row = row_of(
        "optimizer=pytorch_optimizer",
        "optimizer.method=soap",
        "model=two_layer",
        "width=6",
        "steps=30",
        "data.n_train=60",
    )
    assert row["status"] == "ok"
    assert row["train_loss"] < 0.15


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("optimizer.method=no_such", "optimizer.method"),
        ("optimizer.method=adahessian", "optimizer.method"),
        ("optimizer.arguments=rho", "optimizer.arguments"),
        ("optimizer.arguments='nonsense=1'", "optimizer.arguments"),
        ("optimizer.arguments='lr=1'", "optimizer.arguments"),
        ("optimizer.arguments='weight_decay=-1'", "optimizer.arguments"),
    ],
)
def test_a_package_s_optimizer_is_checked_first(override: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        run_of("optimizer=pytorch_optimizer", override)


def test_a_packages_arguments_are_read_as_numbers_and_its_names_without_case() -> None:
    one = run_of("optimizer=pytorch_optimizer", "optimizer.method=Adan", "optimizer.arguments='weight_decay=1e-3'")
    two = run_of("optimizer=pytorch_optimizer", "optimizer.arguments='weight_decay=1e-3'")
    assert one.run_id == two.run_id
    (row,) = solve_rows(one.replace(steps=3, width=5))
    assert row["status"] == "ok"


def test_what_an_unpacked_optimizer_draws_follows_from_the_seed_alone() -> None:
    runs = [
        run_of(
            "optimizer=pytorch_optimizer", "optimizer.method=kron", "steps=20", f"width={w}", *DATA[:2], "batch_size=20"
        )
        for w in (6, 9)
    ]
    forth, back = solve_rows(*runs), solve_rows(*reversed(runs))
    for run in runs:
        losses = [
            row["train_loss"] for rows in (forth, back, solve_rows(run)) for row in rows if row["width"] == run.width
        ]
        assert len(set(losses)) == 1


def test_lbfgs_is_torchs_with_as_many_iterations() -> None:
    run = run_of(*DATA, "width=12", "optimizer=lbfgs", "steps=15", "model=two_layer", "optimizer.history=5")
    network = network_of(run)
    net = plain_net(run, network)
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
    solution = trained(network, 1.0)
    ours = network.outputs(network.named(solution.theta[None]), network.train.inputs, {})[0]
    # the parameters lie in another order, so sums round differently and the line searches amplify it
    torch.testing.assert_close(ours, net(x).detach(), rtol=1e-5, atol=1e-6)
    assert solution.curve[-1].train_loss < 0.7 * solution.curve[0].train_loss


def test_lbfgs_reaches_the_least_squares_solution() -> None:
    row = row_of("optimizer=lbfgs", "width=20", "steps=300", "dtype=float64", "init=zero")
    # torch skips curvature pairs below 1e-10, where progress ends
    assert row["train_loss"] == pytest.approx(row["min_norm_train_loss"], rel=1e-4)
    assert row["test_loss"] == pytest.approx(row["min_norm_test_loss"], rel=1e-2)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_a_stack_trains_as_its_runs_alone(optimizer: str) -> None:
    base = (*DATA, "model=two_layer", "width=9", "batch_size=20", "steps=40", f"optimizer={optimizer}")
    runs = [run_of(*base, f"lr={lr}", f"init.scale={s}") for lr, s in ((0.01, 1), (0.03, 0.5), (0.02, 2))]
    lrs = torch.tensor([run.lr for run in runs], dtype=torch.float64)
    together = train(Stack(network_of(*runs), lrs))
    for i, run in enumerate(runs):
        alone = trained(network_of(run), run.lr, eager=True)
        torch.testing.assert_close(together[i].theta, alone.theta, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "overrides", [("optimizer=muon",), ("optimizer=sgd", "normalization=batch_norm")], ids=" ".join
)
def test_on_a_gpu_runs_of_one_architecture_are_stacked(overrides: tuple[str, ...]) -> None:
    base = (*DATA, "width=9", "batch_size=20", "steps=40", "model=two_layer", *overrides)
    runs = [run_of(*base, f"lr={lr}", f"seed={seed}") for seed in (0, 1) for lr in (0.01, 0.03)]
    networks = [network_of(run) for run in runs]
    assert stacks(networks) == [[0, 1], [2, 3]]
    for members in stacks(networks):
        lrs = [float(runs[i].lr or 0) for i in members]
        stacked = train(stack_of([networks[i] for i in members], lrs))
        for i, lr, solution in zip(members, lrs, stacked, strict=True):
            alone = trained(networks[i], lr, eager=True)
            torch.testing.assert_close(solution.theta, alone.theta, rtol=1e-9, atol=1e-11)
            for name, buffer in alone.buffers.items():
                torch.testing.assert_close(solution.buffers[name], buffer, rtol=1e-9, atol=1e-11)


def test_runs_that_diverge_or_are_done_leave_the_stack_and_disturb_nobody() -> None:
    base = (*DATA, "width=30", "optimizer=gd", "batch_size=full", "steps=3000")
    runs = [run_of(*base), run_of(*base, "seed=0", "init.scale=2"), run_of(*base, "init.scale=0.5", "stop_loss=0.05")]
    lrs = torch.tensor([0.05, 50.0, 0.05], dtype=torch.float64)
    network = network_of(*[r.replace(stop_loss=0.05) for r in runs])
    good, bad, done = train(Stack(network, lrs))
    assert [s.status for s in (good, bad, done)] == ["ok", "diverged", "ok"]
    assert bad.steps_done < done.steps_done <= 3000
    assert torch.isfinite(bad.theta).all()
    assert done.curve[-1].train_loss <= 0.05
    alone = trained(network_of(runs[0].replace(stop_loss=0.05)), 0.05, eager=True)
    assert alone.steps_done == good.steps_done
    torch.testing.assert_close(alone.theta, good.theta, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", ["50", "full"])
def test_a_diverging_run_keeps_its_last_finite_values(dtype: str, batch_size: str) -> None:
    row = row_of("width=50", "lr=30", f"dtype={dtype}", f"batch_size={batch_size}", "steps=5000")
    assert row["status"] == "diverged"
    assert 0 < row["steps_done"] < 5000
    for key in ("train_loss", "test_loss", "weight_norm", "gradient_norm"):
        assert 1 < row[key] < float("inf"), key


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


def test_batches_do_not_depend_on_width_or_batch_size() -> None:
    one, other = batch_orders(run_of("width=10")), batch_orders(run_of("width=300", "batch_size=7", "optimizer=adam"))
    for _ in range(3):
        a, b = next(one), next(other)
        assert (a == b).all()
        assert sorted(a) == list(range(500))


def test_log_steps_are_log_spaced_and_hold_both_ends() -> None:
    steps = sorted(log_steps(5000))
    assert steps[0] == 0
    assert steps[-1] == 5000
    assert len(steps) < 45
    assert log_steps(0) == {0}
    assert log_steps(1) == {0, 1}
