"""Geometry of sampled curves, against SciPy, NumPy, formulas and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import find_peaks, peak_prominences

from analysis.prominence import (
    first_fall,
    pick,
    prominences,
    summit,
    threshold_prominence,
    value_at,
    width_at,
)


def test_the_most_prominent_maximum_is_scipys() -> None:
    rng = np.random.default_rng(0)
    for points in (3, 4, 7, 30):
        for m in rng.standard_normal((200, points)).cumsum(-1):
            maxima, _ = find_peaks(m)
            got = prominences(m)
            if not len(maxima):
                assert got.max() <= 0
                continue
            expected = peak_prominences(m, maxima)[0]
            assert got.max() == pytest.approx(expected.max())
            assert got.argmax() == maxima[expected.argmax()]


def test_summit_is_the_best_of_all_triples() -> None:
    for m in np.random.default_rng(1).standard_normal((50, 8)):
        triples = [(i, j, k) for j in range(1, 7) for i in range(j) for k in range(j + 1, 8)]
        best = max(triples, key=lambda t: m[t[1]] - max(m[t[0]], m[t[2]]))
        left, top, right = summit(m)
        assert top == best[1]
        assert m[top] - max(m[left], m[right]) == m[best[1]] - max(m[best[0]], m[best[2]])


def test_missing_points_are_passed_over() -> None:
    m = np.random.default_rng(2).standard_normal((30, 9))
    gone = m.copy()
    gone[:, [0, 4, 8]] = np.nan
    np.testing.assert_array_equal(np.delete(prominences(gone), [0, 4, 8], -1), prominences(np.delete(m, [0, 4, 8], -1)))
    assert np.all(prominences(gone)[:, [0, 4, 8]] == -np.inf)


def test_half_width_of_a_gaussian_bump_is_in_decades() -> None:
    x = np.sort(10 ** np.random.default_rng(3).uniform(1, 4, 400))
    m = 0.7 * np.exp(-((np.log10(x) - 2.4) ** 2) / (2 * 0.2**2)) + 0.3
    _, top, _ = summit(m)
    width = width_at(x, m, top, pick(m, top) - pick(prominences(m), top) / 2)
    assert width == pytest.approx(2 * np.sqrt(2 * np.log(2)) * 0.2, rel=0.01)


def test_width_of_a_triangle_in_log_x_is_exact_on_a_coarse_grid() -> None:
    x = np.array([1.0, 10.0, 1000.0, 1e5])
    m = np.array([0.0, 1.0, 3.0, 1.0])
    # level 2 is crossed half-way between 10 and 1000, and half-way between 1000 and 1e5
    assert width_at(x, m, np.array(2), np.array(2.0)) == pytest.approx(2.0)
    assert np.isnan(width_at(x, m, np.array(2), np.array(0.5))), "the right side does not come down"


def test_values_between_points_are_linear_in_log_x() -> None:
    x, m = np.array([2.0, 5.0, 30.0, 40.0]), np.random.default_rng(4).standard_normal((3, 4))
    for at in (2, 2.1, 5, 17, 39, 40):
        np.testing.assert_allclose(value_at(x, m, at), [np.interp(np.log(at), np.log(x), row) for row in m])
    assert np.all(np.isnan(value_at(x, m, 1.9)))
    assert np.all(np.isnan(value_at(x, m, 41)))


@pytest.mark.parametrize("at", [100, 97.3])
def test_threshold_prominence_has_fixed_windows(at: float) -> None:
    x = np.array([10, 50, 80, 85, 90, 100, 110, 120, 200])
    for m in np.random.default_rng(5).standard_normal((20, len(x))):
        before = min(m[j] for j in range(len(x)) if x[j] <= 0.85 * at)
        beyond = min(m[j] for j in range(len(x)) if x[j] >= 1.2 * at)
        top = np.interp(np.log(at), np.log(x), m)
        assert threshold_prominence(x, m, at) == pytest.approx(top - max(before, beyond))


def test_threshold_prominence_needs_both_windows() -> None:
    x = np.array([10.0, 20.0, 30.0])
    assert np.isnan(threshold_prominence(x, np.zeros(3), 30))
    assert np.isnan(threshold_prominence(x, np.zeros(3), 10))


def test_first_fall_is_where_a_line_crosses() -> None:
    x = np.geomspace(10, 1000, 7)
    loss = 2 - np.log10(x) / 2  # linear in log x: 1.2 at 10^1.6
    assert first_fall(x, loss, 1.2) == pytest.approx(10**1.6)
    loss[0] = np.nan
    assert first_fall(x, loss, 1.2) == pytest.approx(10**1.6)
    assert np.isnan(first_fall(x, loss, 0.1))
    assert first_fall(x, loss, 5.0) == x[1]
