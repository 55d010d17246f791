"""Normalisations against torch and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from dd.registry import get
from tests.helpers import network_of, row_of, run_of

H = torch.relu(torch.randn(2, 40, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.3)
H[..., 3] = 0.1  # a constant feature


def apply(name: str, features: Tensor, buffers: dict[str, Tensor], *, training: bool, **options: object) -> Tensor:
    component = get("normalization", name)
    settings = {a.key: a.default for a in component.options} | options
    trained = component.trained(features.shape[0], features, settings)
    return component.apply(features, buffers, trained, settings, training=training)


@pytest.mark.parametrize(("name", "with_mean"), [("standardize", True), ("scale", False)])
def test_fitted_scaling_is_scikit_learns_and_constants_vanish(name: str, with_mean: bool) -> None:
    buffers = get("normalization", name).fit(H, {})
    ours = apply(name, H, buffers, training=False)
    varying = [0, 1, 2, 4, 5, 6]
    for i in range(2):
        theirs = StandardScaler(with_mean=with_mean).fit_transform(H[i].numpy())
        np.testing.assert_allclose(ours[i, :, varying], theirs[:, varying], atol=1e-12)
    assert torch.all(ours[..., 3].abs() < 1e-12)


@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_layer_norm_is_torchs(eps: float) -> None:
    expected = nn.functional.layer_norm(H, (7,), eps=eps)
    torch.testing.assert_close(apply("layer_norm", H, {}, training=True, eps=eps), expected, rtol=1e-12, atol=1e-12)


def test_batch_norm_is_torchs_in_training_and_evaluation() -> None:
    component = get("normalization", "batch_norm")
    buffers = component.fit(H, {})
    layers = [nn.BatchNorm1d(7).double() for _ in range(2)]
    for start in (0, 10, 20, 33):
        batch = H[:, start : start + 10]
        ours = apply("batch_norm", batch, buffers, training=True)
        for i in range(2):
            torch.testing.assert_close(ours[i], layers[i](batch[i]), rtol=1e-12, atol=1e-12)
    for i in range(2):
        layers[i].eval()
        torch.testing.assert_close(apply("batch_norm", H, buffers, training=False)[i], layers[i](H[i]))
        torch.testing.assert_close(buffers["variance"][i, 0], layers[i].running_var)


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
