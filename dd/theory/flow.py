"""Gradient flow on random features, for any spectrum of their kernel, and the effective time of gradient descent.

exp(-t H) is written as a sum of resolvents of H = ZᵀZ/n; the error of the flow is then a sum of products of the errors
of ridge estimators at complex penalties (``dd.theory.random_features.pair_risk``). The two-point equivalents are those
of Atanasov et al. (arXiv 2502.05074); the poles are those of Weideman & Trefethen's hyperbola (2007).
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from dd.theory.random_features import Risk, pair_risk, penalty, solve_nu
from dd.theory.spectrum import Array, FeatureSpectrum

POLES = 32
"""Resolvents in a sum: the error of exp(-x) is 3e-14 with 32, 2e-12 with 24 or fewer, 2e-13 with 40."""

TURNS = 48
"""Steps in which the argument of a penalty is turned from the real axis."""

NEWTON = 8
"""Newton iterations at most after each turn."""


@cache
def exponential_poles(count: int = POLES) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Poles z_k and residues r_k with exp(-x) = sum_k r_k/(z_k + x) for x >= 0; each [count], ``count`` even.

    They come in conjugate pairs, the k-th with the (count - 1 - k)-th.
    """
    phi = math.pi * (2 * np.arange(count) + 1 - count) / count
    angle = 1.1721 - 0.3443j * phi
    poles = 2.246 * count * (1 - np.sin(angle))
    slope = 2.246 * count * 0.3443j * np.cos(angle)
    return poles, np.exp(poles) * slope / (1j * count)


def complex_nu(spectrum: FeatureSpectrum, n: float, p: float, lam: Array) -> Array:
    """Roots nu of the penalty equation at complex penalties, [points].

    Each is followed from the root at |lam| while the argument is turned; Im nu has the sign of Im lam throughout.
    """
    angle = np.angle(lam)
    nu = np.array([solve_nu(spectrum, n, p, size) for size in np.abs(lam)], dtype=np.complex128)
    for turn in range(1, TURNS + 1):
        target = np.abs(lam) * np.exp(1j * angle * turn / TURNS)
        for _ in range(NEWTON):
            step = (penalty(spectrum, n, p, nu) - target) / _penalty_slope(spectrum, n, p, nu)
            nu = nu - step
            if np.all(np.abs(step) < 1e-15 * np.abs(nu)):
                break
    if not np.all(nu.imag * lam.imag > 0):
        raise ArithmeticError("a root of the penalty equation was lost")
    found: Array = nu
    return found


def _penalty_slope(spectrum: FeatureSpectrum, n: float, p: float, nu: Array) -> Array:
    """Derivative of :func:`penalty` in nu."""
    freedom, slope = spectrum.freedom(nu), spectrum.freedom_slope(nu)
    scarce = 1 / spectrum.population
    samples, features, rest = n - freedom, 1 - freedom / p, 1 - freedom * scarce
    product = samples * features / rest
    found: Array = product + nu * slope * (product * scarce - features - samples / p) / rest
    return found


def flow_risk(
    spectrum: FeatureSpectrum, n: float, p: float, time: float, noise: float = 0.0, start: float = 0.0
) -> Risk:
    """Mean squared errors of gradient flow on (1/2n)|y - Z w|² from a random start.

    Args:
        spectrum: of the features, with the target in it.
        n: training samples, fewer than the population has.
        p: features.
        time: t > 0, in units of 1/curvature of H = ZᵀZ/n; ``dd.theory.units`` converts dd's steps.
        noise: variance of the noise on targets, over all outputs.
        start: variance of the entries of w(0), over all outputs; v/p in the notation of docs/theory.md. Its part is
            in ``bias``.

    Returns:
        The errors, to 1e-10 of the sum of target power and noise.

    Raises:
        ValueError: a ``time`` that is not positive, or a population that has no samples left to test on.
    """
    if not time > 0:
        raise ValueError(f"time={time} must be > 0")
    poles, residues = exponential_poles()
    nu = _nu_of_poles(spectrum, n, p, n * poles / time)
    share = residues / poles
    both, clean = (float((share @ product @ share).real) for product in pair_risk(spectrum, n, p, nu, noise, start))
    other = float((share @ spectrum.other_target(nu)).real) + spectrum.apart
    lam = n * poles / (2 * time)
    nu = _nu_of_poles(spectrum, n, p, lam)
    freedom = spectrum.freedom(nu)
    left = (n - freedom) / n * (noise + spectrum.left_power(nu) / (1 - freedom * (1 / spectrum.population)))
    train = float((share @ (left + start * lam * freedom / n)).real)
    return Risk(max(clean + other, 0.0), max(both - noise - clean, 0.0), max(train, 0.0), noise)


def _nu_of_poles(spectrum: FeatureSpectrum, n: float, p: float, lam: Array) -> Array:
    """Roots at penalties in conjugate pairs, in the order of :func:`exponential_poles`."""
    half = complex_nu(spectrum, n, p, lam[: len(lam) // 2])
    return np.concatenate([half, half[::-1].conj()])


def descent_time(step: float, steps: float) -> float:
    """Time of gradient flow that ``steps`` steps of gradient descent of size ``step`` take."""
    return step * steps


def heavy_ball_time(step: float, steps: float, momentum: float) -> float:
    """Time of gradient flow that heavy ball takes, for directions it learns late: velocity starts at the gradient.

    step (T/(1 - beta) - beta (1 - beta^T)/(1 - beta)²). The first T ~ 10/(1 - beta) steps are not a flow.
    """
    gone = -math.expm1(steps * math.log(momentum)) if momentum > 0 else 1.0
    return step * (steps / (1 - momentum) - momentum * gone / (1 - momentum) ** 2)
