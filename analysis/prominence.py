"""Geometry of a sampled curve: its most prominent interior maximum, the width of that, thresholds.

Functions of curves ``m[..., points]`` over a grid ``x[points]``, ascending and positive, whose distances are measured
in log x. Leading axes of ``m`` are independent curves (bootstrap resamples). NaN is a missing value.
"""

from __future__ import annotations

import numpy as np

BEFORE, BEYOND = 0.85, 1.2
"""``threshold_prominence`` looks for the valleys up to, and from, these multiples of the threshold."""

ROUNDING = 1e-9
"""Relative slack of comparisons between grid points."""


def lowest_on_each_side(m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest values strictly left and strictly right of each point, both [..., points]; NaN where there are none."""
    left, right = np.full_like(m, np.nan), np.full_like(m, np.nan)
    left[..., 1:] = np.fmin.accumulate(m, -1)[..., :-1]
    right[..., :-1] = np.fmin.accumulate(m[..., ::-1], -1)[..., ::-1][..., 1:]
    return left, right


def prominences(m: np.ndarray) -> np.ndarray:
    """Height of each point over the higher one of the lowest points on its two sides.

        prominence(j) = m(j) - max(min_{i<j} m(i), min_{k>j} m(k))

    Its maximum over j, where positive, is the topographic prominence of the curve's most prominent interior maximum.

    Args:
        m: [..., points].

    Returns:
        [..., points]; -inf at both ends and at missing points.
    """
    left, right = lowest_on_each_side(m)
    rise = m - np.maximum(left, right)
    return np.where(np.isnan(rise), -np.inf, rise)


def summit(m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Most prominent point of each curve, and the lowest points on its two sides.

    Args:
        m: [..., points].

    Returns:
        Indices (left, top, right), each [...] and left < top < right wherever three points are there. The top is a
        peak only if its prominence is positive.
    """
    top = prominences(m).argmax(-1)
    index = np.arange(m.shape[-1])
    filled = np.where(np.isnan(m), np.inf, m)
    left = np.where(index < top[..., None], filled, np.inf).argmin(-1)
    right = np.where(index > top[..., None], filled, np.inf).argmin(-1)
    return left, top, right


def pick(m: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Values [...] of curves [..., points] at one index each."""
    return np.take_along_axis(m, index[..., None], -1)[..., 0]


def width_at(x: np.ndarray, m: np.ndarray, top: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Full width of a peak at a level, in decades of x.

    From the top outwards to the first point at or below the level on each side, between grid points linear in log x.

    Args:
        x: [points].
        m: [..., points].
        top: index of the peak, [...].
        level: in units of m, [...].

    Returns:
        log10 of the ratio of the two crossings, [...]; NaN where a side does not come down to the level.
    """
    decades = np.log10(x)
    index = np.arange(len(x))
    below = m <= level[..., None]
    left = np.where(below & (index < top[..., None]), index, -1).max(-1)
    right = np.where(below & (index > top[..., None]), index, len(x)).min(-1)
    inside = (left >= 0) & (right < len(x))

    def crossing(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
        outer, inner = np.clip(outer, 0, len(x) - 1), np.clip(inner, 0, len(x) - 1)
        low, high = pick(m, outer), pick(m, inner)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = (level - low) / (high - low)
            return decades[outer] + share * (decades[inner] - decades[outer])

    return np.where(inside, crossing(right, right - 1) - crossing(left, left + 1), np.nan)


def value_at(x: np.ndarray, m: np.ndarray, at: float) -> np.ndarray:
    """Curves [..., points] at one x, linear in log x between grid points; NaN outside the grid."""
    after = int(np.searchsorted(x, at))
    if after < len(x) and x[after] <= at * (1 + ROUNDING):
        return m[..., after]
    if after > 0 and x[after - 1] >= at * (1 - ROUNDING):
        return m[..., after - 1]
    if after in (0, len(x)):
        return np.full(m.shape[:-1], np.nan)
    share = np.log(at / x[after - 1]) / np.log(x[after] / x[after - 1])
    return (1 - share) * m[..., after - 1] + share * m[..., after]


def threshold_prominence(x: np.ndarray, m: np.ndarray, at: float) -> np.ndarray:
    """Height of a curve at a given x over the higher one of its valleys on the two sides, with no selection of x.

        m(at) - max(min_{x <= 0.85 at} m, min_{x >= 1.2 at} m)

    Args:
        x: [points].
        m: [..., points], usually medians of logarithms.
        at: the threshold; between grid points m is linear in log x.

    Returns:
        [...]; negative where the curve is lower there than on one of the sides, NaN where one of the windows has no
        grid point.
    """
    before = x <= BEFORE * at * (1 + ROUNDING)
    beyond = x >= BEYOND * at * (1 - ROUNDING)
    if not (before.any() and beyond.any()):
        return np.full(m.shape[:-1], np.nan)
    valleys = [np.fmin.reduce(m[..., side], axis=-1) for side in (before, beyond)]
    return value_at(x, m, at) - np.maximum(*valleys)


def first_fall(x: np.ndarray, values: np.ndarray, level: float) -> float:
    """First x at which a curve is down to a level.

    Between grid points the value is linear in log x. Logarithms of the value would not do: the train loss of least
    squares falls to rounding from one point to the next.

    Args:
        x: [points].
        values: [points]; missing points are passed over.
        level: in units of the values.

    Returns:
        x, the first grid point if the curve is at or below the level there, NaN if it never is.
    """
    there = ~np.isnan(values)
    x, values = x[there], values[there]
    reached = np.flatnonzero(values <= level)
    if not len(reached):
        return float("nan")
    j = reached[0]
    if j == 0:
        return float(x[0])
    share = (values[j - 1] - level) / (values[j - 1] - values[j])
    return float(x[j - 1] * (x[j] / x[j - 1]) ** share)
