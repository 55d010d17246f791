"""Gradient flow on random features: reference values, limits, simulations, dd's own gradient descent."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from dd.theory import isotropic as isotropic_inputs
from dd.theory import units
from dd.theory.activations import coefficients
from dd.theory.flow import descent_time, exponential_poles, flow_risk, heavy_ball_time
from dd.theory.random_features import ridge_risk
from dd.theory.spectrum import FeatureSpectrum, isotropic
from tests.helpers import run_of, solve_rows
from tests.theory.simulation import erf_features
from tests.theory.test_random_features import decaying

TIMES = (0.1, 1, 10, 100, 1e3, 1e5)
REFERENCE = {  # activation, psi1: excess test | train at times t/d; psi2 = 2, noise variance 0.25, from zero
    ("relu", 1): (
        (0.954208, 0.758424, 0.758980, 1.106658, 1.145812, 1.145812),
        (1.164529, 0.765555, 0.406898, 0.349293, 0.348953, 0.348953),
    ),
    ("relu", 2): (
        (0.953118, 0.710947, 0.526992, 0.991958, 2.821566, 27.280713),
        (1.163130, 0.710240, 0.218016, 0.069908, 0.022180, 0.002219),
    ),
    ("tanh", 2): (
        (0.932407, 0.619438, 0.331488, 0.424471, 1.104504, 10.610856),
        (1.137287, 0.627120, 0.193331, 0.075044, 0.024719, 0.002482),
    ),
    ("tanh", 3): (
        (0.931841, 0.598302, 0.273166, 0.347850, 0.711499, 0.832436),
        (1.136589, 0.604573, 0.158464, 0.042829, 0.001322, 0),
    ),
}


def centred(activation: str, d: int) -> FeatureSpectrum:
    return isotropic(coefficients(activation), d, centred=True)


@pytest.mark.parametrize(("count", "error"), [(16, 3e-8), (24, 3e-12), (32, 4e-14)])
def test_the_poles_sum_to_the_exponential(count: int, error: float) -> None:
    x = np.concatenate([[0], np.geomspace(1e-8, 1e6, 200)])
    poles, residues = exponential_poles(count)
    np.testing.assert_allclose(np.sum(residues / (poles + x[:, None]), axis=1), np.exp(-x), atol=error)
    np.testing.assert_allclose(poles[::-1], poles.conj())


@pytest.mark.parametrize(("activation", "psi1"), REFERENCE)
def test_flow_has_its_reference_values(activation: str, psi1: int) -> None:
    d = 50
    risks = [flow_risk(centred(activation, d), 2 * d, psi1 * d, time * d, 0.25) for time in TIMES]
    np.testing.assert_allclose([r.excess for r in risks], REFERENCE[activation, psi1][0], atol=6e-7)
    np.testing.assert_allclose([r.train for r in risks], REFERENCE[activation, psi1][1], atol=6e-7)


@pytest.mark.parametrize("p", [60, 300])
def test_late_flow_is_the_min_norm_solution(p: int) -> None:
    spectrum = isotropic(coefficients("relu"), 60, (1.0, 0.3))
    late, limit = flow_risk(spectrum, 100, p, 1e14, 0.25), ridge_risk(spectrum, 100, p, 0.0, 0.25)
    assert (late.bias, late.variance) == pytest.approx((limit.bias, limit.variance), rel=1e-10)
    assert late.train == pytest.approx(limit.train, rel=1e-10, abs=1e-12)


def test_flow_begins_with_all_of_signal_noise_and_start() -> None:
    spectrum = isotropic(coefficients("relu"), 60, (2.0, 0.3))
    got = flow_risk(spectrum, 100, 80, 1e-9, 0.25, start=0.1)
    # a start with entries of variance 0.1 predicts with variance 0.1 E |z|²
    assert got.total == pytest.approx(2.3 + 0.25 + 0.1 * spectrum.trace, rel=1e-6)
    assert got.train == pytest.approx(got.total, rel=1e-6)


@pytest.mark.parametrize("time", [0.5, 10, 1e3])
@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_infinitely_many_linear_features_are_linear_regression(gamma: float, time: float) -> None:
    n = 1000
    plain = FeatureSpectrum(np.ones(1), np.array([gamma * n]), np.ones(1))
    got = flow_risk(plain, n, 10**15, time, 0.25)
    assert got.excess == pytest.approx(isotropic_inputs.flow_risk(gamma, time, 0.5), rel=1e-10)


def test_test_and_train_errors_are_inverse_at_the_threshold() -> None:
    d = 50
    errors = [flow_risk(centred("tanh", d), 2 * d, 2 * d, time * d, 0.25) for time in (1e3, 1e4, 1e6, 1e8)]
    slopes = [math.log(b.total / a.total) / math.log(b.train / a.train) for a, b in itertools.pairwise(errors)]
    np.testing.assert_allclose(slopes, [-0.859, -0.968, -0.997], atol=6e-4)


@pytest.mark.parametrize(("activation", "constant"), [("tanh", 0.02628), ("erf", 0.02882), ("relu", 0.06035)])
def test_the_product_of_errors_at_the_threshold_is_a_constant(activation: str, constant: float) -> None:
    d = 50
    late = flow_risk(centred(activation, d), 2 * d, 2 * d, 1e10 * d, 0.25)
    assert late.total * late.train == pytest.approx(constant, rel=1.5e-3)


@pytest.mark.parametrize("time", [30.0, 3000.0])
def test_flow_from_a_random_start_is_that_of_a_simulation(time: float) -> None:
    d, n, p = 150, 300, 200
    weights = np.array([1, 0.25, 0.5])
    expected = flow_risk(isotropic(coefficients("erf"), d), n, p, time, 0.25, start=0.5 / p)
    draws = [erf_features(d, n, p, seed)(lambda s: -np.expm1(-time * s**2 / n) / s) for seed in range(6)]
    assert np.mean([e.test @ weights for e in draws]) == pytest.approx(expected.excess, rel=0.015)
    assert np.mean([e.train @ weights for e in draws]) == pytest.approx(expected.train, rel=0.01)
    without = flow_risk(isotropic(coefficients("erf"), d), n, p, time, 0.25)
    start = expected.excess - without.excess
    assert np.mean([e.test[2] for e in draws]) * 0.5 == pytest.approx(start, rel=0.02, abs=2e-4)


def finite_population(size: int, n: int, p: int, time: float, seed: int, noise: float) -> tuple[float, float]:
    """Test and train errors of flow, where n of ``size`` samples are drawn without replacement."""
    generator = np.random.default_rng(seed)
    values = decaying(size)
    vectors = np.linalg.qr(generator.standard_normal((size, size)))[0] * math.sqrt(size)
    features = vectors * np.sqrt(values) @ generator.standard_normal((size, p)) / math.sqrt(p)
    z, rest = features[:n], features[n:]
    u, s, vh = np.linalg.svd(z, full_matrices=False)
    learned = -np.expm1(-time * s**2 / n)
    estimate = vh.T @ ((learned / s)[:, None] * u.T)
    target = vectors * np.sqrt(values / values.sum())
    residual = np.eye(n) - z @ estimate
    test = np.sum((rest @ estimate @ target[:n] - target[n:]) ** 2) + noise * np.sum((rest @ estimate) ** 2)
    return test / (size - n), (np.sum((residual @ target[:n]) ** 2) + noise * np.sum(residual**2)) / n


@pytest.mark.parametrize(("p", "time"), [(60, 100.0), (200, 300.0), (400, 1e3)])
def test_flow_on_a_finite_population_is_that_of_a_simulation(p: int, time: float) -> None:
    size, n, noise = 400, 200, 0.3
    values = decaying(size)
    spectrum = FeatureSpectrum(values, np.ones(size), values / values.sum(), population=size)
    expected = flow_risk(spectrum, n, p, time, noise)
    draws = [finite_population(size, n, p, time, seed, noise) for seed in range(5)]
    assert np.mean([d[0] for d in draws]) == pytest.approx(expected.excess, rel=0.03)
    assert np.mean([d[1] for d in draws]) == pytest.approx(expected.train, rel=0.03)
    independent = flow_risk(replace(spectrum, population=math.inf), n, p, time, noise)
    assert abs(independent.excess / expected.excess - 1) > 0.06


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_effective_time_is_that_of_a_mode_learned_late(momentum: float) -> None:
    h, steps = 1e-6, 500
    distance, velocity = 1.0, 0.0
    for _ in range(steps):
        velocity = momentum * velocity + h * distance
        distance -= velocity
    assert 1 - distance == pytest.approx(heavy_ball_time(h, steps, momentum), rel=1e-2)
    assert heavy_ball_time(0.1, 7, 0.0) == descent_time(0.1, 7)


def test_no_time_is_refused() -> None:
    with pytest.raises(ValueError, match="time=0 must be > 0"):
        flow_risk(centred("tanh", 10), 20, 10, 0)


DD = ("data=linear_teacher", "data.dim=100", "data.n_train=120", "data.n_test=1000", "model.weights=sphere",
      "model.activation=tanh", "batch_size=full", "lr_unit=absolute")  # fmt: skip


@pytest.mark.parametrize(("optimizer", "lr", "budgets"), [
    ("gradient_flow", 40, (10, 30)), ("gd", 4, (100, 300)), ("momentum", 2, (100, 200)),
])  # fmt: skip
@pytest.mark.parametrize("width", [60, 240])
def test_dd_measures_what_the_theory_says(width: int, optimizer: str, lr: float, budgets: tuple[int, int]) -> None:
    # entries of the start have variance 4/width
    base = run_of(*DD, f"optimizer={optimizer}", f"width={width}", f"lr={lr / width}", "steps=1", "init.scale=2")
    spectrum = isotropic(coefficients("tanh"), 100)
    start = units.start("fan_in", width, 1, 2.0)
    rows = solve_rows(*(base.replace(seed=s, data_seed=s, steps=t) for s in range(30) for t in budgets))
    for steps in budgets:
        time = units.time(optimizer, lr / width, steps, width, 1, 0.9)
        expected = flow_risk(spectrum, 120, width, time, 0.25, start)
        for column, value in (("test_loss", expected.excess), ("train_loss", expected.train)):
            measured = np.array([row[column] for row in rows if row["steps"] == steps])
            error = measured.std() / math.sqrt(len(measured))
            # three standard errors, and 5 % for d = 100 and for steps in the place of a flow
            assert abs(measured.mean() - value) < 3 * error + 0.05 * value
            assert error < 0.06 * value
