"""Where the spectrum of K = Z Zᵀ ends, and the condition number of the features Z, for any spectrum of their kernel.

With x(nu) = -nu (n - df(nu))(1 - df(nu)/p)/(1 - df(nu)/N), minus the penalty of ``dd.theory.random_features``, the
edges of the nonzero eigenvalues of K are critical values of x (Silverstein & Choi 1995). They are those of the limit:
at finite n the largest eigenvalues end below and the smallest above them, by relative amounts of order n^(-2/3). Where
p = n the smallest has a law of its own (Edelman 1988).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from dd.theory.random_features import nu_of, penalty, ridgeless_nu
from dd.theory.spectrum import Array, FeatureSpectrum

EDELMAN_MEDIAN = math.sqrt(1 + 2 * math.log(2)) - 1
"""Median 0.544773 of u in s_min = u √(nu_0/n), the smallest singular value of square Z: P(u > x) = exp(-(x²/2 + x))."""

GRID = np.linspace(-12.0, 12.0, 121)
"""Logarithms that the search for the upper edge begins with."""


@dataclass(frozen=True)
class Edges:
    """Ends of the nonzero spectrum of K = Z Zᵀ, Z = features/√p.

    Attributes:
        low: smallest eigenvalue; 0 at p = n, NaN where the features span fewer than min(n, p) directions.
        high: largest eigenvalue of the bulk.
        outlier: eigenvalue of the kernel's single largest direction (the mean of features that are not centred) where
            it is separate from the bulk, else None.
    """

    low: float
    high: float
    outlier: float | None

    @property
    def top(self) -> float:
        """Largest eigenvalue."""
        return self.high if self.outlier is None else max(self.high, self.outlier)


def split_top(spectrum: FeatureSpectrum) -> tuple[FeatureSpectrum, float | None]:
    """The spectrum without its largest eigenvalue where that belongs to a single direction, and that eigenvalue."""
    if len(spectrum.eigenvalues) == 0:
        return spectrum, None
    top = int(np.argmax(spectrum.eigenvalues))
    if spectrum.multiplicity[top] != 1:
        return spectrum, None
    kept = np.arange(len(spectrum.eigenvalues)) != top
    rest = replace(
        spectrum,
        eigenvalues=spectrum.eigenvalues[kept],
        multiplicity=spectrum.multiplicity[kept],
        power=spectrum.power[kept],
        cross=None,
    )
    return rest, float(spectrum.eigenvalues[top])


def edges(spectrum: FeatureSpectrum, n: float, p: float) -> Edges:
    """Edges of the spectrum of n samples of p features; raises as :func:`dd.theory.random_features.ridgeless_nu`."""
    bulk, single = split_top(spectrum)

    def x(nu: Array | float) -> Array:
        return -penalty(bulk, n, p, np.asarray(nu))

    top = float(bulk.eigenvalues.max(initial=0.0))
    unit = top or bulk.tail

    def above(y: Array | float) -> Array:
        return x(-(top + unit * np.exp(y)))

    start = GRID[int(np.argmin(above(GRID)))]
    step = GRID[1] - GRID[0]
    found = minimize_scalar(above, bounds=(start - step, start + step), method="bounded", options={"xatol": 1e-10})
    critical = -(top + unit * math.exp(found.x))
    separate = single is not None and -single < critical
    outlier = float(x(-single)) if single is not None and separate else None
    return Edges(_low(bulk, n, p), float(found.fun), outlier)


def _low(bulk: FeatureSpectrum, n: float, p: float) -> float:
    """Lower edge: the maximum of x between nu_a and nu_b, df(nu_a) = max(n, p), df(nu_b) = min(n, p)."""
    right = ridgeless_nu(bulk, n, p)
    if right == 0:
        return math.nan
    if n == p:
        return 0.0
    left = max(nu_of(bulk, max(n, p)), right * 1e-12)
    found = minimize_scalar(
        lambda u: float(penalty(bulk, n, p, np.asarray(math.exp(u)))),
        bounds=(math.log(left), math.log(right)), method="bounded", options={"xatol": 1e-10},
    )  # fmt: skip
    return -float(found.fun)


def feature_condition(spectrum: FeatureSpectrum, n: float, p: float) -> float:
    """Condition number of the n × p features: √(largest/smallest eigenvalue of K); its median at p = n.

    There s_min = u √(nu_0/n) with Edelman's law of u, so that the condition number grows like n.

    Returns:
        NaN where the features span fewer than min(n, p) directions.
    """
    found = edges(spectrum, n, p)
    if n != p or math.isnan(found.low):
        return math.sqrt(found.top / found.low)
    bulk, _ = split_top(spectrum)
    return math.sqrt(found.top * n / ridgeless_nu(bulk, n, n)) / EDELMAN_MEDIAN
