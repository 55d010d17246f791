"""Components that dd has never seen, each a few lines, against a plain torch loop: float64, to 1e-9.

They go the normal way (``dd.packs.solve``, ``trainer=auto``). A trainer with code of its own must refuse what it does
not know; these tests would see wrong numbers if one took it for something else.

Covers: dd/trainers/padding.py, dd/trainers/rules.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dd.components.model import ACTIVATIONS, Model, with_ones
from dd.components.normalization import Normalization
from dd.components.optimizer import CLAIMS, Hyper, Number, State, UpdateRule
from dd.errors import ConfigError
from dd.models import two_layer
from dd.models.random_features import RandomFeatures
from dd.models.two_layer import TwoLayer, is_two_layer
from dd.normalizations.none import Identity
from dd.optim.gd import GD
from dd.optim.momentum import Momentum
from dd.optim.nesterov import Nesterov
from dd.optim.sgd import SGD
from dd.packs.rows import Row
from dd.problems.problem import Problem
from dd.runs import registry
from dd.runs.axis import axis
from dd.runs.run import Run
from dd.trainers.batches import Orders
from dd.trainers.course import train
from dd.trainers.engine import Engine
from dd.trainers.grid import Grid
from dd.trainers.rules import RULES
from dd.trainers.stack import Stack
from dd.trainers.table import settled_solver, trainer_for
from tests.helpers import problem_of, run_of, solve_rows
from tests.page import example
from tests.training import assert_close, solution, tasks_of

CPU, GPU = torch.device("cpu"), torch.device("cuda")
DATA = ("data.n_train=60", "data.n_test=40", "data.label_noise=0.2")
STEPS = ("batch_size=25", "steps=40", "lr=0.05", "lr_unit=absolute", "dtype=float64", "solver=iterative")
NETS = (*DATA, *STEPS, "model=two_layer", "width=9")
FEATURES = (*DATA, *STEPS, "width=30")

Net = Callable[[Tensor], Tensor]
Leaves = dict[str, Tensor]
Step = Callable[[Leaves, Mapping[str, Tensor], float], None]


def problem(run: Run) -> Problem:
    """The data of all runs here."""
    assert (run.n_train, run.n_test, run.label_noise) == (60, 40, 0.2)
    return problem_of(*DATA)


def start(run: Run) -> Leaves:
    """The weights that dd starts from, by name, [rows, columns]."""
    return {k: v[0].clone().requires_grad_(True) for k, v in run.model.init([run], 64, 10).items()}


def batches(run: Run) -> Iterator[Tensor]:
    """Samples of each step."""
    assert run.steps is not None
    assert run.batch_size is not None
    orders = Orders(run)
    every = (batch for e in itertools.count() for batch in torch.from_numpy(orders.epoch(e)).split(run.batch_size))
    return itertools.islice(every, run.steps)


def sgd(leaves: Leaves, gradient: Mapping[str, Tensor], lr: float) -> None:
    """Take a step of plain gradient descent."""
    for name, leaf in leaves.items():
        leaf.sub_(lr * gradient[name])


def loop(run: Run, leaves: Leaves, net: Net, step: Step = sgd) -> dict[str, float]:
    """The loop that anybody would write; what it ends with, by the names of columns."""
    data, lr = problem(run), run.lr or 0.0
    for batch in batches(run):
        loss = nn.functional.mse_loss(net(data.train_x[batch]), data.train_y[batch])
        gradient = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        with torch.no_grad():
            step(leaves, gradient, lr)
    return outcome(run, leaves, net)


@torch.no_grad()
def outcome(run: Run, leaves: Leaves, net: Net) -> dict[str, float]:
    """Losses, error and norm of some weights."""
    data = problem(run)
    test = net(data.test_x)
    return {
        "train_loss": float(nn.functional.mse_loss(net(data.train_x), data.train_y)),
        "test_loss": float(nn.functional.mse_loss(test, data.test_y)),
        "test_error": float((test.argmax(1) != data.test_y.argmax(1)).double().mean()),
        "weight_norm": float(sum(leaf.square().sum() for leaf in leaves.values()) ** 0.5),
    }


def solved(run: Run) -> Row:
    """The run's row, by the normal way."""
    (row,) = solve_rows(run)
    assert row["status"] == "ok", row["error"]
    assert row["run_id"] == run.run_id
    return row


def assert_equal(row: Row, expected: dict[str, float]) -> None:
    """The row holds the plain loop's numbers."""
    assert {k: row[k] for k in expected} == pytest.approx(expected, rel=1e-9)


def two_layers(leaves: Leaves, act: Net, normalise: Net = lambda h: h) -> Net:
    """A two-layer net with biases, in plain torch."""
    return lambda x: with_ones(normalise(act(with_ones(x) @ leaves["hidden"].T))) @ leaves["readout"].T


def read_out(run: Run, leaves: Leaves, normalise: Net = lambda h: h) -> Net:
    """Random ReLU features without bias, in plain torch."""
    weight = torch.from_numpy(run.model.draw_frozen(run, 64)["features"])
    return lambda x: normalise(torch.relu(x @ weight)) @ leaves["readout"].T


# --- activations


def test_an_activation_of_two_layer_nets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIVATIONS, "softplus", nn.functional.softplus)
    base = run_of(*NETS, "optimizer=momentum")
    run = base.replace(model=replace(base.model, activation="softplus"))
    leaves = start(run)
    net, rule = two_layers(leaves, nn.functional.softplus), torch.optim.SGD(leaves.values(), 0.05, momentum=0.9)
    row = solved(run)
    assert row["trainer"] == "stack"
    assert_equal(row, loop(run, leaves, net, by_torch(rule)))
    assert row["feature_rank"] > 0, "measured, too"
    full = run.replace(optimizer=GD(), batch_size=60)
    leaves = start(full)
    assert_equal(solved(full), loop(full, leaves, two_layers(leaves, nn.functional.softplus)))


def by_torch(rule: torch.optim.Optimizer) -> Step:
    """Steps of an optimizer of torch."""

    def step(leaves: Leaves, gradient: Mapping[str, Tensor], lr: float) -> None:
        for name, leaf in leaves.items():
            leaf.grad = gradient[name]
        rule.step()

    return step


def test_erf_is_an_activation_of_two_layer_nets() -> None:
    """No fast trainer lists it, on a CPU or a GPU."""
    run = run_of(*NETS, "model.activation=erf")
    leaves = start(run)
    assert_equal(solved(run), loop(run, leaves, two_layers(leaves, torch.erf)))
    assert {trainer_for(run, device).name for device in (CPU, GPU)} == {"stack"}


# --- update rules


def plain_qhm(run: Run, leaves: Leaves) -> Step:
    """Quasi-hyperbolic momentum in three lines."""
    means = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    beta, nu = run.optimizer.beta, run.optimizer.nu

    def step(leaves: Leaves, gradient: Mapping[str, Tensor], lr: float) -> None:
        for name, leaf in leaves.items():
            means[name] = beta * means[name] + (1 - beta) * gradient[name]
            leaf.sub_(lr * ((1 - nu) * gradient[name] + nu * means[name]))

    return step


@pytest.mark.parametrize("batch", [25, 60])
@pytest.mark.parametrize("base", [NETS, FEATURES], ids=["nets", "features"])
def test_an_update_rule(base: tuple[str, ...], batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = example("dd/optim/qhm.py", monkeypatch).QHM(beta=0.9, nu=0.6)
    run = run_of(*base).replace(optimizer=rule, batch_size=batch)
    leaves = start(run)
    net = two_layers(leaves, torch.relu) if base is NETS else read_out(run, leaves)
    row = solved(run)
    assert (row["optimizer"], row["trainer"]) == ("qhm", "analytic")
    assert_equal(row, loop(run, leaves, net, plain_qhm(run, leaves)))


def halving(parent: type[UpdateRule]) -> type[UpdateRule]:
    """A subclass with another update: it forgets half of its velocity after each step; of SGD: half the step."""

    class Halving(parent, name="halving"):  # type: ignore[misc,valid-type]
        def update(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
            velocity = state["velocity"].add_(grad) if state else grad
            theta.addcmul_(hyper["lr"], velocity, value=-0.5)
            velocity.mul_(0.5)

    return dataclass(frozen=True)(Halving)


def plain_halving(leaves: Leaves, *, momentum: bool) -> Step:
    """The same in three lines."""
    kept = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}

    def step(leaves: Leaves, gradient: Mapping[str, Tensor], lr: float) -> None:
        for name, leaf in leaves.items():
            velocity = kept[name] + gradient[name]
            leaf.sub_(lr * 0.5 * velocity)
            kept[name] = 0.5 * velocity if momentum else kept[name]

    return step


@pytest.mark.parametrize("batch", [25, 60])
@pytest.mark.parametrize("parent", [SGD, Momentum, Nesterov])
def test_a_subclass_with_another_update_is_another_rule(parent: type[UpdateRule], batch: int) -> None:
    """No trainer that knows the parent takes it: exact dynamics, function space, span, engine, grid."""
    wide = run_of(*FEATURES, "width=200", "steps=2000").replace(optimizer=halving(parent)(), batch_size=batch)
    with registry.visiting("optimizer", type(wide.optimizer)):
        assert settled_solver(wide, "auto", lambda key: "") == "iterative"
        for solver in ("exact", "dual"):
            with pytest.raises(ConfigError, match=f"solver={solver}: cannot be"):
                settled_solver(wide, solver, lambda key: "")
            assert trainer_for(wide.replace(solver=solver), CPU).name == "analytic"
        for name in ("exact", "function_space", "span", "engine", "grid"):
            for device in (CPU, GPU):
                with pytest.raises(ConfigError, match="cannot train this run"):
                    trainer_for(wide, device, name)
        for run in (wide.replace(steps=30), run_of(*NETS).replace(optimizer=wide.optimizer, batch_size=batch)):
            leaves = start(run)
            net = read_out(run, leaves) if run.model.frozen_features else two_layers(leaves, torch.relu)
            assert_equal(solved(run), loop(run, leaves, net, plain_halving(leaves, momentum=parent is not SGD)))


class Signs:
    """An update that a class may get from beside the rule."""

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
        theta.addcmul_(hyper["lr"], grad.sign(), value=-1)


@dataclass(frozen=True)
class Beside(Signs, SGD, name="beside"):
    """SGD by its base class, but for the update."""


@dataclass(frozen=True)
class Pushed(Momentum, name="pushed"):
    """Momentum that starts with a velocity."""

    def init_state(self, theta: Tensor, hyper: Hyper) -> State:
        return {"velocity": torch.ones_like(theta)}


@pytest.mark.parametrize("rule", [Beside(), Pushed()], ids=lambda rule: rule.name)
def test_what_a_class_claims_goes_with_its_own_steps(rule: UpdateRule) -> None:
    run = run_of(*FEATURES).replace(optimizer=rule, batch_size=60, lr=0.002)
    assert not any(getattr(rule, claim) for claim in CLAIMS)
    assert settled_solver(run, "auto", lambda key: "") == "iterative"
    leaves = start(run)
    velocity = torch.ones_like(leaves["readout"])

    def step(leaves: Leaves, gradient: Mapping[str, Tensor], lr: float) -> None:
        if isinstance(rule, Pushed):
            leaves["readout"].sub_(lr * velocity.mul_(0.9).add_(gradient["readout"]))
        else:
            leaves["readout"].sub_(lr * gradient["readout"].sign())

    assert_equal(solved(run), loop(run, leaves, read_out(run, leaves), step))


@dataclass(frozen=True)
class Damped(Momentum, name="damped"):
    """As if the file of Momentum had a further option."""

    dampening: float = axis(0.0, "weight of the gradient in the velocity is less by this", low=0, high=1)


@dataclass(frozen=True)
class Scaled(TwoLayer, name="scaled"):
    """As if the file of the two-layer net had a further option."""

    factor: float = axis(1.0, "multiplies the features")


def test_an_option_that_a_fast_trainer_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, Damped, RULES[Momentum])
    run = run_of(*NETS).replace(optimizer=Damped())
    assert trainer_for(run, CPU).name == "span", "by default it does nothing"
    run = run.replace(optimizer=Damped(dampening=0.5))
    assert trainer_for(run, CPU).name == "analytic"
    assert Engine.objection(run, CPU) == "optimizer.dampening is not compiled"
    monkeypatch.setattr(two_layer, "TwoLayer", Scaled)
    assert not is_two_layer(Scaled(factor=2.0))
    assert is_two_layer(Scaled())


# --- models


@dataclass(frozen=True)
class Tangent(RandomFeatures, name="tangent"):
    """Features that know the width: those of a narrow run are not the first of a wide one's."""

    def features(self, run: Run, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return super().features(run, frozen, trained, x) / run.width**0.5


@dataclass(frozen=True)
class Doubled(RandomFeatures, name="doubled"):
    """Features and their squares: twice as many as the width."""

    def feature_count(self, run: Run) -> int:
        return 2 * run.width

    def features(self, run: Run, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor], x: Tensor) -> Tensor:
        found = super().features(run, frozen, trained, x)
        return torch.cat([found, found.square()], dim=-1)


@pytest.mark.parametrize("model", [Tangent(), Doubled()], ids=lambda model: model.name)
def test_frozen_features_of_any_kind_are_those_of_the_run_alone(model: Model) -> None:
    runs = [
        run_of(*FEATURES, f"optimizer={rule}", "lr=0.01").replace(model=model, width=width)
        for width in (4, 9, 30)
        for rule in ("sgd", "min_norm")
    ]
    together = {row["run_id"]: row for row in solve_rows(*runs)}
    for run in runs:
        (alone,) = solve_rows(run)
        assert alone["status"] == "ok", alone["error"]
        assert alone["test_loss"] == together[run.run_id]["test_loss"]
    assert Grid.objection(runs[0], torch.device("cuda")) is not None


@dataclass(frozen=True)
class Squares(Model, name="squares"):
    """features = (x W)², trained; nothing is said of gradients."""

    default_init = "fan_in"
    frozen_features = False

    def draw(self, run: Run, inputs: int, outputs: int) -> dict[str, np.ndarray]:
        generator = np.random.default_rng(run.seed)
        hidden = generator.standard_normal((run.width, inputs)) / np.sqrt(inputs)
        return {"hidden": hidden, "readout": self.draw_readout(run, run.width, outputs)}

    def features(self, run: Run, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor], x: Tensor) -> Tensor:
        return (x @ trained["hidden"].mT).square()

    def interpolation_width(self, run: Run, inputs: int, outputs: int) -> float:
        return run.n_train * outputs / (inputs + outputs + 1)


@dataclass(frozen=True)
class Skipping(TwoLayer, name="skipping"):
    """A two-layer net whose hidden units see themselves twice: a subclass of what trainers know."""

    def features(self, run: Run, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor], x: Tensor) -> Tensor:
        pre = x @ trained["hidden"].mT
        return torch.relu(pre) + 0.5 * pre


@pytest.mark.parametrize("batch", [25, 60])
@pytest.mark.parametrize("model", [Squares(), Skipping()], ids=["squares", "skipping"])
def test_a_trained_family_without_a_backward_pass(model: Model, batch: int) -> None:
    run = run_of(*NETS, "lr=0.02").replace(model=model, batch_size=batch)
    leaves = start(run)

    def squares(x: Tensor) -> Tensor:
        return with_ones((x @ leaves["hidden"].T).square()) @ leaves["readout"].T

    net = squares if isinstance(model, Squares) else two_layers(leaves, lambda h: torch.relu(h) + 0.5 * h)
    row = solved(run)
    assert (row["trainer"], row["trained_features"]) == ("stack", True)
    assert_equal(row, loop(run, leaves, net))
    assert trainer_for(run, GPU).name == "stack"


class Plain(nn.Module):
    """The page's network as torch has it."""

    def __init__(self, run: Run, leaves: Leaves) -> None:
        super().__init__()
        pyramid = ((64, 2 * run.width), (2 * run.width, run.width), (run.width, 10))
        self.layers = nn.ModuleList(nn.Linear(*sizes) for sizes in pyramid)
        tensors = [leaves[name].detach() for name in ("0.weight", "0.bias", "2.weight", "2.bias")]
        tensors += [leaves["readout"][:, :-1].detach(), leaves["readout"][:, -1].detach()]
        self.double()
        with torch.no_grad():
            for parameter, value in zip(self.parameters(), tensors, strict=True):
                parameter.copy_(value.view_as(parameter))

    def forward(self, x: Tensor) -> Tensor:
        first, second, last = self.layers
        out: Tensor = last(torch.relu(second(torch.relu(first(x)))))
        return out


@pytest.mark.parametrize("batch", [25, 60])
def test_a_module(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deep network of the page: trained, measured, and stacked under vmap."""
    model = example("dd/models/pyramid.py", monkeypatch).Pyramid()
    run = run_of(*NETS, "optimizer=adam", "lr=0.01").replace(model=model, batch_size=batch)
    plain = Plain(run, start(run))
    leaves = dict(plain.named_parameters())
    row = solved(run)
    assert row["trainer"] == "single"
    assert_equal(row, loop(run, leaves, plain, by_torch(torch.optim.Adam(leaves.values(), 0.01))))
    measured = ("interpolation_width", "gradient_norm", "feature_condition", "feature_condition_init", "feature_rank")
    assert all(row[column] is not None for column in measured)
    assert row["parameters"] == sum(leaf.numel() for leaf in leaves.values())


def test_modules_stacked_under_vmap_are_each_as_if_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU has them: other seeds, step sizes and training sets."""
    model = example("dd/models/pyramid.py", monkeypatch).Pyramid(activation="tanh")
    base = run_of(*NETS, "optimizer=adam", "lr=0.01").replace(model=model)
    runs = [base, base.replace(seed=1, lr=0.03), base.replace(seed=2, data_seed=1, init_scale=2.0)]
    assert len({Stack.group_key(run, GPU) for run in runs}) == 1
    for together, run in zip(train(Stack(tasks_of(runs))), runs, strict=True):
        assert_close(together, solution(run, "stack"))


# --- normalizations


def plain_rms(h: Tensor) -> Tensor:
    """As torch has it."""
    return nn.functional.rms_norm(h, h.shape[-1:], eps=1e-5)


@pytest.mark.parametrize("batch", [25, 60])
@pytest.mark.parametrize("base", [NETS, FEATURES], ids=["nets", "features"])
def test_a_normalization(base: tuple[str, ...], batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    normalization = example("dd/normalizations/rms_norm.py", monkeypatch).RMSNorm()
    run = run_of(*base).replace(normalization=normalization, batch_size=batch)
    leaves = start(run)
    net = two_layers(leaves, torch.relu, plain_rms) if base is NETS else read_out(run, leaves, plain_rms)
    expected = loop(run, leaves, net)
    assert_equal(solved(run), expected)
    if base is FEATURES and batch == 60:  # one decomposition in place of the steps
        exact = run.replace(solver="exact")
        row = solved(exact)
        assert row["trainer"] == "exact"
        assert_equal(row, expected)
    if base is FEATURES and batch == 25:
        dual = run.replace(solver="dual", width=90)
        leaves = start(dual)
        row = solved(dual)
        assert row["trainer"] in ("function_space", "stack", "analytic")
        assert_equal(row, loop(dual, leaves, read_out(dual, leaves, plain_rms)))


def test_a_closed_form_behind_a_normalization(monkeypatch: pytest.MonkeyPatch) -> None:
    normalization = example("dd/normalizations/rms_norm.py", monkeypatch).RMSNorm()
    run = run_of(*DATA, "width=90", "optimizer=min_norm").replace(normalization=normalization)
    data, weight = problem(run), torch.from_numpy(run.model.draw_frozen(run, 64)["features"])
    design = plain_rms(torch.relu(data.train_x @ weight))
    readout = torch.linalg.lstsq(design, data.train_y, driver="gelsd").solution.T
    row = solved(run)
    assert row["trainer"] == "closed_form"
    expected = outcome(run, {"readout": readout}, read_out(run, {"readout": readout}, plain_rms))
    expected.pop("train_loss")  # rounding
    assert_equal(row, expected)


@dataclass(frozen=True)
class Centring(Normalization, name="centring"):
    """Subtract the batch's mean: it says nothing about itself."""

    def apply(
        self, features: Tensor, buffers: dict[str, Tensor], trained: Mapping[str, Tensor], *, training: bool
    ) -> Tensor:
        return features - features.mean(dim=1, keepdim=True)


@dataclass(frozen=True)
class Centred(Identity, name="centred"):
    """The same as a subclass of one that says a lot."""

    apply = Centring.apply


@pytest.mark.parametrize("normalization", [Centring(), Centred()], ids=lambda normalization: normalization.name)
@pytest.mark.parametrize("base", [NETS, FEATURES], ids=["nets", "features"])
def test_a_normalization_that_says_nothing_is_applied_in_every_step(
    base: tuple[str, ...], normalization: Normalization
) -> None:
    run = run_of(*base).replace(normalization=normalization)
    leaves = start(run)

    def centred(h: Tensor) -> Tensor:
        return h - h.mean(dim=0)

    net = two_layers(leaves, torch.relu, centred) if base is NETS else read_out(run, leaves, centred)
    row = solved(run)
    assert row["trainer"] == "stack"
    assert_equal(row, loop(run, leaves, net))
