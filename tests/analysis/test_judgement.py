"""The judgement of one curve: against plain loops and SciPy, and its error rates in simulation."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from analysis.judgement import (
    BOUND_CALIBRATION,
    CALIBRATION,
    counted,
    decisions,
    ends_below_minimum,
    held_out_rises,
    judge,
    median_over,
    medians_of_others,
    of_training_sets,
    p_value,
    prominence_bound,
    t_test,
)
from analysis.prominence import prominences, summit
from dd.theory.isotropic import min_norm_risk

POINTS = 13
U = np.linspace(-1, 1, POINTS)
X = 10 ** (2 + U)
BUMP = np.exp(-((U / 0.2) ** 2) / 2)
DRAWS = 1000
SLACK = 3 * np.sqrt(0.05 * 0.95 / DRAWS)
"""Three standard deviations of a share of 0.05 in ``DRAWS`` draws: 0.021."""

NULLS = {
    "flat": 0 * U,
    "decreasing": -2 * U,
    "U-shaped": 6 * (U - 0.2) ** 2,
    "level, then down": np.where(U < 0.34, 0.0, -3.0),
    "level, then up": np.where(U > 0, 3.0, 0.0),
}


def noise(kind: str, seeds: int, rng: np.random.Generator) -> np.ndarray:
    """[draws, seeds, points], each point with median 0."""
    e = rng.standard_normal((DRAWS, seeds, POINTS))
    if kind == "correlated":  # autoregressive along x, as common random numbers make neighbours
        for j in range(1, POINTS):
            e[..., j] = 0.9 * e[..., j - 1] + np.sqrt(1 - 0.9**2) * e[..., j]
    e *= 0.2
    if kind == "heavy":  # log 1/u² of a standard normal u: the risk next to the threshold
        for j, scale in ((5, 0.3), (6, 1.0), (7, 0.3)):
            u = rng.standard_normal((DRAWS, seeds)) / stats.norm.isf(0.25)
            e[..., j] = e[..., j] / 2 - scale * np.log(u**2)
    return e


def triples(points: int) -> list[tuple[int, int, int]]:
    return [(i, j, k) for j in range(1, points - 1) for i in range(j) for k in range(j + 1, points)]


def test_median_is_numpys() -> None:
    values = np.random.default_rng(0).standard_normal((40, 6))
    values[np.random.default_rng(1).random(values.shape) < 0.3] = np.nan
    values[0] = np.nan
    np.testing.assert_array_equal(median_over(values)[1:], np.nanmedian(values[1:], -1))
    assert np.isnan(median_over(values)[0])


@pytest.mark.parametrize(("seeds", "gaps"), [(3, 0.0), (5, 0.0), (5, 0.2), (12, 0.0)])
def test_intervals_are_those_of_a_plain_loop_over_resamples(seeds: int, gaps: float) -> None:
    rng = np.random.default_rng(seeds)
    logs = 2 * BUMP - U + 0.5 * rng.standard_normal((seeds, POINTS))
    logs[rng.random(logs.shape) < gaps] = np.nan
    assert counted(logs).all()
    drawn: dict[str, list[float]] = {"location": [], "prominence": [], "plateau_value": [], "height_over_minimum": []}
    for chosen in np.random.default_rng(0).integers(seeds, size=(200, seeds)):
        with warnings.catch_warnings(action="ignore"):  # points that no resampled seed has
            curve = np.nanmedian(logs[chosen], axis=0)
        i, j, k = max(triples(POINTS), key=lambda t: np.nan_to_num(_rise(curve, *t), nan=-np.inf))
        peak = _rise(curve, i, j, k) > 0
        drawn["location"].append(X[j] if peak else np.nan)
        drawn["prominence"].append(_rise(curve, i, j, k) if peak else 0.0)
        drawn["height_over_minimum"].append(curve[j] - np.nanmin(curve[:j]) if peak else np.nan)
        drawn["plateau_value"].append(np.exp(curve[-1]))
    got = judge(X, logs, resamples=200)
    for name, values in drawn.items():
        estimate = getattr(got, name)
        expected = np.nanquantile(values, [0.025, 0.975])
        np.testing.assert_allclose([estimate.low, estimate.high], expected, rtol=1e-12, err_msg=name)


def _rise(curve: np.ndarray, i: int, j: int, k: int) -> float:
    return float(curve[j] - max(curve[i], curve[k]))


def test_medians_of_others_are_those_of_a_plain_loop() -> None:
    for seeds in (2, 3, 6):
        logs = np.random.default_rng(seeds).standard_normal((20, seeds, 5)).round(1)
        logs[np.random.default_rng(1).random(logs.shape) < 0.3] = np.nan
        got = medians_of_others(logs)
        for seed in range(seeds):
            with warnings.catch_warnings(action="ignore"):  # points that no other seed has
                expected = np.nanmedian(np.delete(logs, seed, 1), axis=1)
            np.testing.assert_array_equal(got[:, seed], expected)


def test_held_out_rises_are_those_of_a_plain_loop() -> None:
    logs = np.random.default_rng(2).standard_normal((4, 7))
    expected = []
    for seed in range(4):
        others = np.median(np.delete(logs, seed, 0), axis=0)
        i, j, k = max(
            triples(7), key=lambda t: (others[t[1]] - max(others[t[0]], others[t[2]]), -others[[t[0], t[2]]].sum())
        )
        expected.append((logs[seed, j] - logs[seed, i], logs[seed, j] - logs[seed, k]))
    np.testing.assert_allclose(held_out_rises(logs), expected)


def test_a_seed_is_scored_only_where_it_has_values() -> None:
    logs = np.random.default_rng(3).standard_normal((3, 6))
    logs[0, 2] = np.nan
    logs[1, 1:5] = np.nan
    got = held_out_rises(logs)
    assert got[0] == pytest.approx(held_out_rises(np.delete(logs, 2, 1))[0])
    assert np.isnan(got[1]).all(), "two points make no triple"


def test_t_test_has_an_enlarged_variance() -> None:
    scores = np.random.default_rng(4).standard_normal((20, 5)) + 0.5
    t = stats.ttest_1samp(scores, 0, axis=-1).statistic * np.sqrt((1 / 5) / (1 / 5 + 1 / 4))
    np.testing.assert_allclose(t_test(scores), np.minimum(CALIBRATION * stats.t.sf(t, 4), 1))
    assert t_test(np.append(scores[0], np.nan)) == pytest.approx(CALIBRATION * stats.t.sf(t[0], 4))
    assert np.isnan(t_test(np.array([1.0, np.nan])))


def test_p_value_is_the_largest_of_scores_and_sides() -> None:
    rises = np.random.default_rng(4).standard_normal((20, 5, 2)) + 0.5
    rises[0, 2] = np.nan
    expected = np.maximum(t_test(rises.min(-1)), np.maximum(t_test(rises[..., 0]), t_test(rises[..., 1])))
    np.testing.assert_array_equal(p_value(rises), expected)
    # the right valley caps all scores at 0.3, while the left one scatters
    capped = np.array([[3.0, 0.3], [0.4, 0.31], [1.5, 0.3]])
    assert t_test(capped.min(-1)) < 0.01 < 0.1 < p_value(capped)


def test_scores_without_variance_are_taken_at_their_word() -> None:
    scores = np.array([[0.1] * 3, [0.0] * 3, [-0.1] * 3])
    assert t_test(scores).tolist() == [0, 1, 1]
    assert p_value(np.stack([scores, scores + 1], -1)).tolist() == [0, 1, 1]


def test_curves_of_training_sets_are_medians_over_their_seeds() -> None:
    logs = np.random.default_rng(5).standard_normal((2, 7, 4))
    logs[0, :2, 1] = np.nan
    logs[1, 3, 2] = np.nan
    sets = np.array([0, 0, 0, 1, 1, 1, 2])
    got = of_training_sets(logs, sets)
    assert np.isnan(got[0, 0, 1]), "one of three"
    expected = np.stack([np.nanmedian(logs[:, sets == each], axis=1) for each in range(3)], axis=1)
    expected[0, 0, 1] = np.nan
    np.testing.assert_array_equal(got, expected)


def test_decisions_of_many_curves_are_those_of_each() -> None:
    rng = np.random.default_rng(15)
    scale = np.geomspace(0.02, 1, 40)[:, None, None]
    logs = BUMP * rng.choice([0, 1.0], (40, 1, 1)) + scale * rng.standard_normal((40, 4, POINTS))
    decided, p, bound = decisions(logs)
    assert set(decided) == {"peak", "no peak", "undecided"}
    for i, curve in enumerate(logs):
        peak = judge(X, curve, resamples=10)
        assert (peak.decision, peak.p_value, peak.prominence_bound) == (decided[i], p[i], bound[i])


def test_bound_is_the_largest_of_all_triples() -> None:
    logs = np.random.default_rng(5).standard_normal((5, 6))

    def upper(j: int, i: int) -> float:
        # a two-sided interval at 1 - alpha has alpha/2 on each side
        interval = stats.ttest_rel(logs[:, j], logs[:, i]).confidence_interval(1 - 0.05 / BOUND_CALIBRATION)
        return float(interval.high)

    expected = max(min(upper(j, i), upper(j, k)) for i, j, k in triples(6))
    assert prominence_bound(logs) == pytest.approx(expected)


def test_a_shift_of_a_whole_seed_changes_no_score_and_no_bound() -> None:
    rng = np.random.default_rng(6)
    logs = rng.standard_normal((2, 5))
    shifted = logs + rng.standard_normal((2, 1))  # with two seeds medians of others are the other seed
    np.testing.assert_allclose(held_out_rises(shifted), held_out_rises(logs))
    np.testing.assert_allclose(prominence_bound(shifted), prominence_bound(logs))


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("kind", ["independent", "correlated", "heavy"])
@pytest.mark.parametrize("null", NULLS)
def test_curves_without_a_peak_are_rejected_at_the_level(null: str, kind: str, seeds: int) -> None:
    logs = NULLS[null] + noise(kind, seeds, np.random.default_rng(7))
    assert np.mean(p_value(held_out_rises(logs)) <= 0.05) <= 0.05


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("kind", ["independent", "correlated"])
def test_the_bound_is_seldom_below_the_prominence(kind: str, seeds: int) -> None:
    curve = 0.2 * BUMP
    for scale in (0.1, 0.5):
        logs = curve + scale * noise(kind, seeds, np.random.default_rng(8))
        assert np.mean(prominence_bound(logs) < prominences(curve).max()) <= 0.05 + SLACK


def test_a_clear_peak_is_found_and_placed() -> None:
    logs = BUMP + noise("independent", 5, np.random.default_rng(9))
    assert np.mean(p_value(held_out_rises(logs)) <= 0.05) >= 0.95
    assert np.mean(prominence_bound(logs) >= 0.2) >= 0.95
    _, top, _ = summit(np.median(logs, axis=-2))
    assert np.mean(np.abs(top - 6) <= 1) >= 0.95


def test_a_quiet_curve_without_a_peak_is_told_from_one() -> None:
    logs = NULLS["decreasing"] + 0.25 * noise("independent", 5, np.random.default_rng(10))
    assert np.mean(prominence_bound(logs) < 0.2) >= 0.95


def test_intervals_cover() -> None:
    """With ten seeds and distinct summits; fewer seeds are in docs/peaks.md."""
    curve = np.where(np.arange(POINTS) == 6, 1.0, -0.5 * np.abs(U))
    rng = np.random.default_rng(11)
    hits = []
    for _ in range(120):
        peak = judge(X, curve + 0.05 * rng.standard_normal((10, POINTS)), resamples=200)
        truth = {"prominence": 1.5, "height_over_plateau": 1.5, "location": X[6], "peak_value": np.e}
        estimates = {name: getattr(peak, name) for name in truth}
        hits.append(
            [
                estimates[name].low <= value * (1 + 1e-12) and value <= estimates[name].high
                for name, value in truth.items()
            ]
        )
    assert np.all(np.mean(hits, axis=0) >= 0.85)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("left", [[1.0, 0.5, 0, 0.5, 1, 1.5], [0.0, 0, 0, 0, 0, 1]], ids=["valley", "level"])
def test_an_end_as_low_as_the_left_side_is_seldom_told_from_it(left: list[float], seeds: int) -> None:
    curve = np.array([*left, 2, 1, 0.8, 0.6, 0.4, 0.2, 0])
    rng = np.random.default_rng(13)
    words = [ends_below_minimum(curve + 0.1 * rng.standard_normal((seeds, POINTS)), 6) for _ in range(400)]
    assert sum(word != "undecided" for word in words) / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_an_end_off_the_left_side_is_told_from_it() -> None:
    curve = np.array([1, 0.5, 0, 0.5, 1, 1.5, 2, 1, 0.8, 0.6, 0.4, 0.2, 0])
    rng = np.random.default_rng(14)
    for shift, word in ((-0.5, "yes"), (0.5, "no")):
        moved = curve + shift * (np.arange(POINTS) == POINTS - 1)
        words = [ends_below_minimum(moved + 0.1 * rng.standard_normal((5, POINTS)), 6) for _ in range(200)]
        assert words.count(word) >= 0.9 * 200


def test_quantities_of_a_curve_without_noise() -> None:
    x = np.array([1.0, 10.0, 100.0, 1000.0, 1e4])
    m = np.array([0.5, 0.0, 2.0, 1.0, -0.5])
    peak = judge(x, np.tile(m, (3, 1)), threshold=100.0)
    assert peak.decision == "peak"
    assert (peak.p_value, peak.seeds, peak.points, peak.dropped) == (0, 3, 5, 0)
    expected = {
        "location": 100, "prominence": 2.0, "height_over_plateau": 2.5, "height_over_minimum": 2.0,
        "final_descent": -0.5, "peak_value": np.exp(2), "plateau_value": np.exp(-0.5), "minimum_value": 1.0,
        "minimum_location": 10, "prominence_at_threshold": 2.0,
        "width_at_half_height": 0.5 + 1,  # level 1: half-way up from 10, down at 1000
    }  # fmt: skip
    for name, value in expected.items():
        got = getattr(peak, name)
        assert [got.value, got.low, got.high] == pytest.approx([value] * 3), name
    assert peak.prominence_bound == pytest.approx(2.0)
    assert peak.ends_below_minimum == "yes"
    assert judge(x, np.tile(np.append(m[:-1], 0.5), (3, 1))).ends_below_minimum == "no"


def test_curves_without_an_interior_maximum_have_no_location() -> None:
    for m in (np.arange(5.0), -np.arange(5.0), np.array([3.0, 1, 0, 2, 5])):
        peak = judge(np.arange(1.0, 6), np.tile(m, (3, 1)))
        assert peak.decision == "no peak"
        assert peak.prominence.value == 0
        assert np.isnan(peak.location.value)
        assert peak.ends_below_minimum == "undecided"


def test_a_peak_too_small_to_matter_is_no_peak() -> None:
    logs = np.tile([0.0, 0.0, 0.1, 0.0, 0.0], (5, 1)) + 1e-3 * np.random.default_rng(12).standard_normal((5, 5))
    small = judge(np.arange(1.0, 6), logs)
    assert small.p_value < 0.05
    assert small.decision == "no peak"
    assert judge(np.arange(1.0, 6), logs, delta=0.05).decision == "peak"


def test_one_or_two_seeds_decide_nothing() -> None:
    for seeds, reason in ((1, "1 seed, fewer than 3"), (2, "2 seeds, fewer than 3")):
        for curve in ([0.0, 1, 5, 1, 0], [0.0, 1, 2, 3, 4]):
            peak = judge(np.arange(1.0, 6), np.tile(curve, (seeds, 1)))
            assert (peak.decision, peak.reason) == ("undecided", reason)
            assert np.isnan(peak.prominence.low) == (seeds == 1)


def test_points_count_if_half_of_the_seeds_are_there() -> None:
    logs = np.zeros((5, 8))
    logs[:3, 0] = np.inf
    logs[:2, 1] = np.nan
    peak = judge(np.arange(1.0, 9), logs)
    assert (peak.points, peak.dropped, peak.decision) == (7, 1, "no peak")
    logs[:4, 2:6] = np.nan
    few = judge(np.arange(1.0, 9), logs)
    assert (few.points, few.dropped, few.decision) == (3, 5, "undecided")
    assert "3 points" in few.reason


def test_two_seeds_must_both_be_there() -> None:
    logs = np.zeros((2, 6))
    logs[0, 3] = np.nan
    assert judge(np.arange(1.0, 7), logs).points == 5


@pytest.mark.parametrize(
    ("threshold", "decision"), [(3.0, "undecided"), (2.5, "undecided"), (2.0, "no peak"), (9.0, "no peak")]
)
def test_missing_runs_at_the_threshold_leave_it_undecided(threshold: float, decision: str) -> None:
    logs = np.zeros((3, 6))
    logs[:, 2] = np.nan
    peak = judge(np.arange(1.0, 7), logs, threshold)
    assert peak.decision == decision
    assert ("threshold" in peak.reason) == (decision == "undecided")


@pytest.mark.parametrize("x", [[0.0, 1, 2, 3], [1.0, 1, 2, 3], [4.0, 3, 2, 1]])
def test_x_must_be_positive_and_ascending(x: list[float]) -> None:
    with pytest.raises(ValueError, match="positive and ascending"):
        judge(np.array(x), np.zeros((2, 4)))


def test_shapes_must_match() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        judge(np.arange(1.0, 5), np.zeros((2, 3)))


def test_the_exact_isotropic_curve_peaks_beside_the_threshold() -> None:
    """The mean risk is infinite at n - 1 … n + 1, which is missing; either neighbour is the top."""
    x = np.array([10, 50, 100, 150, 180, 195, 198, 200, 202, 205, 220, 300, 500, 1000])
    curve = np.log([min_norm_risk(200, p, 0.5) for p in x])
    peak = judge(x, np.tile(curve, (3, 1)))
    assert (peak.decision, peak.dropped) == ("peak", 1)
    assert peak.location.value in (198, 202)
    under = x < 200
    assert judge(x[under], np.tile(curve[under], (3, 1))).decision == "no peak"


def test_min_norm_regressions_peak_at_the_threshold() -> None:
    """Real fits: n = 40, noise 0.5, ten seeds; far from n their median risk is near the mean risk of theory."""
    n, widths = 40, np.array([5, 10, 20, 30, 36, 40, 44, 50, 60, 80, 120, 200])
    risk = np.empty((10, len(widths)))
    for seed in range(10):
        rng = np.random.default_rng(seed)
        inputs, direction, errors = rng.standard_normal((n, 200)), rng.standard_normal(200), rng.standard_normal(n)
        for k, p in enumerate(widths):
            b = direction[:p] / np.linalg.norm(direction[:p])
            fit = np.linalg.lstsq(inputs[:, :p], inputs[:, :p] @ b + 0.5 * errors, rcond=None)[0]
            risk[seed, k] = np.sum((fit - b) ** 2)
    peak = judge(widths, np.log(risk), threshold=n)
    assert peak.decision == "peak"
    at = int(np.flatnonzero(widths == n)[0])
    assert abs(int(np.flatnonzero(widths == peak.location.value)[0]) - at) <= 1
    for k in (2, 10, 11):
        assert np.median(risk[:, k]) == pytest.approx(min_norm_risk(n, int(widths[k]), 0.5), rel=0.25)
    assert all(a < b for a, b in pairwise((peak.prominence.low, peak.prominence.value, peak.prominence.high)))
