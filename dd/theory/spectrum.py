"""What the theory needs to know of features and target: the spectrum of the feature kernel, and the target in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dd.theory.activations import Coefficients

Array = NDArray[Any]
"""Real or complex numbers."""


@dataclass(frozen=True, eq=False)
class FeatureSpectrum:
    """Spectrum of the kernel E_w act(w·x) act(w·x'), as an integral operator over the law of the inputs.

    Attributes:
        eigenvalues: s_i > 0, [k].
        multiplicity: m_i, [k].
        power: target power b_i² in the eigenspace of s_i, over all outputs, [k].
        tail: trace of what is left, infinitely many directions of infinitesimal eigenvalues (tau²).
        tail_power: target power there; no finite sample learns it.
        population: samples that there are, where training and test samples are drawn from them without replacement;
            infinite for independent samples. See ``dd.theory.random_features``.
        cross: where new targets are others than the expected training targets f (clean labels, f of noisy ones): the
            products of f with the difference g of the two, summed over outputs, [k]; None where they are the same.
        tail_cross: the same in the tail.
        apart: E |g|².
    """

    eigenvalues: NDArray[np.float64]
    multiplicity: NDArray[np.float64]
    power: NDArray[np.float64]
    tail: float = 0.0
    tail_power: float = 0.0
    population: float = math.inf
    cross: NDArray[np.float64] | None = None
    tail_cross: float = 0.0
    apart: float = 0.0

    @property
    def trace(self) -> float:
        """E act(w·x)²."""
        return float(self.multiplicity @ self.eigenvalues) + self.tail

    @property
    def rank(self) -> float:
        """Number of directions; infinite with a tail."""
        return float(self.multiplicity.sum()) if self.tail == 0 else math.inf

    def freedom(self, nu: Array | float) -> Any:
        """df(nu) = sum_i m_i s_i/(s_i + nu) + tail/nu, of the shape of ``nu`` (real or complex, not 0)."""
        nu = np.asarray(nu)
        share = self.eigenvalues / (self.eigenvalues + nu[..., None])
        return share @ self.multiplicity + self.tail / nu

    def freedom_slope(self, nu: Array | float) -> Any:
        """The derivative df'(nu), of the shape of ``nu``."""
        nu = np.asarray(nu)
        share = self.eigenvalues / (self.eigenvalues + nu[..., None]) ** 2
        return -(share @ self.multiplicity) - self.tail / nu**2

    def pair_sums(self, a: Array, b: Array) -> tuple[Array, Array]:
        """S1 = sum_i m_i s_i/((s_i + a)(s_i + b)) + tail/(a b), and S2 with s_i² and without the tail.

        Args:
            a: [points].
            b: [other points].

        Returns:
            Two arrays [points, other points].
        """
        left, right = 1 / (self.eigenvalues + a[:, None]), (1 / (self.eigenvalues + b[:, None])).T
        weighted = left * (self.multiplicity * self.eigenvalues)
        return weighted @ right + self.tail / np.multiply.outer(a, b), weighted * self.eigenvalues @ right

    def pair_power(self, a: Array, b: Array, chi: Array) -> Array:
        """Bn = sum_i b_i² a b/((s_i + a)(s_i + b)) (1 + s_i chi) + tail_power; [points, other points] as ``chi``."""
        left, right = 1 / (self.eigenvalues + a[:, None]), (1 / (self.eigenvalues + b[:, None])).T
        weighted = left * self.power
        seen = weighted @ right + chi * (weighted * self.eigenvalues @ right)
        found: Array = np.multiply.outer(a, b) * seen + self.tail_power
        return found

    def left_power(self, nu: Array) -> Any:
        """sum_i b_i² nu/(s_i + nu) + tail_power, of the shape of ``nu``."""
        nu = np.asarray(nu)
        return (nu[..., None] / (self.eigenvalues + nu[..., None])) @ self.power + self.tail_power

    def other_target(self, nu: Array | float) -> Any:
        """What new targets add that are f + g: 2 E g (f - prediction), of the shape of ``nu``; plus ``apart``.

        The mean prediction keeps s_i/(s_i + nu) of f in an eigenspace; leaving a sample out of a finite population
        divides the rest by 1 - df/N.
        """
        nu = np.asarray(nu)
        if self.cross is None:
            return np.zeros_like(nu)
        left = (nu[..., None] / (self.eigenvalues + nu[..., None])) @ self.cross + self.tail_cross
        lost = self.freedom(nu) / self.population if math.isfinite(self.population) else 0.0
        return 2 * left / (1 - lost)


def isotropic(
    activation: Coefficients, dim: int, target: Sequence[float] = (1.0,), *, centred: bool = False, scaled: bool = False
) -> FeatureSpectrum:
    """Spectrum of features act(w·x), w uniform of norm 1, on inputs N(0, I_dim) or uniform of norm √dim.

    Mei & Montanari (arXiv 1908.05355): mu_1²/dim with multiplicity dim, mu_0² once, and all else in the tail, where it
    acts as noise. Degrees k >= 2 that ``activation`` resolves stand as mu_k²/m with m = C(dim + k - 1, k) -
    C(dim + k - 3, k - 2), the number of harmonic polynomials of degree k, which samples or features in numbers of
    order dim^k begin to see (Ghorbani et al., arXiv 1904.12191). Terms of relative order 1/dim are left out.

    Args:
        activation: its Hermite coefficients.
        dim: inputs.
        target: power of the target in degrees 1, 2, ...: F1², and what beyond it is F*². Degrees that are not resolved,
            or that features do not have, are in ``tail_power``.
        centred: features from which their mean mu_0 is taken.
        scaled: features over their standard deviation.
    """
    if scaled:
        variance = sum(activation.power[1:]) + activation.rest
        activation = Coefficients(tuple(power / variance for power in activation.power), activation.rest / variance)
    values, counts, powers = [], [], []
    tail, unseen = activation.rest, float(sum(target))
    if activation.power[0] > 0 and not centred:
        values, counts, powers = [activation.power[0]], [1.0], [0.0]
    for k, power in enumerate(activation.power[1:], start=1):
        count = math.comb(dim + k - 1, k) - (math.comb(dim + k - 3, k - 2) if k > 1 else 0)
        if power > 0 and count > 0:
            values.append(power / count)
            counts.append(float(count))
            powers.append(float(target[k - 1]) if k <= len(target) else 0.0)
        else:
            tail += power
    return FeatureSpectrum(np.array(values), np.array(counts), np.array(powers), tail, max(unseen - sum(powers), 0.0))


def of_kernel(
    kernel: NDArray[np.float64], targets: NDArray[np.float64], new: NDArray[np.float64] | None = None
) -> FeatureSpectrum:
    """Spectrum of a kernel on a population of samples, all of them; the population is finite.

    Args:
        kernel: E_w act(w·x_i) act(w·x_j), [samples, samples].
        targets: expected training targets of the samples, [samples, outputs]; powers are sums over outputs.
        new: targets of new samples, where they are others, of the same shape.
    """
    count = len(kernel)
    values, vectors = np.linalg.eigh(kernel)
    along = vectors.T @ targets
    # eigenvalues below rounding are zero: nothing of the target there is learned
    seen = values > count * np.finfo(np.float64).eps * values[-1]
    power = (along**2).sum(axis=1) / count
    kept = slice(None, None, -1)
    found = FeatureSpectrum(
        values[seen][kept] / count,
        np.ones(int(seen.sum())),
        power[seen][kept],
        0.0,
        float(power[~seen].sum()),
        float(count),
    )
    if new is None:
        return found
    gap = new - targets
    cross = (along * (vectors.T @ gap)).sum(axis=1) / count
    apart = float(np.sum(gap**2)) / count
    return replace(found, cross=cross[seen][kept], tail_cross=float(cross[~seen].sum()), apart=apart)
