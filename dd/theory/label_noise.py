"""Label-noise part of the error of min-norm least squares: what noise of variance 1 on the targets costs.

For features z(x) with second moment Sigma and a design matrix Z of n independent rows, it is E tr(Z⁺ᵀ Sigma Z⁺), the
mean squared error where the targets are noise alone (Holzmüller, arXiv 2010.01851). It scales with the variance.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


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


def expected(labels: Array, share: float, over: str) -> tuple[Array, float]:
    """Mean of one-hot labels of which some are replaced, and their variance around it.

    Args:
        labels: one-hot, [samples, classes].
        share: share of labels that is replaced.
        over: by one of the ``other`` classes, or redrawn over ``all``.

    Returns:
        The mean, [samples, classes]: labels shrink towards the uniform distribution. The variance, summed over classes:
        one number, the same for every label.
    """
    classes = labels.shape[1]
    redrawn = share if over == "all" else share * classes / (classes - 1)
    kept, other = 1 - redrawn * (classes - 1) / classes, redrawn / classes
    # sum_k p_k (1 - p_k) of the label's own class and of all others
    variance = kept * (1 - kept) + (classes - 1) * other * (1 - other)
    return (1 - redrawn) * labels + redrawn / classes, variance
