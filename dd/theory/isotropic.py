"""Risk of least squares on isotropic Gaussian inputs: min-norm (exact), ridge and gradient flow (in the limit)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dd.theory.random_features import Risk


def min_norm_risk(n: int, p: int, noise: float, dim: int | None = None) -> float:
    """Mean excess risk of min-norm least squares on the first ``p`` of ``dim`` Gaussian inputs.

    The target is <b, x> with |b| = 1 and a uniformly random direction, inputs are N(0, I_dim). The inputs that the
    model does not see act as noise: with share s = p/dim of the signal seen and v = noise² + 1 - s,

        p <  n - 1:  v p/(n - p - 1) + (1 - s)
        p >  n + 1:  s (1 - n/p) + v n/(p - n - 1) + (1 - s)

    and infinity between (mean over inverse-Wishart matrices; Belkin, Hsu & Xu, arXiv 1903.07571; Hastie et al.,
    arXiv 1903.08560 for the limit).

    Args:
        n: training samples.
        p: inputs that the model sees.
        noise: standard deviation of the noise on training targets.
        dim: input dimension of the teacher; ``p`` if not given (well specified).

    Returns:
        E (prediction - <b, x>)², averaged over training sets and directions.

    >>> round(min_norm_risk(200, 100, 0.5), 4)
    0.2525
    >>> min_norm_risk(200, 200, 0.5)
    inf
    """
    seen = 1.0 if dim is None else p / dim
    variance = noise**2 + 1 - seen
    if p < n - 1:
        return variance * p / (n - p - 1) + 1 - seen
    if p > n + 1:
        return seen * (1 - n / p) + variance * n / (p - n - 1) + 1 - seen
    return math.inf


def ridge_errors(gamma: float, ridge: float, noise: float, signal: float = 1.0) -> Risk:
    """Errors of the minimiser of (1/n) |y - X b|² + ridge |b|², in the limit (Hastie et al.).

    Args:
        gamma: inputs over samples, p/n.
        ridge: penalty, as above; 0 is the min-norm solution.
        noise: variance of the noise on targets.
        signal: |b|².

    Returns:
        The errors; those on new samples are infinite at ``gamma`` = 1 without ``ridge``.
    """
    shift = ridge + gamma - 1
    root = math.sqrt(shift**2 + 4 * ridge)
    # the form without cancellation, on either side
    k = (shift + root) / 2 if shift >= 0 else 2 * ridge / (root - shift)
    amplified = gamma / (1 + k) ** 2
    if amplified == 1:
        return Risk(math.inf if signal else 0.0, math.inf if noise else 0.0, 0.0, noise)
    bias = signal * (k / (1 + k)) ** 2 / (1 - amplified)
    variance = noise * amplified / (1 - amplified)
    # 1 - df/n of generalised cross-validation, as ridge = k (1 - df/n)
    left = ridge / k if k > 0 else 1 - gamma
    return Risk(bias, variance, left**2 * (bias + variance + noise), noise)


def ridge_risk(gamma: float, ridge: float, noise: float, signal: float = 1.0) -> float:
    """Excess risk E |b_hat - b|² of :func:`ridge_errors`, where ``noise`` is a standard deviation.

    >>> round(ridge_risk(2.0, 0.1, 0.5), 8), ridge_risk(1.0, 0.0, 0.5)
    (0.68652866, inf)
    """
    return ridge_errors(gamma, ridge, noise**2, signal).excess


def flow_errors(gamma: float, time: float, noise: float, signal: float = 1.0) -> Risk:
    """Errors of gradient flow from zero on (1/2n) |y - X b|², in the limit: Marchenko-Pastur integrals.

    Args:
        gamma: inputs over samples, p/n.
        time: of the flow, in units of 1/curvature, up to 1e9 (at ``gamma`` = 1).
        noise: variance of the noise on targets.
        signal: |b|².

    Returns:
        The errors, relative error 1e-10.
    """

    def learned(x: NDArray[np.float64]) -> NDArray[np.float64]:
        gone: NDArray[np.float64] = np.expm1(-time * x) ** 2 / x
        return gone

    kept = _marchenko_pastur(gamma, time, lambda x: np.exp(-2 * time * x))
    unlearned = _marchenko_pastur(gamma, time, lambda x: x * np.exp(-2 * time * x))
    train = signal * unlearned + noise * (gamma * kept + max(1 - gamma, 0.0))
    bias = signal * (kept + max(1 - 1 / gamma, 0.0))
    return Risk(bias, noise * gamma * _marchenko_pastur(gamma, time, learned), train, noise)


def flow_risk(gamma: float, time: float, noise: float, signal: float = 1.0) -> float:
    """Excess risk of :func:`flow_errors`, where ``noise`` is a standard deviation.

    >>> round(flow_risk(0.5, 10.0, 0.5), 10)
    0.2108377397
    """
    return flow_errors(gamma, time, noise**2, signal).excess


def _marchenko_pastur(gamma: float, time: float, f: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> float:
    """Integral of f over the law of the nonzero eigenvalues of XᵀX/n; midpoints resolve exp(-time x) at the edges."""
    half = 2 * math.sqrt(gamma)
    count = min(4096 + int(100 * math.sqrt(half * time)), 4_000_000)
    phi = (np.arange(count) + 0.5) * (math.pi / count)
    # 1 + gamma + half cos(phi), without cancellation at the lower edge
    x = (1 - math.sqrt(gamma)) ** 2 + 2 * half * np.cos(phi / 2) ** 2
    density = half**2 * np.sin(phi) ** 2 / (2 * math.pi * gamma * x)
    return float(density @ f(x)) * math.pi / count
