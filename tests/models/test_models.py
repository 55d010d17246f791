"""Model families against plain torch, and the nesting of their random numbers.

Covers: dd/components/model.py, dd/models.
"""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from torch import nn

from dd.components.model import ACTIVATIONS
from dd.initializations.default import Default
from dd.initializations.fan_in import FanIn
from dd.models.random_features import RandomFeatures
from dd.models.two_layer import TwoLayer
from dd.runs.run import Run
from tests.helpers import network_of, run_of

X = torch.randn(20, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SMALL = ("data.n_train=50", "data.n_test=20", "batch_size=full")


def frozen_of(run: Run) -> dict[str, torch.Tensor]:
    return {k: torch.from_numpy(v) for k, v in run.model.draw_frozen(run, 64).items()}


def features(*overrides: str) -> torch.Tensor:
    run = run_of(*overrides)
    model = run.model
    return model.features(run, frozen_of(run), model.init([run], 64, 10), model.prepare(run, X))


FUNCTIONS = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "relu_centered": lambda x: nn.functional.relu(x) - 0.3989422804014327,
    "abs": lambda x: nn.functional.relu(x) + nn.functional.relu(-x),
    "linear": nn.Identity(),
    "softsign": nn.functional.softsign,
    "elu": nn.functional.elu,
}


def test_every_activation_has_an_oracle() -> None:
    assert set(RandomFeatures.axes()["activation"].choices) == {*FUNCTIONS, "fourier", "cosine"}


@pytest.mark.parametrize("weights", ["gaussian", "sphere"])
@pytest.mark.parametrize("activation", [*FUNCTIONS, "fourier", "cosine"])
def test_narrow_features_are_the_first_of_wide_ones(activation: str, weights: str) -> None:
    options = (f"model.activation={activation}", f"model.weights={weights}")
    narrow, wide = (features(*options, f"width={w}") for w in (37, 500))
    assert narrow.shape == (1, 20, 37)
    assert torch.equal(narrow, wide[..., :37])


def test_weights_are_scaled_by_the_input_dimension() -> None:
    run = run_of("width=4000")
    frozen = frozen_of(run)
    assert frozen["features"].shape == (64, 4000)
    assert float(frozen["features"].var()) == pytest.approx(1 / 64, rel=0.02)


def test_weights_on_the_sphere_are_the_gaussian_ones_scaled_to_norm_one() -> None:
    gaussian, sphere = (
        frozen_of(run_of("width=300", f"model.weights={w}"))["features"] for w in ("gaussian", "sphere")
    )
    torch.testing.assert_close(torch.linalg.vector_norm(sphere, dim=0), torch.ones(300, dtype=torch.float64))
    torch.testing.assert_close(sphere, nn.functional.normalize(gaussian, dim=0))


@pytest.mark.parametrize(("activation", "function"), FUNCTIONS.items())
def test_features_are_activated_projections(activation: str, function: object) -> None:
    run = run_of(f"model.activation={activation}", "width=30")
    expected = function(X @ frozen_of(run)["features"])
    torch.testing.assert_close(features(f"model.activation={activation}", "width=30")[0], expected)


@pytest.mark.parametrize("activation", ["fourier", "cosine"])
@pytest.mark.parametrize("bandwidth", [0.5, 2.0])
def test_fourier_and_cosine_features_approximate_the_gaussian_kernel(bandwidth: float, activation: str) -> None:
    z = features(f"model.activation={activation}", f"model.bandwidth={bandwidth}", "width=40000")[0]
    distance = torch.cdist(X, X).square() / 64
    torch.testing.assert_close(z @ z.T / 40000, torch.exp(-distance / (2 * bandwidth**2)), rtol=0, atol=0.03)


def test_odd_fourier_width_ends_on_a_cosine() -> None:
    three, four = (features("model.activation=fourier", f"width={w}") for w in (3, 4))
    torch.testing.assert_close(three, four[..., :3])
    torch.testing.assert_close(three[..., 0].square() + three[..., 1].square(), torch.full((1, 20), 2.0).double())


def test_cosine_phases_have_a_stream_of_their_own() -> None:
    run = run_of("model.activation=cosine", "model.bandwidth=3", "width=30")
    frozen = frozen_of(run)
    torch.testing.assert_close(frozen["features"], frozen_of(run_of("width=30"))["features"])
    expected = math.sqrt(2) * torch.cos(X @ frozen["features"] / 3 + frozen["phase"])
    torch.testing.assert_close(features("model.activation=cosine", "model.bandwidth=3", "width=30")[0], expected)


def test_cosine_phases_are_uniform() -> None:
    phase = frozen_of(run_of("model.activation=cosine", "width=4000"))["phase"] / (2 * math.pi)
    assert scipy.stats.kstest(phase.numpy(), "uniform").pvalue > 0.01


def test_the_bandwidth_is_no_axis_of_other_activations() -> None:
    ids = {a: {run_of(f"model.activation={a}", f"model.bandwidth={b}").run_id for b in (1, 2)} for a in FUNCTIONS}
    assert {len(found) for found in ids.values()} == {1}
    assert run_of("model.activation=cosine").run_id != run_of("model.activation=cosine", "model.bandwidth=2").run_id


def test_bias_column_is_the_last_one_and_counts_as_parameters() -> None:
    with_bias, without = (network_of(run_of("width=30", f"model.bias={b}", *SMALL)) for b in ("true", "false"))
    assert with_bias.parameters == 310
    assert without.parameters == 300
    assert torch.all(with_bias.train.inputs[0, :, -1] == 1)
    torch.testing.assert_close(with_bias.train.inputs[..., :-1], without.train.inputs)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("bias", [True, False])
def test_two_layer_net_is_torchs(activation: str, bias: bool) -> None:
    run = run_of("model=two_layer", f"model.activation={activation}", f"model.bias={bias}", "width=12", *SMALL)
    network = network_of(run)
    theta = network.named(network.theta)
    middle = nn.ReLU() if activation == "relu" else nn.Tanh()
    net = nn.Sequential(nn.Linear(64, 12, bias), middle, nn.Linear(12, 10, bias)).double()
    with torch.no_grad():
        for layer, name in ((net[0], "hidden"), (net[2], "readout")):
            weight = theta.named[name][0]
            layer.weight.copy_(weight[:, :-1] if bias else weight)
            if bias:
                layer.bias.copy_(weight[:, -1])
    assert network.parameters == sum(p.numel() for p in net.parameters())
    torch.testing.assert_close(network.outputs(theta, network.train.inputs, {})[0], net(network.problem.train_x))


def test_two_layer_weights_are_nested_up_to_the_readouts_scale() -> None:
    narrow, wide = (run_of("model=two_layer", f"width={w}") for w in (10, 300))
    small = narrow.model.init([narrow], 64, 10)
    large = wide.model.init([wide], 64, 10)
    torch.testing.assert_close(small["hidden"], large["hidden"][:, :10])
    ratio = math.sqrt(300 / 10)
    torch.testing.assert_close(small["readout"][..., :10], large["readout"][..., :10] * ratio)


@pytest.mark.parametrize(
    ("overrides", "width"),
    [
        ((), 500),
        (("model.bias=true",), 499),
        (("model=linear", "width=64", "data.n_train=50", "batch_size=full"), 50),
        (("model=two_layer", "model.bias=false"), 5000 / 74),
        (("model=two_layer",), (5000 - 10) / 75),
    ],
)
def test_interpolation_width(overrides: tuple[str, ...], width: float) -> None:
    run = run_of(*overrides)
    assert run.model.interpolation_width(run, 64, 10) == pytest.approx(width)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("init", [None, Default()])
def test_a_family_has_its_own_scheme(init: Default | None, bias: bool) -> None:
    run = run_of("model=linear", "width=40", f"model.bias={str(bias).lower()}", *SMALL).replace(init=init)
    own = run.model.init([run], 64, 10)["readout"]
    assert torch.equal(own, run.model.init([run.replace(init=FanIn())], 64, 10)["readout"])
    assert own.shape == (1, 10, 40 + bias)


def test_any_activation_of_the_table_serves_two_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIVATIONS, "softplus", nn.functional.softplus)
    run = run_of("model=two_layer", "width=12", "model.bias=false").replace(model=TwoLayer("softplus", bias=False))
    weights = run.model.init([run], 64, 10)
    expected = nn.functional.softplus(X @ weights["hidden"][0].T)
    torch.testing.assert_close(run.model.features(run, {}, weights, run.model.prepare(run, X))[0], expected)


@pytest.mark.parametrize("model", ["linear", "random_features", "two_layer"])
def test_the_parameters_of_a_plan_are_right_up_to_biases(model: str) -> None:
    run = run_of(f"model={model}", "width=12")
    exact = sum(v.numel() for v in run.model.init([run], 64, 10).values())
    assert run.model.parameter_count(run) == pytest.approx(exact, abs=12)


def test_matrices_and_vectors_are_views_without_biases() -> None:
    run = run_of("model=two_layer", "width=12")
    named = run.model.init([run], 64, 10) | {"gain": torch.ones(1, 1, 12)}
    parts = run.model.split(run, named)
    assert [tuple(part.shape[1:]) for part in parts] == [(12, 64), (12,), (10, 12), (10,), (12,)]
    assert all(part._base is not None for part in parts)
