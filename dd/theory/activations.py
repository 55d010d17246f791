"""Hermite coefficients of the activations of random features: all that isotropic theory knows of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

Array = NDArray[np.float64]

FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda g: np.maximum(g, 0.0),
    "tanh": np.tanh,
    "erf": erf,
    "relu_centered": lambda g: np.maximum(g, 0.0) - 1 / math.sqrt(2 * math.pi),
    "abs": np.abs,
    "linear": lambda g: g,
    "softsign": lambda g: g / (1 + np.abs(g)),
    "elu": lambda g: np.where(g > 0, g, np.expm1(np.minimum(g, 0.0))),
}
"""The elementwise activations of ``model=random_features``, by name."""

REACH = 40.0
"""Standard deviations on either side of zero that are integrated over."""

NODES = 400
"""Gauss-Legendre nodes on either side: no activation has a kink elsewhere than at zero."""

NEGLIGIBLE = 1e-14
"""Powers below this share of the whole are rounding, and count as zero."""


@dataclass(frozen=True)
class Coefficients:
    """Power of an activation in each degree of Hermite polynomials, for g ~ N(0, 1).

    Attributes:
        power: mu_k² = (E act(g) He_k(g))²/k! for k = 0, 1, ..., [degrees].
        rest: power in all higher degrees; mu*² of Mei & Montanari where ``power`` ends with degree 1.
    """

    power: tuple[float, ...]
    rest: float


@cache
def coefficients(activation: str, degree: int = 1, bandwidth: float = 1.0) -> Coefficients:
    """Hermite coefficients of an activation, to 1e-13.

    Args:
        activation: one of :data:`FUNCTIONS`, or ``cosine``: √2 cos(g/bandwidth + b), averaged over the phase b, whose
            powers are exp(-u²) u^(2k)/k! with u = 1/bandwidth.
        degree: highest degree that is resolved.
        bandwidth: of ``cosine``.

    Raises:
        ValueError: an activation without coefficients (``fourier`` comes in pairs, which are not independent features).

    >>> [round(p, 6) for p in coefficients("relu").power], round(coefficients("relu").rest, 6)
    ([0.159155, 0.25], 0.090845)
    """
    if activation == "cosine":
        u2 = bandwidth**-2
        power = [math.exp(-u2) * u2**k / math.factorial(k) for k in range(degree + 1)]
        return _cleaned(power, 1.0)
    if activation not in FUNCTIONS:
        raise ValueError(f"activation={activation!r} must be one of {', '.join(FUNCTIONS)}, cosine")
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    half = REACH / 2 * (nodes + 1)
    g = np.concatenate([-half[::-1], half])
    density = np.exp(-(g**2) / 2) * np.concatenate([weights[::-1], weights]) * (REACH / 2 / math.sqrt(2 * math.pi))
    value = FUNCTIONS[activation](g)
    power = []
    for k in range(degree + 1):
        hermite = np.polynomial.hermite_e.hermeval(g, [0.0] * k + [1.0])
        power.append(float(density @ (value * hermite)) ** 2 / math.factorial(k))
    return _cleaned(power, float(density @ value**2))


def _cleaned(power: list[float], total: float) -> Coefficients:
    kept = tuple(p if p > NEGLIGIBLE * total else 0.0 for p in power)
    rest = total - sum(kept)
    return Coefficients(kept, rest if rest > NEGLIGIBLE * total else 0.0)
