"""Normalisations against torch and scikit-learn.

Covers: dd/components/normalization.py, dd/normalizations.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from dd.components.normalization import Normalization
from dd.runs.registry import kind, names
from tests.helpers import network_of, row_of, run_of

H = torch.relu(torch.randn(2, 40, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.3)
H[..., 3] = 0.1  # a constant feature


def made(name: str, **options: object) -> Normalization:
    component = kind("normalization", name)(**options)
    assert isinstance(component, Normalization)
    return component


def apply(component: Normalization, features: Tensor, buffers: dict[str, Tensor], *, training: bool) -> Tensor:
    trained = component.trained(features.shape[0], features)
    return component.apply(features, buffers, trained, training=training)


@pytest.mark.parametrize(("name", "with_mean"), [("standardize", True), ("scale", False)])
def test_fitted_scaling_is_scikit_learns_and_constants_vanish(name: str, with_mean: bool) -> None:
    component = made(name)
    ours = apply(component, H, component.fit(H), training=False)
    varying = [0, 1, 2, 4, 5, 6]
    for i in range(2):
        theirs = StandardScaler(with_mean=with_mean).fit_transform(H[i].numpy())
        np.testing.assert_allclose(ours[i, :, varying], theirs[:, varying], atol=1e-12)
    assert torch.all(ours[..., 3].abs() < 1e-12)


@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_layer_norm_is_torchs(eps: float) -> None:
    expected = nn.functional.layer_norm(H, (7,), eps=eps)
    ours = apply(made("layer_norm", eps=eps), H, {}, training=True)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("eps", "momentum"), [(1e-5, 0.1), (1e-2, 0.7)])
def test_batch_norm_is_torchs_in_training_and_evaluation(eps: float, momentum: float) -> None:
    component = made("batch_norm", eps=eps, momentum=momentum)
    assert component.memory == momentum
    buffers = component.fit(H)
    layers = [nn.BatchNorm1d(7, eps, momentum).double() for _ in range(2)]
    for start in (0, 10, 20, 33):
        batch = H[:, start : start + 10]
        ours = apply(component, batch, buffers, training=True)
        for i in range(2):
            torch.testing.assert_close(ours[i], layers[i](batch[i]), rtol=1e-12, atol=1e-12)
    for i in range(2):
        layers[i].eval()
        torch.testing.assert_close(apply(component, H, buffers, training=False)[i], layers[i](H[i]))
        torch.testing.assert_close(buffers["variance"][i, 0], layers[i].running_var)


@pytest.mark.parametrize("name", names("normalization"))
def test_what_is_declared_is_so(name: str) -> None:
    """Gain and shift where it trains, batch statistics where it says so, the identity where it is not fitted."""
    component = made(name)
    assert set(component.trained(2, H)) == ({"gain", "shift"} if component.trains else set())
    buffers = component.fit(H)
    whole = apply(component, H, dict(buffers), training=True)
    parts = torch.cat([apply(component, part, dict(buffers), training=True) for part in H.split(20, dim=1)], dim=1)
    assert torch.allclose(whole, parts, rtol=1e-12) is not component.batch_dependent
    assert torch.equal(whole, H) is not component.fitted
    assert (component.memory is None) is not component.batch_dependent


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm"])
def test_gain_and_shift_follow_the_normalised_features(name: str) -> None:
    component, plain = made(name), made(name, affine=False)
    assert not plain.trains
    trained = {"gain": torch.full((2, 1, 7), 2.0).double(), "shift": torch.full((2, 1, 7), 3.0).double()}
    ours = component.apply(H, component.fit(H), trained, training=True)
    torch.testing.assert_close(ours, 2 * apply(plain, H, plain.fit(H), training=True) + 3)


def test_standardize_without_bias_loses_one_rank_and_with_bias_does_not() -> None:
    common = ("width=80", "data.n_train=60", "batch_size=full", "optimizer=min_norm", "normalization=standardize")
    assert row_of(*common)["feature_rank"] == 59
    assert row_of(*common, "model.bias=true")["feature_rank"] == 60


def test_gain_and_shift_are_trained() -> None:
    row = row_of("width=20", "normalization=batch_norm", "steps=5")
    assert row["parameters"] == 20 * 10 + 2 * 20
    plain = row_of("width=20", "normalization=batch_norm", "normalization.affine=false", "steps=5")
    assert plain["parameters"] == 200


def test_stack_keeps_running_statistics_apart() -> None:
    runs = [run_of("width=9", "model=two_layer", "normalization=batch_norm", f"init.scale={s}") for s in (1, 2)]
    network = network_of(*runs)
    theta = network.named(network.theta)
    network.outputs(theta, network.train.inputs, network.buffers, training=True)
    one, two = network.buffers["mean"]
    torch.testing.assert_close(two, 2 * one)
