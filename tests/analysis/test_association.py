"""Statistics of the verdict against SciPy, scikit-learn and planted answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from analysis import association


def test_rank_correlations_are_scipys() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 6, 40).astype(float), rng.standard_normal(40)
    assert association.ranks(x).tolist() == stats.rankdata(x).tolist()
    assert association.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert np.isnan(association.spearman(np.ones(9), y[:9]))
    assert np.isnan(association.spearman(x[:2], y[:2]))


def test_places_have_the_ranks_of_the_numbers_in_any_part_of_them() -> None:
    rng = np.random.default_rng(10)
    x = rng.integers(0, 9, 50) / 7
    for drawn in (np.arange(50), rng.integers(0, 50, 80), np.array([3]), np.array([], int)):
        got = association.ranks(association.places(x)[drawn])
        assert got.tolist() == stats.rankdata(x[drawn]).tolist()


def test_partial_correlation_is_that_of_the_residual_ranks() -> None:
    rng = np.random.default_rng(1)
    z = rng.standard_normal(200)
    x, y = z + rng.standard_normal(200), z + rng.standard_normal(200)
    rx, ry, rz = (stats.rankdata(v) for v in (x, y, z))
    left = [v - np.polyval(np.polyfit(rz, v, 1), rz) for v in (rx, ry)]
    assert association.partial_spearman(x, y, z) == pytest.approx(np.corrcoef(*left)[0, 1], abs=1e-9)
    assert abs(association.partial_spearman(x, y, z)) < 0.2 < association.spearman(x, y)


def test_correlation_within_groups_ignores_what_is_between_them() -> None:
    rng = np.random.default_rng(2)
    groups = np.repeat(["a", "b", "c"], 40)
    shift = np.repeat([0.0, 10.0, 20.0], 40)
    noise = rng.standard_normal(120)
    x, y = shift + noise, shift - noise
    assert association.spearman(x, y) > 0.7
    assert association.within_spearman(x, y, groups) == pytest.approx(-1)
    by_hand = np.average([stats.spearmanr(x[groups == g], (y + shift)[groups == g]).statistic for g in "abc"])
    assert association.within_spearman(x, y + shift, groups) == pytest.approx(by_hand)


def test_auc_is_scikit_learns() -> None:
    rng = np.random.default_rng(3)
    score, positive = rng.integers(0, 9, 80).astype(float), rng.random(80) < 0.3
    assert association.auc(score, positive) == pytest.approx(roc_auc_score(positive, score))
    assert np.isnan(association.auc(score, np.ones(80, bool)))


def test_logistic_midpoint_is_where_scikit_learns_crosses_one_half() -> None:
    rng = np.random.default_rng(4)
    x = rng.uniform(-6, 0, 500)
    positive = rng.random(500) < 1 / (1 + np.exp(3 * (x + 2.2)))
    fit = LogisticRegression(C=np.inf, tol=1e-10).fit(x[:, None], positive)
    assert association.logistic_midpoint(x, positive) == pytest.approx(
        float(-fit.intercept_[0] / fit.coef_[0, 0]), abs=2e-3
    )
    assert association.logistic_midpoint(x, positive) == pytest.approx(-2.2, abs=0.2)


def test_logistic_midpoint_of_separable_classes_lies_between_them() -> None:
    x = np.array([-5.0, -4.5, -4.2, -3.0, -2.0, -1.0])
    assert -4.2 < association.logistic_midpoint(x, x < -4) < -3
    assert np.isnan(association.logistic_midpoint(x, x < 0))


def test_separating_level_maximises_sensitivity_plus_specificity() -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal(60).round(1)
    positive = x + 0.5 * rng.standard_normal(60) < -0.3

    def youden(level: float) -> float:
        return (x[positive] <= level).mean() + (x[~positive] > level).mean() - 1

    level = association.separating_level(x, positive)
    assert youden(level) >= max(youden(v) for v in x) - association.NEARLY_BEST
    assert association.separating_level(np.array([1.0, 2, 3, 4]), np.array([True, True, False, False])) == 2.5
    assert np.isnan(association.separating_level(x, np.zeros(60, bool)))


def test_left_out_predictions_never_see_what_they_predict() -> None:
    x = np.array([-3.0, -2.5, -2.0, -1.9, 0.0, 0.5, 1.0])
    positive = np.array([True, True, True, False, False, False, False])
    predicted = association.left_out_predictions(x, positive, np.arange(7))
    by_hand = []
    for i in range(7):
        rest = np.arange(7) != i
        by_hand.append(x[i] <= association.separating_level(x[rest], positive[rest]))
    assert predicted.tolist() == by_hand
    assert predicted[3]  # alone at the border, it is taken for a peak
    flipped = positive.copy()
    flipped[0] = False
    assert association.left_out_predictions(x, flipped, np.arange(7))[0] == predicted[0]


def test_explained_share_is_that_of_kruskal_and_wallis() -> None:
    rng = np.random.default_rng(6)
    levels = np.repeat(["x", "y", "z"], 30)
    residual = rng.standard_normal(90) + np.repeat([0.0, 0.4, 1.0], 30)
    h = stats.kruskal(*(residual[levels == v] for v in "xyz")).statistic
    assert association.explained_by(residual, levels) == pytest.approx((h - 2) / (90 - 3))
    assert association.explained_by(rng.standard_normal(90), levels) < 0.06
    assert association.explained_by(np.repeat([1.0, 2.0, 3.0], 30), levels) == pytest.approx(1)


def test_interval_of_a_mean_of_equal_clusters_is_students_of_their_means() -> None:
    rng = np.random.default_rng(7)
    cluster = np.repeat(np.arange(12), 25)
    values = rng.standard_normal(12)[cluster] + 0.1 * rng.standard_normal(300)
    got = association.cluster_interval(lambda i: float(values[i].mean()), cluster)
    of_means = np.array([values[cluster == c].mean() for c in range(12)])
    expected = stats.ttest_1samp(of_means, 0).confidence_interval(0.95)
    assert got.value == pytest.approx(values.mean())
    reach = association.CALIBRATION * (expected.high - values.mean())
    assert [got.low, got.high] == pytest.approx([values.mean() - reach, values.mean() + reach])
    alone = association.cluster_interval(lambda i: float(values[i].mean()), np.arange(300))
    assert got.high - got.low > 3 * (alone.high - alone.low)


def test_interval_is_a_plain_jackknife_of_whole_clusters_on_the_scale() -> None:
    rng = np.random.default_rng(11)
    cluster = np.repeat(["a", "b", "c", "d", "e"], [12, 11, 10, 9, 8])
    x = rng.standard_normal(50)
    y = x + rng.standard_normal(50)
    left = [stats.spearmanr(x[cluster != c], y[cluster != c]).statistic for c in "abcde"]
    rho = stats.spearmanr(x, y).statistic
    fisher = np.arctanh(np.array([*left, rho]) * 50 / 51)
    error = association.CALIBRATION * np.sqrt(4 / 5 * np.sum((fisher[:-1] - fisher[-1]) ** 2))
    n2 = np.array([12, 11, 10, 9, 8]) ** 2
    t = stats.t.ppf(0.975, n2.sum() ** 2 / (n2**2).sum() - 1)
    expected = np.tanh(fisher[-1] + np.array([-t, t]) * error) * 51 / 50
    got = association.cluster_interval(lambda i: association.spearman(x[i], y[i]), cluster, "correlation")
    assert [got.low, got.value, got.high] == pytest.approx([expected[0], rho, expected[1]])


def test_a_statistic_that_jumps_is_resampled_in_whole_clusters() -> None:
    rng = np.random.default_rng(11)
    cluster, values = np.tile(["a", "b", "c", "d"], 8), rng.standard_normal(32)
    names = sorted(set(cluster))
    for seed, resamples in ((0, 60), (1, 60), (0, 90)):
        generator, drawn = np.random.default_rng(seed), []
        for _ in range(resamples):
            chosen = [names[c] for c in generator.integers(0, 4, 4)]
            drawn.append(np.concatenate([values[cluster == c] for c in chosen]).max())
        reach = (
            association.CALIBRATION
            * stats.t.ppf(0.975, 3)
            * np.sqrt(4 / 3 * np.mean((np.array(drawn) - values.max()) ** 2))
        )
        got = association.cluster_interval(
            lambda i: float(values[i].max()), cluster, smooth=False, resamples=resamples, seed=seed
        )
        assert [got.low, got.high] == pytest.approx([values.max() - reach, values.max() + reach])


def test_degrees_of_freedom_count_clusters_by_size() -> None:
    assert association.freedom(np.full(15, 24)) == pytest.approx(14)
    assert association.freedom(np.array([1000, 1, 1])) == 1
    assert 1 < association.freedom(np.array([100, 50, 50, 10])) < 3


@pytest.mark.parametrize("share", [1.0, 0.0])
def test_a_share_of_all_or_none_is_wilsons_of_the_clusters(share: float) -> None:
    cluster = np.repeat(np.arange(12), 5)
    hits = np.full(60, share)
    expected = stats.binomtest(int(12 * share), 12).proportion_ci(method="wilson")
    got = association.cluster_interval(lambda i: float(hits[i].mean()), cluster, "share")
    assert [got.low, got.high] == pytest.approx([expected.low, expected.high], abs=1e-12)
    among = cluster < 4  # four clusters have observations
    got = association.cluster_interval(lambda i: float(hits[i][among[i]].mean()), cluster, "share", among=among)
    expected = stats.binomtest(int(4 * share), 4).proportion_ci(method="wilson")
    assert [got.low, got.high] == pytest.approx([expected.low, expected.high], abs=1e-12)


def test_a_share_never_leaves_its_range() -> None:
    cluster = np.repeat(np.arange(6), 4)
    hits = np.ones(24)
    hits[:2] = 0
    got = association.cluster_interval(lambda i: float(hits[i].mean()), cluster, "share")
    assert 0 < got.low < got.value < got.high <= 1


def test_slope_is_scipys_theil_sen() -> None:
    rng = np.random.default_rng(8)
    x = rng.standard_normal(30)
    y = -x + 0.1 * rng.standard_normal(30)
    assert association.theil_sen(x, y) == pytest.approx(stats.theilslopes(y, x).slope)


def test_p_value_counts_the_permutations_that_explain_as_much() -> None:
    rng = np.random.default_rng(12)
    clusters = np.repeat(np.arange(5), 8)
    levels = rng.integers(0, 3, 40) * 2  # a level between them is missing
    residual = (rng.standard_normal(40) + 0.1 * levels).round(1)
    observed = association.explained_by(residual, levels)
    generator, hits = np.random.default_rng(3), 0
    for _ in range(99):
        random = generator.random(40)
        shuffled = levels.copy()
        for c in range(5):
            shuffled[clusters == c] = levels[clusters == c][np.argsort(random[clusters == c])]
        hits += association.explained_by(residual, shuffled) >= observed
    assert 0 < hits < 99
    assert association.permutation_p(residual, levels, clusters, 99, seed=3) == (hits + 1) / 100


def test_permutations_find_a_factor_that_acts_and_keep_their_level_where_none_does() -> None:
    rng = np.random.default_rng(9)
    clusters = np.repeat(np.arange(12), 10)
    within, between = np.tile([0, 1], 60), np.repeat([0, 1], 60)
    noise = rng.standard_normal(120)
    assert association.permutation_p(noise + within, within, clusters) < 0.01
    assert association.permutation_p(noise + 2 * between, between, clusters) < 0.02
    p_values = []
    for draw in range(60):
        shared = rng.standard_normal(12)[clusters] + 0.1 * rng.standard_normal(120)
        p_values.append(association.permutation_p(shared, between, clusters, permutations=99, seed=draw))
    # clusters scatter by themselves: 120 conditions are 12 observations of a factor that is fixed in each
    assert np.mean(np.array(p_values) <= 0.05) < 0.15
    assert np.isnan(association.permutation_p(noise, between, between))


def test_holm_is_the_step_down_correction() -> None:
    got = association.holm(np.array([0.01, 0.04, np.nan, 0.03]))
    assert got[:2].tolist() == pytest.approx([0.03, 0.06])
    assert got[3] == pytest.approx(0.06)
    assert np.isnan(got[2])


def test_a_statistic_that_needs_one_cluster_has_no_interval() -> None:
    positive = np.array([True] + [False] * 11)
    x = np.arange(12.0)
    for smooth in (True, False):
        got = association.cluster_interval(
            lambda i: association.auc(-x[i], positive[i]), np.arange(12), "share", smooth=smooth
        )
        assert got.value == 1
        assert np.isnan([got.low, got.high]).all()
    assert np.isnan(association.cluster_interval(lambda i: 0.5, np.zeros(9, int)).low)
