"""The general module family: families written from outside the package against their plain torch modules.

Covers: dd/components/blueprint.py.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dd.components.dataset import Dataset
from dd.components.initialization import Initialization
from dd.components.model import with_ones
from dd.components.module import ModuleModel, shared_module
from dd.components.normalization import Normalization
from dd.components.optimizer import Optimizer
from dd.data.digits import Digits
from dd.data.mnist1d import MNIST1D
from dd.errors import ConfigError
from dd.initializations.default import Default
from dd.initializations.he import He
from dd.normalizations.none import Identity
from dd.normalizations.scale import Scale
from dd.optim.sgd import SGD
from dd.runs.axis import axis
from dd.runs.run import Run
from dd.schedules.constant import Constant

CPU = torch.device("cpu")


@dataclass(frozen=True)
class MLP(ModuleModel, name="mlp"):
    """Two hidden layers of equal width."""

    def module(self, run: Run) -> nn.Module:
        first = nn.Linear(run.data.input_count, run.width)
        return nn.Sequential(first, nn.ReLU(), nn.Linear(run.width, run.width), nn.ReLU())


@dataclass(frozen=True)
class Normed(ModuleModel, name="normed"):
    """A layer with BatchNorm, and one with LayerNorm."""

    momentum: float = axis(0.3, "weight of a new batch in the running statistics", low=0, high=1)

    def module(self, run: Run) -> nn.Module:
        k = run.width
        first = (nn.Linear(run.data.input_count, k), nn.BatchNorm1d(k, momentum=self.momentum), nn.Tanh())
        return nn.Sequential(*first, nn.Linear(k, k, bias=False), nn.LayerNorm(k), nn.GELU())


class Shift(nn.Module):
    """Add a trained image."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.by = nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.by


@dataclass(frozen=True)
class Convolutional(ModuleModel, name="convolutional"):
    """A shift, a dense convolution with BatchNorm, a depthwise one, the mean over the map."""

    images = True

    def module(self, run: Run) -> nn.Module:
        assert run.data.image is not None
        channels, k = run.data.image[0], run.width
        dense, depthwise = nn.Conv2d(channels, k, 3), nn.Conv2d(k, k, 3, groups=k)
        pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return nn.Sequential(Shift(*run.data.image), dense, nn.BatchNorm2d(k), nn.ReLU(), depthwise, *pool)


@dataclass(frozen=True)
class Unscaled(Convolutional, name="unscaled"):
    """Its convolutions start by torch's law whatever the run says."""

    layers = (nn.Linear,)


FAMILIES = (MLP(), Normed(), Convolutional())


def run_with(
    model: ModuleModel,
    *,
    data: Dataset | None = None,
    init: Initialization | None = None,
    normalization: Normalization | None = None,
    optimizer: Optimizer | None = None,
    **fields: int | float,
) -> Run:
    parts = {
        "data": data or Digits(),
        "init": init or Default(),
        "normalization": normalization or Identity(),
        "optimizer": optimizer or SGD(),
        "schedule": Constant(),
    }
    return Run(model=model, **{"width": 6, "n_train": 20, "batch_size": 20, "steps": 1, **parts, **fields})


class Plain:
    """A run's network in plain torch, with the weights of one row of a stack."""

    def __init__(self, run: Run, weights: dict[str, Tensor]) -> None:
        self.module = run.model.module(run).double()
        self.shape = run.data.image if run.model.images else (run.data.input_count,)
        self.readout = weights["readout"].clone().requires_grad_(True)
        with torch.no_grad():
            for name, parameter in self.module.named_parameters():
                parameter.copy_(weights[name].view_as(parameter))

    def outputs(self, x: Tensor, *, training: bool) -> Tensor:
        return with_ones(self.module.train(training)(x.view(len(x), *self.shape))) @ self.readout.T

    def gradient(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        named = dict(self.module.named_parameters()) | {"readout": self.readout}
        loss = nn.functional.mse_loss(self.outputs(x, training=True), y)
        return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def samples(runs: int = 1, count: int = 20) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(runs, count, 64, generator=generator, dtype=torch.float64)
    return x, torch.randn(count, 10, generator=generator, dtype=torch.float64)


def outputs(run: Run, trained: dict[str, Tensor], x: Tensor, buffers: dict[str, Tensor], *, training: bool) -> Tensor:
    features = run.model.normalised_features(run, trained, x, buffers, training=training)
    return with_ones(features) @ trained["readout"].mT


@pytest.mark.parametrize("own_samples", [False, True])
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: model.name)
def test_outputs_gradients_and_running_statistics_are_torchs(model: ModuleModel, runs: int, own_samples: bool) -> None:
    stack = [run_with(model, init_scale=scale) for scale in (1.0, 0.3, 2.0)[:runs]]
    run = stack[0]
    model.build(run, CPU, torch.float64)
    trained = {k: v.requires_grad_(True) for k, v in model.init(stack, 64, 10).items()}
    buffers = {k: v.expand(runs, -1, -1).clone() for k, v in model.buffers(run).items()}
    x, y = samples(runs if own_samples else 1)
    nets = [Plain(run, {k: v[i].detach() for k, v in trained.items()}) for i in range(runs)]
    for _ in range(2):
        loss = (outputs(run, trained, x, buffers, training=True) - y).square().mean(dim=(1, 2)).sum()
        grads = dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))
        for i, net in enumerate(nets):
            for name, expected in net.gradient(x[i if own_samples else 0], y).items():
                torch.testing.assert_close(grads[name][i].view_as(expected), expected, rtol=1e-12, atol=1e-12)
    got = outputs(run, trained, x, buffers, training=False)
    for i, net in enumerate(nets):
        expected = net.outputs(x[i if own_samples else 0], training=False)
        torch.testing.assert_close(got[i], expected, rtol=1e-12, atol=1e-12)
        for name, buffer in buffers.items():
            torch.testing.assert_close(buffer[i, 0], net.module.get_buffer(name), rtol=1e-12, atol=1e-12)
    assert bool(buffers) == model.batch_dependent(run) == (model is not FAMILIES[0])


def test_without_buffers_a_pass_in_training_leaves_nothing_behind() -> None:
    run = run_with(Normed())
    trained, (x, _) = run.model.init([run], 64, 10), samples()
    first = run.model.features(run, {}, trained, x)
    assert torch.equal(first, run.model.features(run, {}, trained, x))
    buffers = run.model.buffers(run)
    run.model.normalised_features(run, trained, x, buffers, training=False)
    assert all(torch.equal(v, run.model.buffers(run)[k]) for k, v in buffers.items())


def test_statistics_are_those_of_a_batch_seen_for_ever() -> None:
    run = run_with(Normed())
    trained, (x, _) = run.model.init([run], 64, 10), samples()
    module = Plain(run, {k: v[0] for k, v in trained.items()}).module.train()
    for _ in range(200):
        module(x[0])
    for name, value in run.model.statistics(run, trained, x).items():
        torch.testing.assert_close(value[0, 0], module.get_buffer(name))
    assert run_with(MLP()).model.statistics(run_with(MLP()), trained, x) == {}


def test_the_laws_of_the_initial_weights() -> None:
    run = run_with(Convolutional(), width=40, seed=3, init_scale=2.0)
    drawn = run.model.init([run, run.replace(seed=4)], 64, 10)
    assert float(drawn["1.weight"].std()) == pytest.approx(2 / 3, rel=0.1), "convolutions, too"
    by_torch = run.replace(model=Unscaled())
    plain = by_torch.model.init([by_torch], 64, 10)
    assert float(plain["1.weight"].abs().max()) == pytest.approx(1 / 3, rel=0.05), "without the scale"
    assert float(plain["1.weight"].std()) == pytest.approx(1 / 3 / 3**0.5, rel=0.1)
    assert drawn["2.weight"].unique().tolist() == [1]
    assert drawn["2.bias"].unique().tolist() == [0]
    assert not torch.equal(*drawn["0.by"]), "parameters of no known law are the module's own, by the run's seed"
    torch.manual_seed(5)
    assert torch.equal(drawn["0.by"][:1], run.model.init([run], 64, 10)["0.by"])
    assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(5)))
    hidden = run_with(MLP(), width=300, init=He(), init_scale=2.0)
    drawn = hidden.model.init([hidden], 64, 10)
    assert list(drawn) == ["0.weight", "0.bias", "2.weight", "2.bias", "readout"]
    for name, fan_in in (("0.weight", 64), ("2.weight", 300), ("readout", 300)):
        assert float(drawn[name][0, :, :fan_in].std()) == pytest.approx(2 * math.sqrt(2 / fan_in), rel=0.05)


def test_matrices_and_vectors() -> None:
    run = run_with(Convolutional())
    named = run.model.init([run], 64, 10)
    shapes = [tuple(v.shape[1:]) for v in run.model.split(run, named)]
    assert shapes == [(64,), (6, 9), (6,), (6,), (6,), (54,), (6,), (10, 6), (10,)]


@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: model.name)
def test_counts_are_those_of_the_plain_module(model: ModuleModel) -> None:
    run = run_with(model)
    drawn = model.init([run], 64, 10)
    assert model.parameter_count(run) == sum(v.numel() for v in drawn.values())
    assert model.feature_count(run) == drawn["readout"].shape[2] - 1 == 6
    assert model.activation_bytes(run) > 0
    assert model.map_bytes(run) > 0
    if model is FAMILIES[2]:
        assert model.multiply_adds(run) == 6 * 6 * 6 * 9 + 4 * 4 * 6 * 9


def test_the_interpolation_width_is_where_parameters_number_the_targets() -> None:
    run = run_with(MLP(), n_train=500)
    at = run.model.interpolation_width(run, 64, 10)
    assert (64 + 1 + 1 + 10) * at + at**2 + 10 == pytest.approx(5000, rel=1e-3)
    assert MLP().interpolation_width(run.replace(n_train=1), 64, 10) < 0.1
    assert math.isnan(Fixed().interpolation_width(run_with(Fixed()), 64, 10))
    assert math.isnan(Even().interpolation_width(run_with(Even(), n_train=500), 64, 10))


@dataclass(frozen=True)
class Fixed(ModuleModel, name="fixed"):
    """One width only."""

    def module(self, run: Run) -> nn.Module:
        return nn.Linear(run.data.input_count, 1)


@dataclass(frozen=True)
class Even(ModuleModel, name="even"):
    """Refuses odd widths."""

    def module(self, run: Run) -> nn.Module:
        if run.width % 2:
            raise ValueError("the width\nmust be even")
        return nn.Linear(run.data.input_count, run.width)


class Moving(nn.Module):
    """A mean of all batches, which no other run may see."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.mean.lerp_(x.mean(0), 0.1)
        return x


class Projected(nn.Module):
    """A constant that was drawn from the global generator."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(64, 5))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


class Noisy(nn.Module):
    """Noise from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = np.random.default_rng(0)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.from_numpy(self.generator.standard_normal(64)).to(x)


class Centred(nn.Module):
    """Minus the mean of the batch, in evaluation too."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


class Unseeded(Shift):
    """Starts from Python's random numbers."""

    def __init__(self) -> None:
        super().__init__(64)
        nn.init.constant_(self.by, random.random())


@dataclass(frozen=True)
class Faulty(ModuleModel, name="faulty"):
    """A layer that the test names."""

    layer: str = axis("map", "which")

    def module(self, run: Run) -> nn.Module:
        layers: dict[str, nn.Module] = {
            "map": nn.Unflatten(1, (8, 8)),
            "untracked": nn.BatchNorm1d(64, track_running_stats=False),
            "cumulative": nn.BatchNorm1d(64, momentum=None),
            "moving": Moving(),
            "projected": Projected(),
            "numpy": Noisy(),
            "mean": Centred(),
            "random": Unseeded(),
            "spectral": nn.utils.parametrizations.spectral_norm(nn.Linear(64, 5)),
            "frozen": nn.Linear(64, 5).requires_grad_(False),
        }
        return nn.Sequential(layers[self.layer])


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (run_with(MLP(), normalization=Scale()), "normalization=.?scale.*model=mlp.*use none"),
        (run_with(Convolutional(), data=MNIST1D()), "data=.?mnist1d.*needs images: use one of cifar10, digits"),
        (run_with(Even(), width=7), "model=.?even.*2 samples of 64: ValueError: the width must be even"),
        (run_with(Normed(), batch_size=19), "model=.?normed.*1 samples of 64: ValueError: Expected more than 1 value"),
        (run_with(Faulty()), r"\[2, 8, 8\], not \[samples, features\]"),
        (run_with(Faulty(layer="untracked")), "needs running statistics with a momentum"),
        (run_with(Faulty(layer="cumulative")), "needs running statistics with a momentum"),
        (run_with(Faulty(layer="moving")), "changes its buffers in training"),
        (run_with(Faulty(layer="projected")), "buffers of random numbers"),
        (run_with(Faulty(layer="numpy")), "draws random numbers that torch's seed does not decide"),
        (run_with(Faulty(layer="mean")), "mixes samples"),
        (run_with(Faulty(layer="random")), "starts from random numbers that torch's seed does not decide"),
        (run_with(Faulty(layer="spectral")), "buffers"),
        (run_with(Faulty(layer="frozen")), "parameters without gradient"),
    ],
)
def test_bad_input_is_one_line(run: Run, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        run.model.check(run, lambda key: "")
    assert "\n" not in str(caught.value)


class Scaling(nn.Module):
    """A norm of one's own, with a number that norms have and a gain of another name."""

    def __init__(self) -> None:
        super().__init__()
        self.eps, self.scale = 1e-6, nn.Parameter(torch.full((5,), 2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x / (x.square().mean(1, keepdim=True) + self.eps).sqrt()


@dataclass(frozen=True)
class Own(ModuleModel, name="own"):
    """Layers that no list of dd holds."""

    def module(self, run: Run) -> nn.Module:
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(64, 5)), Scaling())


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning")
def test_parameters_of_unknown_layers_start_as_the_module_starts_them() -> None:
    run = run_with(Own(), seed=3)
    run.model.check(run, lambda key: "")
    drawn = run.model.init([run], 64, 10)
    assert drawn["1.scale"].flatten().tolist() == [2.0] * 5
    norms = drawn["0.weight_v"][0].norm(dim=1)
    assert torch.allclose(drawn["0.weight_g"].flatten(), norms, rtol=1e-6), "weight_norm starts with its weight's norms"


@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: model.name)
def test_good_input_passes(model: ModuleModel) -> None:
    run = run_with(model)
    model.check(run, lambda key: "")


def test_runs_of_one_architecture_share_one_module(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(MLP, "module", lambda self, run: made.append(run.width) or nn.Linear(64, run.width))
    shared_module.cache_clear()
    for seed in range(50):
        run = run_with(MLP(), width=777, seed=seed, n_train=20 + seed, optimizer=SGD())
        run.model.build(run, CPU, torch.float64)
        run.model.features(run, {}, run.model.init([run], 64, 10), samples()[0])
    assert len(made) <= 4, "for names, for sizes, for draws, for passes"
    shared_module.cache_clear()


def test_the_trained_width_is_no_key_of_the_data() -> None:
    run = run_with(MLP())
    assert run.columns == 7
    assert not run.linear
    assert run.replace(width=9).inputs_key == run.inputs_key
    assert run.run_id != run_with(Normed()).run_id
