"""Residual polynomials against 60-digit arithmetic and plain recursions."""

from __future__ import annotations

from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch

from dd.components import polynomials

STEPS = [0, 1, 2, 3, 10, 1000, 10**6, 10**9, 10**12]


def by_matrix_power(h: float, steps: int, det: object, first: object) -> object:
    """P_T of P_{k+1} = (1 + det - h) P_k - det P_{k-1} by repeated squaring in high precision."""
    if steps == 0:
        return mpmath.mpf(1)
    matrix = mpmath.matrix([[1 + det - h, -det], [1, 0]])
    return (matrix ** (steps - 1) * mpmath.matrix([1 - first, 1]))[0]


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.95, 0.999, 0.9999])
@pytest.mark.parametrize("method", ["heavy_ball", "nesterov"])
def test_two_term_recursions_at_any_number_of_steps(method: str, momentum: float) -> None:
    """Both sides of the double roots, complex pairs, tiny and unstable curvatures."""
    double = (1 - momentum**0.5) ** 2, (1 + momentum**0.5) ** 2
    values = [0, 1e-20, 1e-12, 1e-6, 1e-3, 0.1, 0.5, 1.0, 1.3, 1.9, 2.5]
    values += [d * (1 + e) for d in double for e in (0, 1e-9, -1e-9, 1e-13, 1e-4)]
    function: Callable[..., polynomials.Response] = getattr(polynomials, method)
    got = function(torch.tensor(values, dtype=torch.float64), STEPS, momentum)
    with mpmath.workdps(60):
        mu = mpmath.mpf(momentum)
        for j, value in enumerate(values):
            h = mpmath.mpf(value)
            det, first = (mu, h) if method == "heavy_ball" else (mu * (1 - h), (1 + mu) * h)
            for i, steps in enumerate(STEPS):
                expected = by_matrix_power(h, steps, det, first)
                if abs(expected) > (mpmath.mpf(10) ** 290 if steps <= 1000 else 100):
                    continue  # diverges: beyond double roots the rate is known to sqrt(eps) only
                case = f"{method} mu={momentum} h={value} T={steps}"
                # where the recursion neither grows nor falls, its phase is known to T · eps
                slack = 1e-15 * steps if 0.01 < abs(expected) < 100 and steps > 1000 else 0.0
                assert got.residual[i, j].item() == pytest.approx(
                    float(expected), rel=2e-10 + slack, abs=1e-14 + slack
                ), case
                if value:
                    removed = float(1 - expected)
                    assert got.filter[i, j].item() == pytest.approx(
                        removed, rel=3e-9 + slack, abs=1e-15 * value + slack
                    ), case


def test_gradient_descent_and_flow_keep_small_numbers() -> None:
    h = [1e-20, 1e-9, 0.3, 1.0, 1.7, 2.0, 2.1]
    descent = polynomials.gradient_descent(torch.tensor(h, dtype=torch.float64), STEPS)
    flow = polynomials.gradient_flow(torch.tensor(h, dtype=torch.float64), STEPS)
    with mpmath.workdps(60):
        for j, value in enumerate(h):
            for i, steps in enumerate(STEPS):
                exact = (1 - mpmath.mpf(value)) ** steps
                if abs(exact) < mpmath.mpf(10) ** 300:
                    assert descent.residual[i, j].item() == pytest.approx(float(exact), rel=1e-12, abs=1e-300)
                    assert descent.filter[i, j].item() == pytest.approx(float(1 - exact), rel=1e-12, abs=1e-300)
                exact = mpmath.exp(-mpmath.mpf(value) * steps)
                assert flow.residual[i, j].item() == pytest.approx(float(exact), rel=1e-12, abs=1e-300)
                assert flow.filter[i, j].item() == pytest.approx(float(1 - exact), rel=1e-12, abs=1e-300)


def test_chebyshev_is_the_polynomial() -> None:
    low, high = 1e-3, 2.0
    curvature = np.array([0.0, 1e-9, 5e-4, 1e-3, 0.01, 0.7, 1.999, 2.0])
    steps = [0, 1, 2, 7, 100, 10**12]
    got = polynomials.chebyshev(torch.tensor(curvature), steps, low, high)
    with mpmath.workdps(60):
        middle = mpmath.mpf(high) + low
        for j, c in enumerate(curvature):
            for i, t in enumerate(steps[:-1]):
                top = mpmath.chebyt(t, (middle - 2 * mpmath.mpf(c)) / (mpmath.mpf(high) - low))
                exact = top / mpmath.chebyt(t, middle / (mpmath.mpf(high) - low))
                assert got.residual[i, j].item() == pytest.approx(float(exact), rel=1e-11, abs=1e-15)
                assert got.filter[i, j].item() == pytest.approx(float(1 - exact), rel=1e-9, abs=1e-15)
                small = 0.0 < c < low
                slack = 1e-300 if small else 1e-15
                assert got.filter[i, j].item() == pytest.approx(float(1 - exact), rel=1e-9, abs=slack), (
                    "below the interval"
                )
    assert got.residual[-1].tolist() == pytest.approx([1.0, *[0.0] * 7])


def test_chebyshev_on_a_single_curvature_solves_at_once() -> None:
    got = polynomials.chebyshev(torch.tensor([0.5, 0.0], dtype=torch.float64), [0, 1, 5], 0.5, 0.5)
    assert got.residual.tolist() == [[1, 1], [0, 1], [0, 1]]


def test_conjugate_gradient_ends_with_as_many_steps_as_curvatures() -> None:
    curvature = torch.tensor([0.0, 1e-6, 1e-3, 0.2, 0.2, 1.0], dtype=torch.float64)
    modes = polynomials.Modes(curvature, torch.ones(6, dtype=torch.float64), 1e-6, 1.0)
    got = polynomials.conjugate_gradient(modes, [0, 1, 3, 4, 10**12])
    assert got.residual[0].tolist() == [1] * 6
    assert got.residual[:, 0].tolist() == [1] * 5, "what the loss does not see stays"
    assert float(got.residual[2, 1:].abs().max()) > 1e-3
    assert float(got.residual[3, 1:].abs().max()) < 1e-9, "four different curvatures"
    assert got.filter[4, 1:].tolist() == pytest.approx([1] * 5)


@pytest.mark.parametrize("momentum", [0.3, 0.9])
@pytest.mark.parametrize("method", ["heavy_ball", "nesterov"])
def test_decay_rate_is_the_spectral_radius(method: str, momentum: float) -> None:
    h = np.array([1e-8, 1e-3, 0.1, 0.5, 1.2, 2.0, 3.5])
    det = np.full_like(h, momentum) if method == "heavy_ball" else momentum * (1 - h)
    got = polynomials.decay_rate(torch.tensor(h), torch.tensor(det))
    for value, d, rate in zip(h, det, got.tolist(), strict=True):
        roots = np.linalg.eigvals(np.array([[1 + d - value, -d], [1, 0]]))
        assert rate == pytest.approx(1 - max(abs(roots)), rel=1e-6, abs=1e-12)
