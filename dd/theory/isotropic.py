"""Exact risk of min-norm least squares on isotropic Gaussian inputs."""

from __future__ import annotations

import math


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
