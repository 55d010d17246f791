"""Risk of ridge regression on random features, for any spectrum of their kernel: one monotone scalar equation.

p features Z = act(X Wᵀ)/√p of n samples, minimiser of |y - Z w|² + lam |w|². With df, S1, S2 and Bn of the spectrum
(``dd.theory.spectrum``) at the root nu of

    lam = nu (n - df)(1 - df/p)/(1 - df/N),            nu >= nu_0, where df(nu_0) = min(n, p),
    Ups = (S2 - (2 S2 df - df²)/p)/(n (1 - S2/p)),     chi = S1/(p - S2),

the mean squared error on new samples, noise of variance sig2 included, and on the training samples are

    test = (Bn + sig2 (1 - 2 df/N + n Ups/N))/(1 - Ups (1 - n/N) - 2 df/N + df²/(n N)),
    train = (1 - df/n)² test.

N is the size of the population. For N = infinity these are the deterministic equivalents of Mei & Montanari (arXiv
1908.05355) in the form of Defilippis et al. (arXiv 2405.15699). For finite N the n samples are drawn without
replacement and the test samples are the others: rows of a random orthogonal matrix stand where those of a Gaussian one
stood (docs/theory.md has the derivation). With lam = 0 all that is left of it
is a factor 1/(1 - min(n, p)/N) on the noise-free part of the infinite population's test; the noise part of test is
as there for p < n, sig2/(1 - p/n), and sig2 (1/(1 - Ups) - (n/N)/(1 - n/N)) for p > n.

All is exact in the limit of large n, p and N at fixed ratios. Errors are sums over outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from dd.theory.spectrum import Array, FeatureSpectrum


@dataclass(frozen=True)
class Risk:
    """Mean squared errors, summed over outputs.

    Attributes:
        bias: of the mean prediction over the noise, against the noise-free target of new samples.
        variance: what noise on the training targets adds to it.
        train: on the training targets, noise included.
        noise: variance of the noise on new targets.
    """

    bias: float
    variance: float
    train: float
    noise: float

    @property
    def excess(self) -> float:
        """Against the noise-free target."""
        return self.bias + self.variance

    @property
    def total(self) -> float:
        """Against new noisy targets."""
        return self.excess + self.noise


def ridgeless_nu(spectrum: FeatureSpectrum, n: float, p: float) -> float:
    """nu_0 with df(nu_0) = min(n, p); 0 where the features span fewer directions.

    Raises:
        ValueError: a population of no more than n samples.
    """
    if n >= spectrum.population:
        raise ValueError(f"n={n} must be < {spectrum.population:g}, the samples of the population")
    return nu_of(spectrum, min(n, p))


def nu_of(spectrum: FeatureSpectrum, freedom: float) -> float:
    """Root of df(nu) = freedom; 0 where the features span no more directions."""
    if spectrum.rank <= freedom:
        return 0.0
    high = spectrum.trace / freedom
    low = high / 2
    while spectrum.freedom(low) < freedom:
        low /= 4
    root = brentq(lambda u: float(spectrum.freedom(math.exp(u))) - freedom, math.log(low), math.log(high) + 1e-9,
                  xtol=1e-15, rtol=4 * np.finfo(float).eps)  # fmt: skip
    return math.exp(root)


def penalty(spectrum: FeatureSpectrum, n: float, p: float, nu: Array) -> Array:
    """The ridge lam that belongs to nu, [points]; real or complex."""
    freedom = spectrum.freedom(nu)
    found: Array = nu * (n - freedom) * (1 - freedom / p) / (1 - freedom * (1 / spectrum.population))
    return found


def solve_nu(spectrum: FeatureSpectrum, n: float, p: float, lam: float) -> float:
    """Root nu >= nu_0 of lam = :func:`penalty`."""
    low = ridgeless_nu(spectrum, n, p)
    if lam == 0:
        return low

    def gap(u: float) -> float:
        return float(penalty(spectrum, n, p, np.asarray(math.exp(u)))) - lam

    # below nu_0 the equation is not monotone: the bracket begins exactly there
    start = math.log(low) if low > 0 else math.log(np.finfo(float).tiny)
    if gap(start) >= 0:
        return low
    high = max(start, math.log(lam / n))
    while gap(high) <= 0:
        high += 1.0
    return math.exp(brentq(gap, start, high, xtol=1e-15, rtol=4 * np.finfo(float).eps))


def pair_freedom(n: float, p: float, left: Array, right: Array, s2: Array) -> Array:
    """Ups at two points: S2 and df of both, [points, other points] and [points]; 1 - Ups is what amplifies errors."""
    total, product = np.add.outer(left, right), np.multiply.outer(left, right)
    found: Array = (s2 - (s2 * total - product) / p) / (n * (1 - s2 / p))
    return found


def pair_risk(
    spectrum: FeatureSpectrum, n: float, p: float, nu: Array, noise: float, start: float = 0.0
) -> tuple[Array, Array]:
    """Mean products of the errors of two ridge estimators on new noisy samples, for all pairs of penalties.

    Args:
        spectrum: of the features.
        n: training samples.
        p: features.
        nu: roots of the penalties, [points], real or complex, not 0.
        noise: variance of the noise on targets.
        start: variance of the entries of what the penalty draws w towards, instead of 0.

    Returns:
        The products with and without their part from noise on training targets, each [points, points].
    """
    freedom = spectrum.freedom(nu)
    s1, s2 = spectrum.pair_sums(nu, nu)
    ups = pair_freedom(n, p, freedom, freedom, s2)
    scarce = 1 / spectrum.population
    total, product = np.add.outer(freedom, freedom), np.multiply.outer(freedom, freedom)
    amplified = 1 - ups * (1 - n * scarce) - total * scarce + product * (scarce / n)
    reduced = nu * (1 - freedom / p)
    signal = spectrum.pair_power(nu, nu, s1 / (p - s2)) + start * np.multiply.outer(reduced, reduced) * s1 / (
        1 - s2 / p
    )
    noisy = noise * (1 - total * scarce + ups * (n * scarce))
    return (signal + noisy) / amplified, signal / amplified


def ridge_risk(spectrum: FeatureSpectrum, n: float, p: float, lam: float = 0.0, noise: float = 0.0) -> Risk:
    """Mean squared errors of ridge regression; of the min-norm solution at ``lam`` = 0.

    Args:
        spectrum: of the features, with the target in it.
        n: training samples, fewer than the population has; with ``p`` and multiplicities in any common unit.
        p: features.
        lam: ridge beside |y - Z w|² with Z = features/√p; dd's penalty is in ``dd.theory.units``.
        noise: variance of the noise on targets, over all outputs.

    Returns:
        The errors; those on new samples are infinite at p = n with ``lam`` = 0.

    Raises:
        ValueError: a negative ``lam``, or a population that has no samples left to test on.
    """
    if lam < 0:
        raise ValueError(f"lam={lam} must be >= 0")
    nu = solve_nu(spectrum, n, p, lam)
    interpolates = lam == 0 and min(n, p) <= spectrum.rank
    if interpolates and n == p:
        return Risk(math.inf, math.inf if noise else 0.0, 0.0, noise)
    if nu == 0:
        # all directions are learned: ordinary least squares on as many columns as directions
        share = spectrum.rank / n
        if share == 1:
            return Risk(math.inf, math.inf if noise else 0.0, 0.0, noise)
        bias = spectrum.tail_power / ((1 - share) * (1 - spectrum.rank / spectrum.population))
        variance = noise * share / (1 - share)
        train = (1 - share) ** 2 * (bias + variance + noise)
        other = 2 * spectrum.tail_cross / (1 - spectrum.rank / spectrum.population) + spectrum.apart
        return Risk(bias + other, variance, train, noise)
    both, clean = (float(product[0, 0]) for product in pair_risk(spectrum, n, p, np.array([nu]), noise))
    freedom = float(spectrum.freedom(nu))
    train = 0.0 if interpolates and p > n else (1 - freedom / n) ** 2 * both
    # new targets may be others than the training targets, which bias and train are about
    other = float(spectrum.other_target(nu)) + spectrum.apart
    return Risk(clean + other, max(both - noise - clean, 0.0), train, noise)
