"""The spectrum of random features on samples that there are, estimated from many features; nothing is fitted."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dd.theory.activations import FUNCTIONS
from dd.theory.spectrum import FeatureSpectrum, of_kernel

FEATURES = 16384
"""Features behind an estimate; its error where p of them are learned from is of relative order p/FEATURES."""

NORMALIZATIONS = ("none", "scale", "standardize")
"""Normalisations of features that leave them what they are for any number of samples, up to terms of order 1/n."""

BLOCK = 2048
"""Features that are held at a time."""


def kernel(
    x: NDArray[np.float64],
    activation: str,
    *,
    weights: str = "gaussian",
    bandwidth: float = 1.0,
    normalization: str = "none",
) -> NDArray[np.float64]:
    """Estimate E_w act(w·x_i) act(w·x_j) from :data:`FEATURES` features as ``model=random_features`` draws them.

    Args:
        x: samples, [samples, inputs].
        activation: one of :data:`dd.theory.activations.FUNCTIONS`, or ``cosine``.
        weights: law of w: ``gaussian``, N(0, 1/inputs), or ``sphere``, uniform of norm 1.
        bandwidth: of ``cosine``.
        normalization: ``none``; ``scale``: features over their standard deviations on all samples; ``standardize``:
            also minus their means.

    Returns:
        [samples, samples].

    Raises:
        ValueError: another activation or normalization.
    """
    if activation != "cosine" and activation not in FUNCTIONS:
        raise ValueError(f"activation={activation!r} must be one of {', '.join(FUNCTIONS)}, cosine")
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"normalization={normalization!r} must be one of {', '.join(NORMALIZATIONS)}")
    generator = np.random.default_rng(0)
    total = np.zeros((len(x), len(x)))
    for _ in range(FEATURES // BLOCK):
        w = generator.standard_normal((BLOCK, x.shape[1]))
        w /= np.linalg.norm(w, axis=1, keepdims=True) if weights == "sphere" else math.sqrt(x.shape[1])
        z = x @ w.T
        if activation == "cosine":
            z = math.sqrt(2) * np.cos(z / bandwidth + generator.uniform(0, 2 * math.pi, BLOCK))
        else:
            z = FUNCTIONS[activation](z)
        if normalization != "none":
            mean, spread = z.mean(axis=0), z.std(axis=0)
            dead = spread <= 1e-12 * np.abs(mean)
            z = (z - mean if normalization == "standardize" else z) * np.where(dead, 0.0, 1 / np.where(dead, 1, spread))
        total += z @ z.T
    return total / FEATURES


def population_spectrum(
    x: NDArray[np.float64],
    targets: NDArray[np.float64],
    activation: str,
    *,
    weights: str = "gaussian",
    bandwidth: float = 1.0,
    normalization: str = "none",
    new: NDArray[np.float64] | None = None,
) -> FeatureSpectrum:
    """Spectrum of features on a finite population, and its targets in it (3 s for 1800 samples on one core).

    A random part of a larger set is a population as good: n samples of the part are n samples of the whole, and test
    samples are others of it.

    Args:
        x: all samples, [samples, inputs], more than are trained on.
        targets: expected training targets, [samples, outputs]; one-hot for clean classes.
        activation: as for :func:`kernel`.
        weights: as for :func:`kernel`.
        bandwidth: as for :func:`kernel`.
        normalization: as for :func:`kernel`.
        new: targets of new samples, where they are others.
    """
    every = kernel(x, activation, weights=weights, bandwidth=bandwidth, normalization=normalization)
    return of_kernel(every, targets, new)
