"""Judging the peak of one curve: bootstrap intervals, a test with a level, a decision.

Definitions, the test and its measured error rates are in docs/peaks.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from analysis.prominence import lowest_on_each_side, pick, prominences, summit, threshold_prominence, width_at

LEVEL = 0.05
"""Level of the decision; intervals cover 1 - LEVEL."""

SMALLEST = 0.2
"""Smallest prominence of interest in natural log units: 22 %."""

CALIBRATION = 2.0
"""Factor on the p-values of the t tests, without which some simulated curves are rejected too often."""

BOUND_CALIBRATION = 2.5
"""Divisor of the level of the prominence bound: t intervals of skewed noise fail too often on one side."""

RESAMPLES = 1000
FEWEST_POINTS = 4

FEWEST_SEEDS = 3
"""Seeds that a decision takes: two agree too easily by chance."""


@dataclass(frozen=True)
class Estimate:
    """A quantity of the median curve with its percentile-bootstrap interval over seeds.

    Attributes:
        value: NaN where it is not defined (a curve without a peak has no location).
        low: lower end of the interval; NaN with one seed.
        high: upper end.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")


UNKNOWN = Estimate(float("nan"))


@dataclass(frozen=True)
class Peak:
    """The most prominent interior maximum of a curve, and whether it is one.

    Heights are differences of natural logarithms of the metric; those in plain units are exponentials of the median
    logarithm. All but ``prominence``, ``prominence_at_threshold`` and ``plateau_value`` are undefined where the median
    curve has no interior maximum, and their intervals are over the resamples that have one.

    Attributes:
        decision: ``peak``, ``no peak`` (none of the smallest prominence of interest) or ``undecided``.
        reason: why it is undecided, else empty.
        p_value: of the test against "no interior maximum"; NaN if there was none.
        prominence_bound: upper confidence bound of the prominence; NaN if there is none.
        seeds: rows with at least one finite value: seeds, or training sets.
        points: points that count.
        dropped: points that do not, because fewer than half of the seeds (or fewer than two) are finite.
        location: x of the peak.
        prominence: height over the higher one of the lowest points on the two sides; 0 without a peak.
        height_over_plateau: over the last point.
        height_over_minimum: over the lowest point left of the peak.
        width_at_half_height: full width at half the prominence, in decades of x.
        final_descent: last point minus the lowest one left of the peak; negative if the curve ends below it.
        ends_below_minimum: ``yes``, ``no`` or ``undecided``: the sign of ``final_descent``, by ``ends_below_minimum``.
        peak_value: at the peak, in units of the metric.
        plateau_value: at the last point, in units of the metric.
        minimum_value: at the lowest point left of the peak, in units of the metric.
        minimum_location: x of that.
        prominence_at_threshold: ``threshold_prominence`` at the threshold that was given.
    """

    decision: str
    reason: str
    p_value: float
    prominence_bound: float
    seeds: int
    points: int
    dropped: int
    location: Estimate = UNKNOWN
    prominence: Estimate = UNKNOWN
    height_over_plateau: Estimate = UNKNOWN
    height_over_minimum: Estimate = UNKNOWN
    width_at_half_height: Estimate = UNKNOWN
    final_descent: Estimate = UNKNOWN
    ends_below_minimum: str = "undecided"
    peak_value: Estimate = UNKNOWN
    plateau_value: Estimate = UNKNOWN
    minimum_value: Estimate = UNKNOWN
    minimum_location: Estimate = UNKNOWN
    prominence_at_threshold: Estimate = UNKNOWN


def median_over(values: np.ndarray) -> np.ndarray:
    """Median over the last axis, missing values left out; NaN where there are none.

    The same as ``numpy.nanmedian``, which walks slices one by one.
    """
    ordered = np.sort(values, axis=-1)  # NaN at the end
    count = np.isfinite(ordered).sum(-1, keepdims=True)
    middle = [np.take_along_axis(ordered, np.maximum(i, 0), -1)[..., 0] for i in ((count - 1) // 2, count // 2)]
    return np.where(count[..., 0] > 0, (middle[0] + middle[1]) / 2, np.nan)


def counted(logs: np.ndarray) -> np.ndarray:
    """Whether each point counts, [..., points]: half of the seeds are finite, and two unless there is only one.

    Args:
        logs: [..., seeds, points].
    """
    seeds = logs.shape[-2]
    enough: np.ndarray = np.isfinite(logs).sum(-2) >= max(seeds / 2, min(seeds, 2))
    return enough


def of_training_sets(logs: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Curves of training sets: medians over the seeds that share one.

    Args:
        logs: [..., seeds, points].
        sets: number of the training set of each seed, 0, 1, ..., [seeds].

    Returns:
        [..., sets, points]; NaN at the points of a set that do not count (:func:`counted`).
    """
    curves = []
    for each in range(sets.max() + 1):
        members = logs[..., sets == each, :]
        curves.append(np.where(counted(members), median_over(np.moveaxis(members, -2, -1)), np.nan))
    return np.stack(curves, -2)


def medians_of_others(logs: np.ndarray) -> np.ndarray:
    """Median over all other seeds, for each seed of [..., seeds, points]; missing values are left out."""
    order = np.argsort(logs, axis=-2)  # NaN at the end
    ordered = np.take_along_axis(logs, order, -2)
    place = np.argsort(order, axis=-2)
    finite = np.isfinite(logs)
    count = finite.sum(-2, keepdims=True) - finite
    last = logs.shape[-2] - 1

    def others(i: np.ndarray) -> np.ndarray:
        """The i-th smallest of the others."""
        i = np.maximum(i, 0)
        return np.take_along_axis(ordered, np.minimum(i + (i >= place), last), -2)

    middle = (others((count - 1) // 2) + others(count // 2)) / 2
    return np.where(count > 0, middle, np.nan)


def held_out_rises(logs: np.ndarray) -> np.ndarray:
    """How far each seed rises over the valleys where the other seeds have their peak.

    For each seed, (i, j, k) are the valleys and the top of the median curve of the other seeds, and the rises are
    v(j) - v(i) and v(j) - v(k) of the seed itself.

    Args:
        logs: [..., seeds, points], at least two seeds.

    Returns:
        [..., seeds, 2]; NaN where a seed has fewer than three points.
    """
    others = np.where(np.isfinite(logs), medians_of_others(logs), np.nan)
    left, top, right = summit(others)
    rises = np.stack([pick(logs, top) - pick(logs, left), pick(logs, top) - pick(logs, right)], -1)
    return np.where(np.isfinite(prominences(others)).any(-1)[..., None], rises, np.nan)


def p_value(rises: np.ndarray) -> np.ndarray:
    """One-sided p-value of held-out rises against a curve without a peak.

    The score of a seed is the smaller one of its two rises. Where the expected curve is quasi-convex (monotone, or
    U-shaped), no triple chosen without the seed has a positive expected score. The p-value is the largest one of three
    ``t_test``: of the scores, of the rises on the left, and of those on the right. Scores alone would not do: the low
    side caps them, and capped scores of a few seeds can agree by chance where the rises over the other valley scatter.

    Args:
        rises: [..., seeds, 2]; NaN is left out.

    Returns:
        [...]; NaN with fewer than two seeds.
    """
    every = np.concatenate([rises.min(-1, keepdims=True), rises], -1)
    largest: np.ndarray = t_test(np.moveaxis(every, -1, -2)).max(-1)
    return largest


def t_test(scores: np.ndarray) -> np.ndarray:
    """One-sided p-value of held-out scores against an expectation of at most zero.

    Student's t with the variance of the mean enlarged from s²/S to s² (1/S + 1/(S - 1)): the choices of two seeds are
    made on nearly the same seeds, which correlates their scores (Nadeau & Bengio, Inference for the generalization
    error, Machine Learning 52, 2003, for cross-validation), and the p-value is then multiplied by ``CALIBRATION``.
    Scores without any variance are taken at their word.

    Args:
        scores: [..., seeds]; NaN is left out.

    Returns:
        [...]; NaN with fewer than two scores.
    """
    count = np.isfinite(scores).sum(-1)
    safe = np.maximum(count, 2)
    mean = np.nansum(scores, -1) / np.maximum(count, 1)
    spread = np.sqrt(np.nansum((scores - mean[..., None]) ** 2, -1) / (safe - 1))
    error = spread * np.sqrt(1 / safe + 1 / (safe - 1))
    exact = error <= 1e-12 * np.abs(mean)
    t = mean / np.where(exact, 1.0, error)
    p = np.where(exact, np.where(mean > 0, 0.0, 1.0), np.minimum(CALIBRATION * stdtr(safe - 1, -t), 1.0))
    return np.where(count >= 2, p, np.nan)


def upper_differences(logs: np.ndarray, alpha: float = LEVEL) -> np.ndarray:
    """Upper confidence bounds of the expected v(j) - v(i): the upper ends of paired t intervals at level alpha.

    Args:
        logs: [..., seeds, points], at least two seeds.
        alpha: of both ends together.

    Returns:
        [..., j, i]; ``inf`` where fewer than two seeds have both points.
    """
    points = logs.shape[-1]
    before, after = np.triu_indices(points, 1)
    difference = logs[..., after] - logs[..., before]
    finite = np.isfinite(difference)
    count = finite.sum(-2)
    safe = np.maximum(count, 2)
    mean = np.where(finite, difference, 0.0).sum(-2) / safe
    variance = np.where(finite, (difference - mean[..., None, :]) ** 2, 0.0).sum(-2) / (safe - 1)
    reach = np.where(count >= 2, -stdtrit(safe - 1, alpha / 2) * np.sqrt(variance / safe), np.inf)
    upper = np.zeros((*logs.shape[:-2], points, points))
    upper[..., after, before] = mean + reach
    upper[..., before, after] = reach - mean
    return upper


def prominence_bound(logs: np.ndarray, alpha: float = LEVEL) -> np.ndarray:
    """Upper confidence bound of the prominence of the expected curve.

    With U(j, i) of ``upper_differences`` at level alpha / ``BOUND_CALIBRATION``,

        bound = max_j min(max_{i<j} U(j, i), max_{k>j} U(j, k)).

    The bound at the true peak and its valleys alone is at least the true prominence with probability 1 - alpha (one
    half of the level for each side; the divisor is for skewed noise), and the maximum over all triples is no smaller:
    choosing costs nothing.

    Args:
        logs: [..., seeds, points], at least two seeds.
        alpha: level.

    Returns:
        [...]; may be negative, ``inf`` where pairs of points with fewer than two common seeds leave no bound.
    """
    upper = upper_differences(logs, alpha / BOUND_CALIBRATION)
    before = np.tri(logs.shape[-1], k=-1, dtype=bool)
    sides = [np.where(side, upper, -np.inf).max(-1) for side in (before, before.T)]
    bound: np.ndarray = np.minimum(*sides).max(-1)
    return bound


def ends_below_minimum(logs: np.ndarray, top: int, alpha: float = LEVEL) -> str:
    """Whether the expected curve ends below its lowest point left of the peak.

    ``yes`` if the last point is below *every* point on the left by its paired t interval, which needs no correction for
    their number. ``no`` if it is above the lowest one, which the other seeds choose for each seed as in
    ``held_out_rises``; the bootstrap interval of ``final_descent`` would take the luckiest of several level points for
    lower. Each at level alpha/2.

    Args:
        logs: [seeds, points], at least two seeds.
        top: index of the peak, at least 1.
        alpha: of both answers together.

    Returns:
        ``yes``, ``no`` or ``undecided``.
    """
    if np.all(upper_differences(logs, alpha)[-1, :top] < 0):
        return "yes"
    rises = logs[:, -1:] - logs[:, :top]
    scores = []
    for seed, own in enumerate(rises):
        others = np.where(np.isfinite(own), median_over(np.delete(logs[:, :top], seed, axis=0).T), np.nan)
        scores.append(own[np.nanargmin(others)] if np.isfinite(others).any() else np.nan)
    return "no" if t_test(np.array(scores)) <= alpha / 2 else "undecided"


@lru_cache(maxsize=8)
def _resamples(seeds: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Resampled seeds, the same for every curve.

    Few seeds have few distinct resamples (126 of five, however many are drawn), and the quantities of those are enough.

    Returns:
        Indices of the distinct resamples, [distinct, seeds], and which of them each draw is, [count].
    """
    drawn = np.sort(np.random.default_rng(0).integers(seeds, size=(count, seeds)), axis=1)
    distinct, which = np.unique(drawn, axis=0, return_inverse=True)
    return distinct, which.reshape(-1)


def _quantities(x: np.ndarray, m: np.ndarray, threshold: float | None) -> dict[str, np.ndarray]:
    """Every ``Estimate`` of ``Peak`` for median curves m[..., points], each [...]."""
    left, top, _ = summit(m)
    rise = pick(prominences(m), top)
    peak = rise > 0
    height, minimum, last = pick(m, top), pick(lowest_on_each_side(m)[0], top), m[..., -1]
    found = {
        "location": x[top],
        "height_over_plateau": height - last,
        "height_over_minimum": height - minimum,
        "width_at_half_height": width_at(x, m, top, height - np.where(peak, rise, 0.0) / 2),
        "final_descent": last - minimum,
        "peak_value": np.exp(height),
        "minimum_value": np.exp(minimum),
        "minimum_location": x[left],
    }
    found = {name: np.where(peak, values, np.nan) for name, values in found.items()}
    found["prominence"] = np.where(peak, rise, 0.0)
    found["plateau_value"] = np.exp(last)
    if threshold is not None:
        found["prominence_at_threshold"] = threshold_prominence(x, m, threshold)
    return found


def _estimates(
    x: np.ndarray, logs: np.ndarray, threshold: float | None, alpha: float, resamples: int
) -> dict[str, Estimate]:
    values = _quantities(x, median_over(logs.T), threshold)
    if len(logs) == 1:
        return {name: Estimate(float(value)) for name, value in values.items()}
    distinct, which = _resamples(len(logs), resamples)
    found = _quantities(x, median_over(logs.T[:, distinct]).T, threshold)
    drawn = np.stack([found[name] for name in values])[:, which]
    finite = np.isfinite(drawn)
    shares, ends = (alpha / 2, 1 - alpha / 2), np.full((2, len(values)), np.nan)
    whole = finite.all(axis=1)  # most are, and one call for all of them takes less time
    ends[:, whole] = np.quantile(drawn[whole], shares, axis=1)
    for i in np.flatnonzero(finite.any(axis=1) & ~whole):
        ends[:, i] = np.quantile(drawn[i, finite[i]], shares)
    return {
        name: Estimate(float(value), *ends[:, i].tolist()) if np.isfinite(value) else Estimate(float(value))
        for i, (name, value) in enumerate(values.items())
    }


def missing_at(x: np.ndarray, counts: np.ndarray, threshold: float) -> bool:
    """Whether a grid point that is or brackets the threshold does not count."""
    if not x[0] <= threshold <= x[-1]:
        return False
    after = int(np.searchsorted(x, threshold))
    return not counts[after if x[after] == threshold else after - 1 : after + 1].all()


def decisions(
    logs: np.ndarray, alpha: float = LEVEL, delta: float = SMALLEST
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decide whether curves have a peak, by the rules of :func:`judge` that ask for nothing but their values.

    Args:
        logs: [..., seeds, points], at least two seeds.
        alpha: level of the test and of the bound.
        delta: smallest prominence of interest.

    Returns:
        ``peak``, ``no peak`` or ``undecided``; p-values of the test; upper bounds of the prominence; each [...].
    """
    p, bound = p_value(held_out_rises(logs)), prominence_bound(logs, alpha)
    risen = prominences(median_over(np.moveaxis(logs, -2, -1))).max(-1) > 0
    enough = np.isfinite(logs).any(-1).sum(-1) >= FEWEST_SEEDS
    decided = np.select([~enough, bound < delta, (p <= alpha) & risen], ["undecided", "no peak", "peak"], "undecided")
    return decided, p, bound


def judge(
    x: np.ndarray,
    logs: np.ndarray,
    threshold: float | None = None,
    *,
    alpha: float = LEVEL,
    delta: float = SMALLEST,
    resamples: int = RESAMPLES,
    unit: str = "seed",
) -> Peak:
    """Find the most prominent peak of the median curve and decide whether it is one.

    - ``peak``: the held-out test rejects "monotone or U-shaped" at level alpha, and the median curve has an interior
      maximum.
    - ``no peak``: the upper confidence bound of the prominence is below delta. This goes first: a peak that is
      significant, but certainly smaller than what is of interest, is reported as ``no peak`` with its prominence.
    - ``undecided`` otherwise. Also with fewer than three seeds, which say too little about their scatter; with fewer
      than four points that count; and where a point that is or brackets the threshold does not count, since the peak
      would be there.

    Intervals come from resampling whole seeds: runs of one seed share random numbers across x, so that their values are
    not independent.

    Args:
        x: [points], positive, ascending.
        logs: [seeds, points], natural logarithms of the metric; NaN where a run is missing or has diverged. Seeds must
            be independent: curves of training sets (``of_training_sets``) where several seeds share one.
        threshold: where the model can just fit the training set, in units of x; None if not known.
        alpha: level of the test and of the bound, 1 - alpha that of the intervals.
        delta: smallest prominence of interest in natural log units.
        resamples: of the bootstrap.
        unit: name of a row of logs, for ``reason``.

    Raises:
        ValueError: if x is not positive and ascending, or shapes do not match.
    """
    x = np.asarray(x, dtype=float)
    logs = np.asarray(logs, dtype=float)
    if logs.ndim != 2 or not len(logs) or logs.shape[1:] != x.shape:
        raise ValueError(f"logs have shape {logs.shape}, x {x.shape}; expected [seeds, points] and [points]")
    if not (np.all(x > 0) and np.all(np.diff(x) > 0)):
        raise ValueError("x must be positive and ascending")
    logs = np.where(np.isfinite(logs), logs, np.nan)
    counts = counted(logs)
    here, kept = x[counts], logs[:, counts]
    kept = kept[np.isfinite(kept).any(1)]
    nothing = float("nan")
    seeds, points, dropped = len(kept), len(here), len(x) - len(here)
    if points < FEWEST_POINTS:
        reason = f"{points} points, fewer than {FEWEST_POINTS}"
        return Peak("undecided", reason, nothing, nothing, seeds, points, dropped)
    estimates: dict[str, Any] = _estimates(here, kept, threshold, alpha, resamples)
    p = bound = nothing
    decision, reason = "undecided", ""
    if seeds > 1:
        decision, p, bound = (found.item() for found in decisions(kept, alpha, delta))
    if threshold is not None and missing_at(x, counts, threshold):
        estimates["prominence_at_threshold"] = UNKNOWN
        decision, reason = "undecided", f"no runs to count on at the threshold {threshold:g}"
    elif seeds < FEWEST_SEEDS:
        decision, reason = "undecided", f"{seeds} {unit}{'s' if seeds > 1 else ''}, fewer than {FEWEST_SEEDS}"
    elif decision == "undecided":
        reason = f"p = {p:.2g}, prominence up to {bound:.2g}"
    ends_below = "undecided"
    if seeds > 1 and estimates["prominence"].value > 0:
        ends_below = ends_below_minimum(kept, int(summit(median_over(kept.T))[1]), alpha)
    return Peak(decision, reason, p, bound, seeds, points, dropped, ends_below_minimum=ends_below, **estimates)
