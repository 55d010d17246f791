"""Kernels of samples against closed forms, and the whole chain against runs of dd on digits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dd.theory.population import kernel, population_spectrum


def inputs(samples: int) -> np.ndarray:
    x = np.random.default_rng(1).standard_normal((samples, 20))
    return x * math.sqrt(20) / np.linalg.norm(x, axis=1, keepdims=True)


def test_relu_has_the_arc_cosine_kernel() -> None:
    x = inputs(30)
    angle = np.arccos(np.clip(x @ x.T / 20, -1, 1))
    expected = (np.sin(angle) + (math.pi - angle) * np.cos(angle)) / (2 * math.pi)
    # w ~ N(0, I/20): |x|² w² has mean 1; 16384 features leave about a hundredth
    np.testing.assert_allclose(kernel(x, "relu"), expected, atol=0.03)


def test_cosines_have_the_gaussian_kernel() -> None:
    x = inputs(30) * 0.7
    apart = np.sum((x[:, None] - x[None]) ** 2, axis=2)
    expected = np.exp(-apart / (2 * 20 * 1.5**2))
    np.testing.assert_allclose(kernel(x, "cosine", bandwidth=1.5), expected, atol=0.03)


def test_weights_on_the_sphere_see_lengths_exactly() -> None:
    x = inputs(5)
    np.testing.assert_allclose(np.diag(kernel(x, "linear", weights="sphere")), 1.0, rtol=0.03)
    assert kernel(x, "tanh", weights="sphere")[0, 0] != kernel(x, "tanh")[0, 0]


def test_the_spectrum_holds_the_power_of_kernel_and_targets() -> None:
    x = inputs(40)
    y = np.eye(4)[np.arange(40) % 4]
    spectrum = population_spectrum(x, y, "tanh")
    assert spectrum.population == 40
    assert spectrum.trace == pytest.approx(np.trace(kernel(x, "tanh")) / 40)
    assert spectrum.power.sum() + spectrum.tail_power == pytest.approx(1.0)
    # what is a feature's eigenfunction is the target's: the kernel applied to the targets
    applied = np.sum(y * (kernel(x, "tanh") @ y)) / 40**2
    assert spectrum.power @ spectrum.eigenvalues == pytest.approx(applied)


def test_targets_outside_the_features_are_in_the_tail() -> None:
    x = inputs(40)
    spectrum = population_spectrum(x, np.ones((40, 1)), "linear")
    assert len(spectrum.eigenvalues) == 20
    seen = x @ np.linalg.lstsq(x, np.ones((40, 1)), rcond=None)[0]
    assert spectrum.power.sum() == pytest.approx(np.sum(seen**2) / 40)
    assert spectrum.tail_power == pytest.approx(1 - np.sum(seen**2) / 40)


def test_other_activations_are_refused() -> None:
    with pytest.raises(ValueError, match="activation='fourier' must be one of"):
        kernel(inputs(4), "fourier")


@pytest.mark.parametrize("normalization", ["scale", "standardize"])
def test_normalised_features_have_variance_one(normalization: str) -> None:
    x = np.random.default_rng(0).standard_normal((300, 20)) + 0.5
    x[:, 3] = 0
    got = kernel(x, "relu", normalization=normalization)
    plain = kernel(x, "relu")
    if normalization == "standardize":
        assert np.trace(got) / len(x) == pytest.approx(1)
        np.testing.assert_allclose(got.sum(axis=0), 0, atol=1e-9)
    else:
        assert np.trace(got) / len(x) > np.trace(plain) / len(x)
        centred = got - got.mean(axis=0) - got.mean(axis=1)[:, None] + got.mean()
        assert np.trace(centred) / len(x) == pytest.approx(1)
    with pytest.raises(ValueError, match="normalization='layer_norm' must be one of none, scale, standardize"):
        kernel(x, "relu", normalization="layer_norm")
