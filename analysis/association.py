"""Statistics of the verdict, on arrays with one entry a condition.

Conditions that share a design matrix are not independent, so intervals resample whole clusters of conditions (cluster
bootstrap; Cameron, Gelbach & Miller 2008) and tests permute labels between, or within, clusters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, ndtri, stdtrit

CALIBRATION = 1.15
"""Factor on the standard error: without it simulated intervals of correlations cover 89 to 95 % instead of 95."""

DEFINED = 0.9
"""Share of the bootstrap resamples in which a statistic that jumps must be defined for it to have an interval."""

NEARLY_BEST = 0.02
"""Levels whose sensitivity + specificity lies so little below the best count as best."""

Floats = NDArray[np.float64]
Whole = NDArray[np.intp]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; ``nan`` where it is not defined."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if not np.isfinite(self.value):
            return "undefined"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


Scale = Literal["real", "share", "correlation"]
"""Range of a statistic: all numbers, 0 to 1 (shares, areas under a curve), or -1 to 1."""


def cluster_interval(
    statistic: Callable[[Whole], float],
    clusters: NDArray[np.generic],
    scale: Scale = "real",
    *,
    among: Flags | None = None,
    smooth: bool = True,
    resamples: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Interval of a statistic of clustered conditions, for few clusters of unequal sizes.

    Student's t interval with the jackknife variance of leaving out whole clusters (CR3; Cameron & Miller, A
    practitioner's guide to cluster-robust inference, Journal of Human Resources 50, 2015). Degrees of freedom are
    those of :func:`freedom`. Shares are transformed to logits, and correlations to those of (1 + rho)/2, which is
    Fisher's z. A statistic that jumps has no jackknife variance: its variance is that of a bootstrap of whole clusters.
    Coverage is in docs/peaks.md.

    Where the statistic is at an end of its range, the interval is at least Wilson's for a share of as many observations
    as there are clusters.

    Args:
        statistic: from indices of conditions (repeated ones included) to a number; ``nan`` where undefined.
        clusters: label of each condition's cluster, [conditions].
        scale: range of the statistic.
        among: conditions that are observations of the statistic, [conditions]: those whose share it is, or the rarer
            class of an area under the curve; all if not given.
        smooth: False for a statistic that jumps, such as one with a level chosen among the conditions.
        resamples: bootstrap resamples.
        level: coverage.
        seed: of the resampling.

    Returns:
        The statistic of all conditions, and its interval. There is none with one cluster, where the statistic is
        undefined without one of the clusters, or where it is undefined in more than 1 - ``DEFINED`` of the resamples.
    """
    value = float(statistic(np.arange(len(clusters))))
    member = np.unique(clusters, return_inverse=True)[1]
    sizes = np.bincount(member if among is None else member[among])
    sizes = sizes[sizes > 0]
    if len(sizes) < 2 or not np.isfinite(value):
        return Estimate(value, np.nan, np.nan)
    key, count = tuple(member.tolist()), int(member.max()) + 1
    found = np.array([statistic(i) for i in (_left_out(key) if smooth else _resampled(key, resamples, seed))])
    finite = np.isfinite(found)
    if finite.mean() < (1.0 if smooth else DEFINED):
        return Estimate(value, np.nan, np.nan)
    observations = int(sizes.sum())
    centre = float(_transformed(np.array(value), scale, observations))
    moved = _transformed(found[finite], scale, observations) - centre
    error = CALIBRATION * float(np.sqrt((count - 1 if smooth else count / (count - 1)) * np.mean(moved**2)))
    reach = float(stdtrit(freedom(sizes), (1 + level) / 2)) * error
    ends = _back(np.array([centre - reach, centre + reach]), scale, observations)
    if scale != "real" and min(value - (-1 if scale == "correlation" else 0), 1 - value) < 1e-9:
        wilson = _wilson(centre > 0, len(sizes), level, scale)
        ends = np.array([min(ends[0], wilson[0]), max(ends[1], wilson[1])])
    return Estimate(value, float(ends[0]), float(ends[1]))


def freedom(sizes: NDArray[np.integer]) -> float:
    """Degrees of freedom of the variance of a mean over clusters that move as one: (Σ n²)² / Σ n⁴ - 1, at least 1.

    Satterthwaite's, one fewer than the number of clusters if all are equally large.
    """
    squares = np.square(sizes.astype(float))
    return max(float(squares.sum() ** 2 / np.square(squares).sum()) - 1, 1.0)


def _transformed(values: Floats, scale: Scale, observations: int) -> Floats:
    """Logits of shares, kept finite by half an observation on each side."""
    if scale == "real":
        return values
    shares = (1 + values) / 2 if scale == "correlation" else values
    found: Floats = logit((np.clip(shares, 0, 1) * observations + 0.5) / (observations + 1))
    return found


def _back(transformed: Floats, scale: Scale, observations: int) -> Floats:
    """The inverse of :func:`_transformed`."""
    if scale == "real":
        return transformed
    shares = np.clip(((observations + 1) * expit(transformed) - 0.5) / observations, 0, 1)
    return 2 * shares - 1 if scale == "correlation" else shares


def _wilson(all_of_them: bool, observations: int, level: float, scale: Scale) -> Floats:
    """Wilson's interval of a share of all, or none, of the observations."""
    least = observations / (observations + float(ndtri((1 + level) / 2)) ** 2)
    shares = np.array([least, 1.0] if all_of_them else [0.0, 1 - least])
    return 2 * shares - 1 if scale == "correlation" else shares


@lru_cache(maxsize=8)
def _left_out(member: tuple[int, ...]) -> list[Whole]:
    """Indices of the conditions without cluster 0, 1, ..."""
    return [np.flatnonzero(np.not_equal(member, g)) for g in range(max(member) + 1)]


@lru_cache(maxsize=8)
def _resampled(member: tuple[int, ...], resamples: int, seed: int) -> list[Whole]:
    """Indices of the conditions of resampled clusters 0, 1, ..., the same for every statistic of them."""
    groups = [np.flatnonzero(np.equal(member, g)) for g in range(max(member) + 1)]
    generator = np.random.default_rng(seed)
    chosen = [generator.integers(0, len(groups), len(groups)) for _ in range(resamples)]
    return [np.concatenate([groups[g] for g in drawn]) for drawn in chosen]


def rarer(positive: Flags) -> Flags:
    """Members of the class that has fewer."""
    return positive if 2 * positive.sum() < len(positive) else ~positive


def places(x: Floats) -> Whole:
    """Number of each value among the distinct ones, from 0: it has the same ranks, and they are counted, not sorted."""
    found: Whole = np.unique(x, return_inverse=True)[1]
    return found


def ranks(x: Floats | Whole) -> Floats:
    """Ranks from 1, ties averaged: ``scipy.stats.rankdata`` without its overhead, which the bootstrap would pay.

    Args:
        x: numbers, or whole numbers from 0 (:func:`places`).
    """
    if x.dtype.kind == "i":
        counts = np.bincount(x)
        return (np.cumsum(counts) - (counts - 1) / 2)[x]
    order = np.argsort(x, kind="stable")
    ordered = x[order]
    new = np.append(True, ordered[1:] != ordered[:-1])
    bounds = np.append(np.flatnonzero(new), len(x))
    found = np.empty(len(x))
    found[order] = ((bounds[:-1] + bounds[1:] + 1) / 2)[np.cumsum(new) - 1]
    return found


def spearman(x: Floats | Whole, y: Floats | Whole) -> float:
    """Spearman's rank correlation, as ``scipy.stats.spearmanr``; ``nan`` where a variable is constant."""
    return pearson(ranks(x), ranks(y))


def pearson(x: Floats, y: Floats) -> float:
    """Correlation coefficient; ``nan`` for fewer than three points or a constant variable."""
    if len(x) < 3:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 1e-12 * len(x) else float("nan")


def partial_spearman(x: Floats | Whole, y: Floats | Whole, given: Floats | Whole) -> float:
    """Rank correlation of x and y with the linear effect of ``given``'s ranks removed from both."""
    a, b, c = spearman(x, y), spearman(x, given), spearman(y, given)
    scale = (1 - b * b) * (1 - c * c)
    return (a - b * c) / float(np.sqrt(scale)) if scale > 1e-12 else float("nan")


def within_spearman(x: Floats | Whole, y: Floats | Whole, groups: NDArray[np.generic], least: int = 5) -> float:
    """Rank correlation within groups, averaged with weights of the group's size; smaller groups are left out."""
    total, weight = 0.0, 0
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.append(True, groups[order][1:] != groups[order][:-1]))
    for members in np.split(order, starts[1:]):
        if len(members) >= least:
            rho = spearman(x[members], y[members])
            if np.isfinite(rho):
                total, weight = total + len(members) * rho, weight + len(members)
    return total / weight if weight else float("nan")


def auc(score: Floats | Whole, positive: Flags) -> float:
    """Area under the receiver operating characteristic: P(score of a positive > score of a negative), ties half."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return float("nan")
    return float((ranks(score)[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def logistic_midpoint(x: Floats, positive: Flags, penalty: float = 1e-3) -> float:
    """Where a logistic regression of ``positive`` on x falls through one half; ``nan`` outside the range of x.

    The slope is penalised by ``penalty`` times its square in units of x's standard deviation, so that separable data
    have a finite one; the midpoint is then between the classes.
    """
    if positive.all() or not positive.any() or np.ptp(x) == 0:
        return float("nan")
    centre, spread = x.mean(), x.std()
    z = (x - centre) / spread
    sign = np.where(positive, 1.0, 0.0)
    intercept, slope = 0.0, 0.0
    for _ in range(100):  # Newton's method on a strictly convex function
        p = expit(intercept + slope * z)
        gradient = np.array([np.sum(p - sign), np.sum((p - sign) * z) + 2 * penalty * slope])
        w = np.maximum(p * (1 - p), 1e-12)
        cross = np.sum(w * z)
        hessian = np.array([[np.sum(w) + 1e-9, cross], [cross, np.sum(w * z * z) + 2 * penalty]])
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        intercept, slope = intercept - step[0], slope - step[1]
        if np.abs(step).max() < 1e-9:
            break
    midpoint = centre - spread * intercept / slope if slope < -1e-6 else float("nan")
    return float(midpoint) if x.min() <= midpoint <= x.max() else float("nan")


def separating_level(x: Floats, positive: Flags) -> float:
    """Level that best separates positives (at or below) from negatives, by Youden's J = sensitivity + specificity - 1.

    Levels lie half-way between neighbouring values. Of those whose J is within ``NEARLY_BEST`` of the best, the one in
    the middle of their range is taken, so that one condition more or less moves it little. ``nan`` with one class only.
    """
    if positive.all() or not positive.any():
        return float("nan")
    order = np.argsort(x, kind="stable")
    values, hits = x[order], positive[order]
    j = np.cumsum(hits) / hits.sum() - np.cumsum(~hits) / (~hits).sum()
    last = np.append(values[1:] > values[:-1], True)  # a level between equal values is none
    levels = np.append((values[1:] + values[:-1]) / 2, values[-1])[last]
    best = levels[j[last] >= j[last].max() - NEARLY_BEST]
    middle = (best.min() + best.max()) / 2
    return float(best[np.abs(best - middle).argmin()])


def left_out_predictions(x: Floats, positive: Flags, clusters: NDArray[np.generic]) -> Flags:
    """Whether each condition lies at or below the separating level found without its cluster."""
    predicted = np.zeros(len(x), bool)
    for label in np.unique(clusters):
        out = clusters == label
        level = separating_level(x[~out], positive[~out])
        predicted[out] = x[out] <= level
    return predicted


def explained_by(residual: Floats, levels: NDArray[np.generic]) -> float:
    """Share of a residual's rank variance between the levels of a factor: (H - k + 1)/(n - k) of Kruskal & Wallis' H.

    0 where levels do not matter (negative estimates are cut off), 1 where they tell everything; ``nan`` for one level.
    """
    names, member = np.unique(levels, return_inverse=True)
    return _explained(ranks(residual) - (len(residual) + 1) / 2, member, len(names))


def _explained(centred: Floats, member: Whole, k: int) -> float:
    """:func:`explained_by` of centred ranks and k levels 0, 1, ..."""
    n = len(centred)
    if k < 2 or n <= k:
        return float("nan")
    total = float(centred @ centred)
    if total == 0:
        return float("nan")
    counts = np.bincount(member)
    between = float(np.sum(np.bincount(member, centred) ** 2 / counts))
    return max(0.0, (between / total - (k - 1) / (n - 1)) / (1 - (k - 1) / (n - 1)))


def permutation_p(
    residual: Floats, levels: NDArray[np.intp], clusters: NDArray[np.intp], permutations: int = 499, seed: int = 0
) -> float:
    """P-value of :func:`explained_by` when the factor's labels are permuted.

    Within clusters where the factor varies there; between whole clusters where it does not, since then a cluster is one
    observation of it. ``nan`` where no permutation changes anything.

    Args:
        residual: [conditions].
        levels: of the factor, [conditions].
        clusters: [conditions].
        permutations: random ones.
        seed: of the permutations.
    """
    observed = explained_by(residual, levels)
    names, member = np.unique(clusters, return_inverse=True)
    found, level = np.unique(levels, return_inverse=True)
    first = np.array([level[member == c][0] for c in range(len(names))])
    between = bool((level == first[member]).all())
    if not np.isfinite(observed) or (between and len(names) < 3):
        return float("nan")
    generator = np.random.default_rng(seed)
    by_cluster = np.argsort(member, kind="stable")
    centred = ranks(residual) - (len(residual) + 1) / 2
    hits = 0
    for _ in range(permutations):
        if between:
            shuffled = generator.permutation(first)[member]
        else:
            shuffled = np.empty_like(level)
            random = by_cluster[np.lexsort((generator.random(len(level)), member[by_cluster]))]
            shuffled[by_cluster] = level[random]
        hits += _explained(centred, shuffled, len(found)) >= observed
    return (hits + 1) / (permutations + 1)


def holm(p_values: Floats) -> Floats:
    """Holm's correction for several tests; ``nan`` stays."""
    corrected = np.full(len(p_values), np.nan)
    known = np.flatnonzero(np.isfinite(p_values))
    worst = 0.0
    for rank, i in enumerate(known[np.argsort(p_values[known])]):
        worst = max(worst, min(1.0, (len(known) - rank) * p_values[i]))
        corrected[i] = worst
    return corrected


def theil_sen(x: Floats, y: Floats) -> float:
    """Median of the slopes of all pairs of points; ``nan`` for fewer than three."""
    if len(x) < 3:
        return float("nan")
    i, j = np.triu_indices(len(x), 1)
    distinct = x[i] != x[j]
    return float(np.median((y[j] - y[i])[distinct] / (x[j] - x[i])[distinct])) if distinct.any() else float("nan")
