"""Ends of the spectrum and condition numbers: reference values, the Marchenko-Pastur law, Edelman's, simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from dd.theory.activations import coefficients
from dd.theory.edges import EDELMAN_MEDIAN, edges, feature_condition
from dd.theory.random_features import ridgeless_nu
from dd.theory.spectrum import FeatureSpectrum, isotropic

REFERENCE = {  # activation, p/n: x_-, x_+, x_out, nu_0; n = 400, d = 200
    ("tanh", 0.25): (0.1382475, 5.688316, None, 0.002324865),
    ("tanh", 0.5): (0.01297742, 4.185448, None, 0.0005746512),
    ("tanh", 1.0): (0, 3.311825, None, 0.0001286459),
    ("tanh", 2.0): (0.003589657, 2.803486, None, 0.0001286459),
    ("relu", 0.25): (0.2074692, 4.387450, 65.38348, 0.002595896),
    ("relu", 0.5): (0.02987522, 3.166202, 64.69414, 0.001014108),
    ("relu", 1.0): (0, 2.462552, 64.34947, 0.0003698000),
    ("relu", 2.0): (0.01115339, 2.055858, 64.17714, 0.0003698000),
}


@pytest.mark.parametrize(("activation", "ratio"), REFERENCE)
def test_edges_have_their_reference_values(activation: str, ratio: float) -> None:
    low, high, outlier, nu = REFERENCE[activation, ratio]
    n, p = 400, round(400 * ratio)
    got = edges(isotropic(coefficients(activation), 200), n, p)
    assert (got.low, got.high) == pytest.approx((low, high), rel=5e-7)
    assert got.outlier == (None if outlier is None else pytest.approx(outlier, rel=5e-7))
    assert ridgeless_nu(isotropic(coefficients(activation), 200, centred=True), n, p) == pytest.approx(nu, rel=5e-7)


@pytest.mark.parametrize(("n", "p"), [(100, 300), (300, 100), (200, 150)])
def test_features_without_structure_have_the_edges_of_marchenko_and_pastur(n: int, p: int) -> None:
    plain = FeatureSpectrum(np.zeros(0), np.zeros(0), np.zeros(0), tail=2.0)
    got = edges(plain, n, p)
    root = math.sqrt(n / p)
    assert (got.low, got.high) == pytest.approx((2 * (1 - root) ** 2, 2 * (1 + root) ** 2), rel=1e-8)
    assert got.outlier is None


def test_features_of_few_directions_have_no_lower_edge() -> None:
    assert math.isnan(feature_condition(isotropic(coefficients("linear"), 30), 100, 50))


@pytest.mark.parametrize(("activation", "n", "d", "median"), [
    ("tanh", 200, 100, 2945), ("relu", 200, 100, 5444), ("tanh", 200, 20, 5949), ("relu", 100, 400, 1372),
])  # fmt: skip
def test_square_features_have_the_median_of_their_reference(activation: str, n: int, d: int, median: float) -> None:
    assert feature_condition(isotropic(coefficients(activation), d), n, n) == pytest.approx(median, abs=0.5)


def draw(activation: str, n: int, p: int, d: int, seed: int) -> np.ndarray:
    """Singular values of features over √p."""
    generator = np.random.default_rng(seed)
    w = generator.standard_normal((d, p))
    pre = generator.standard_normal((n, d)) @ (w / np.linalg.norm(w, axis=0))
    z = np.tanh(pre) if activation == "tanh" else np.maximum(pre, 0)
    return np.linalg.svd(z / math.sqrt(p), compute_uv=False)


def test_the_smallest_singular_value_of_square_features_has_edelmans_law() -> None:
    n, d = 100, 50
    nu = ridgeless_nu(isotropic(coefficients("tanh"), d), n, n)
    u = np.array([draw("tanh", n, n, d, seed)[-1] for seed in range(200)]) * math.sqrt(n / nu)
    assert scipy.stats.kstest(u, lambda x: -np.expm1(-(x**2 / 2 + x))).pvalue > 1e-3
    # the test can fail
    assert scipy.stats.kstest(1.6 * u, lambda x: -np.expm1(-(x**2 / 2 + x))).pvalue < 1e-3
    assert -math.expm1(-(EDELMAN_MEDIAN**2 / 2 + EDELMAN_MEDIAN)) == pytest.approx(0.5)


@pytest.mark.parametrize("p", [100, 400])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_condition_numbers_are_those_of_a_simulation(activation: str, p: int) -> None:
    n, d = 200, 100
    spectrum = isotropic(coefficients(activation), d)
    draws = [draw(activation, n, p, d, seed) for seed in range(6)]
    # Tracy-Widom: the edges are reached up to relative amounts of n^(-2/3), from inside
    ratio = np.mean([s[0] / s[-1] for s in draws]) / feature_condition(spectrum, n, p)
    assert 0.88 < ratio < 1.01
    outlier = edges(spectrum, n, p).outlier
    if outlier is not None:
        assert np.mean([s[0] ** 2 for s in draws]) == pytest.approx(outlier, rel=0.02)
