"""Ridge and gradient flow on isotropic inputs: reference values, limits, a simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dd.theory.isotropic import flow_errors, flow_risk, min_norm_risk, ridge_errors, ridge_risk

RIDGE = {  # gamma: l = 0, 1e-3, 0.1, 1; |b| = 1, noise variance 0.25
    0.25: (0.08333333, 0.08304038, 0.07719385, 0.31304273),
    0.5: (0.25, 0.24802573, 0.17678373, 0.37545945),
    1.0: (math.inf, 3.84513865, 0.44112989, 0.48991869),
    1.1: (2.59090909, 2.17043034, 0.48578832, 0.51040673),
    2.0: (0.75, 0.74900547, 0.68652866, 0.65533009),
}

FLOW = {  # gamma: t = 0.5, 10, 1e3, 1e5
    0.5: (0.4689050567, 0.2108377397, 0.25, 0.25),
    1.0: (0.5516001790, 0.5305560531, 5.1139146866, 52.1321191640),
}


@pytest.mark.parametrize("gamma", RIDGE)
def test_ridge_has_its_reference_values(gamma: float) -> None:
    got = [ridge_risk(gamma, ridge, 0.5) for ridge in (0, 1e-3, 0.1, 1)]
    np.testing.assert_allclose(got, RIDGE[gamma], atol=5e-9)


@pytest.mark.parametrize("gamma", FLOW)
def test_flow_has_its_reference_values(gamma: float) -> None:
    got = [flow_risk(gamma, time, 0.5) for time in (0.5, 10, 1e3, 1e5)]
    np.testing.assert_allclose(got, FLOW[gamma], atol=6e-11)


@pytest.mark.parametrize(("n", "p"), [(20_000, 7_000), (20_000, 50_000)])
def test_the_limit_without_ridge_is_that_of_the_exact_mean(n: int, p: int) -> None:
    assert ridge_risk(p / n, 0.0, 0.5) == pytest.approx(min_norm_risk(n, p, 0.5), rel=1e-3)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_late_flow_is_the_min_norm_solution(gamma: float) -> None:
    assert flow_risk(gamma, 1e6, 0.5, signal=2.0) == pytest.approx(ridge_risk(gamma, 0.0, 0.5, signal=2.0), rel=1e-10)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_ridge_and_flow_are_those_of_a_simulation(gamma: float) -> None:
    n, ridge, time = 300, 0.01, 20.0
    p = int(gamma * n)
    measured = []
    for seed in range(8):
        x = np.random.default_rng(seed).standard_normal((n, p))
        curvature = np.linalg.svd(x, compute_uv=False) ** 2 / n
        # averaged over direction and noise: only the spectrum is left
        draw = []
        for left in (ridge / (curvature + ridge), np.exp(-time * curvature)):
            unseen, unfitted = p - len(curvature), n - len(curvature)
            draw += [
                (np.sum(left**2) + unseen) / p,
                0.25 / n * np.sum((1 - left) ** 2 / curvature),
                np.sum(curvature * left**2) / p + 0.25 * (np.sum(left**2) + unfitted) / n,
            ]
        measured.append(draw)
    errors = ridge_errors(gamma, ridge, 0.25), flow_errors(gamma, time, 0.25)
    expected = [v for risk in errors for v in (risk.bias, risk.variance, risk.train)]
    np.testing.assert_allclose(np.mean(measured, axis=0), expected, rtol=0.02, atol=1e-4)
    assert errors[0].excess == ridge_risk(gamma, ridge, 0.5)
    assert errors[1].excess == flow_risk(gamma, time, 0.5)
    assert errors[0].total == errors[0].excess + 0.25
