"""Hermite coefficients against closed forms, and activations against dd's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dd.models.random_features import ELEMENTWISE
from dd.theory.activations import FUNCTIONS, coefficients

PI = math.pi
PHI1 = (1 + math.erf(-1 / math.sqrt(2))) / 2  # N(0, 1) below -1
PHI2 = (1 + math.erf(-2 / math.sqrt(2))) / 2

CLOSED_FORMS = {  # mu_0, mu_1, E act(g)²
    "relu": (1 / math.sqrt(2 * PI), 0.5, 0.5),
    "relu_centered": (0.0, 0.5, 0.5 - 1 / (2 * PI)),
    "abs": (math.sqrt(2 / PI), 0.0, 1.0),
    "linear": (0.0, 1.0, 1.0),
    "erf": (0.0, 2 / math.sqrt(3 * PI), 2 / PI * math.asin(2 / 3)),
    # E [exp(g) - 1; g < 0] and its like, from E [exp(c g); g < 0] = exp(c²/2) P(g < -c)
    "elu": (
        1 / math.sqrt(2 * PI) + math.exp(0.5) * PHI1 - 0.5,
        0.5 + math.exp(0.5) * PHI1,
        0.5 + math.exp(2) * PHI2 - 2 * math.exp(0.5) * PHI1 + 0.5,
    ),
}


def test_the_functions_are_those_of_dd() -> None:
    g = torch.linspace(-6, 6, 501, dtype=torch.float64)
    assert FUNCTIONS.keys() == ELEMENTWISE.keys()
    for name, function in FUNCTIONS.items():
        np.testing.assert_allclose(function(g.numpy()), ELEMENTWISE[name](g).numpy(), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("activation", CLOSED_FORMS)
def test_coefficients_are_the_closed_forms(activation: str) -> None:
    mean, linear, square = CLOSED_FORMS[activation]
    got = coefficients(activation)
    np.testing.assert_allclose(got.power, [mean**2, linear**2], atol=1e-13)
    assert got.rest == pytest.approx(square - mean**2 - linear**2, abs=1e-13)


def test_tanh_has_its_published_coefficients() -> None:
    got = coefficients("tanh")
    assert got.power[0] == 0
    assert math.sqrt(got.power[1]) == pytest.approx(0.6057055096, abs=1e-10)
    assert math.sqrt(got.rest) == pytest.approx(0.1655757411, abs=1e-10)


def test_softsign_agrees_with_a_fine_sum() -> None:
    g = np.linspace(-12, 12, 400_001)
    density = np.exp(-(g**2) / 2) / math.sqrt(2 * PI) * (g[1] - g[0])
    value = g / (1 + np.abs(g))
    got = coefficients("softsign")
    assert got.power[1] == pytest.approx(np.sum(density * value * g) ** 2, abs=1e-9)
    assert sum(got.power) + got.rest == pytest.approx(np.sum(density * value**2), abs=1e-9)


def test_relu_has_its_higher_degrees() -> None:
    # mu_k² of ReLU: 1/(4 pi) at k = 2, nothing at odd k >= 3, 1/(48 pi) at k = 4
    got = coefficients("relu", degree=4)
    np.testing.assert_allclose(got.power[2:], [1 / (4 * PI), 0, 1 / (48 * PI)], atol=1e-14)
    assert sum(got.power) + got.rest == pytest.approx(0.5, abs=1e-13)


def test_cosine_is_averaged_over_its_phase() -> None:
    phase = (np.arange(200) + 0.5) * (2 * PI / 200)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    value = math.sqrt(2) * np.cos(nodes / 1.5 + phase[:, None])
    weights = weights / math.sqrt(2 * PI)
    got = coefficients("cosine", degree=2, bandwidth=1.5)
    for k, hermite in enumerate([np.ones(80), nodes, (nodes**2 - 1) / math.sqrt(2)]):
        assert got.power[k] == pytest.approx(np.mean((value @ (weights * hermite)) ** 2), rel=1e-12)
    assert sum(got.power) + got.rest == pytest.approx(1.0)


def test_pairs_have_no_coefficients() -> None:
    with pytest.raises(ValueError, match="activation='fourier' must be one of"):
        coefficients("fourier")
