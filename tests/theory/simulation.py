"""Random features of Gaussian inputs, their errors averaged exactly over target, noise, start and test inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MU1 = 2 / math.sqrt(3 * math.pi)
"""First Hermite coefficient of erf."""


@dataclass(frozen=True)
class Errors:
    """Excess test and train mean squared errors of a draw, by what they come from.

    Attributes:
        test: of a unit linear target, of unit noise, of a start with entries of variance 1/p, [3].
        train: the same, [3].
    """

    test: np.ndarray
    train: np.ndarray


def erf_features(d: int, n: int, p: int, seed: int) -> Callable[[Callable[[np.ndarray], np.ndarray]], Errors]:
    """Draw inputs N(0, I_d) and erf features with unit weights; errors of any filter of their singular values.

    A filter g(s) makes the estimator w = V diag(g) Uᵀ y + (I - V diag(g s) Vᵀ) w0. The second moment of the features is
    known in closed form (arcsine kernel).
    """
    from scipy.special import erf

    generator = np.random.default_rng(seed)
    x = generator.standard_normal((n, d))
    w = generator.standard_normal((p, d))
    w /= np.linalg.norm(w, axis=1, keepdims=True)
    z = erf(x @ w.T) / math.sqrt(p)
    moment = (2 / math.pi) * np.arcsin(np.clip(2 * (w @ w.T) / 3, -1, 1)) / p
    cross = MU1 * w / math.sqrt(p)
    u, s, vh = np.linalg.svd(z, full_matrices=False)

    def errors(g: Callable[[np.ndarray], np.ndarray]) -> Errors:
        estimate = vh.T @ (g(s)[:, None] * u.T)
        on_signal = estimate @ x
        signal = (np.sum(on_signal * (moment @ on_signal)) - 2 * np.sum(cross * on_signal)) / d + 1
        noise = np.sum(estimate * (moment @ estimate))
        left = np.eye(p) - estimate @ z
        residual = np.eye(n) - z @ estimate
        return Errors(
            np.array([signal, noise, np.sum(left * (moment @ left)) / p]),
            np.array(
                [
                    np.sum((residual @ x) ** 2) / (d * n),
                    np.sum(residual**2) / n,
                    np.sum((z @ left) ** 2) / (n * p),
                ]
            ),
        )

    return errors
