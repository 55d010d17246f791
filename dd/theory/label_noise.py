"""Label-noise part of the error of min-norm least squares: what noise of variance 1 on the targets costs.

For features z(x) with second moment Sigma and a design matrix Z of n independent rows, it is E tr(Z⁺ᵀ Sigma Z⁺), the
mean squared error where the targets are noise alone (Holzmüller, arXiv 2010.01851). It scales with the variance.
"""

from __future__ import annotations

import math


def lower_bound(n: int, p: int) -> float:
    """Least label-noise error of any p features of any inputs.

    p/(n + 1 - p) for p <= n, n/(p + 1 - n) for p >= n, where the second moment exists and is invertible, and the design
    matrix has full rank almost surely (Holzmüller 2021; a ReLU feature that is zero on all samples takes it away). A
    bound for the mean over training sets, not for a single one.

    Args:
        n: training samples.
        p: features.

    >>> lower_bound(30, 30), lower_bound(30, 59)
    (30.0, 1.0)
    """
    return min(n, p) / (abs(n - p) + 1)


def gaussian(n: int, p: int) -> float:
    """Exact label-noise error of p standard Gaussian features (mean of inverse-Wishart matrices).

    p/(n - p - 1) for p < n - 1, n/(p - n - 1) for p > n + 1, infinite between; arguments as :func:`lower_bound`.

    >>> gaussian(30, 9), gaussian(30, 61), gaussian(30, 31)
    (0.45, 1.0, inf)
    """
    return min(n, p) / (abs(n - p) - 1) if abs(n - p) > 1 else math.inf


def sphere(n: int, p: int) -> float:
    """Exact label-noise error of p >= n features that are together uniform on a sphere, whatever its radius.

    n (p - 2)/(p (p - n - 1)) for p > n + 1, infinite for p = n and p = n + 1 (Holzmüller 2021). One sample alone is
    never close to the origin: n = 1 gives 1/p. Arguments as :func:`lower_bound`.

    Raises:
        ValueError: p < n, where no closed form is known to dd.

    >>> round(sphere(30, 60), 4), sphere(30, 31)
    (1.0, inf)
    """
    if p < n:
        raise ValueError(f"p={p} must be >= n={n}")
    if n == 1:
        return 1 / p
    return n * (p - 2) / (p * (p - n - 1)) if p > n + 1 else math.inf
