"""The train loss beside its rivals: each statistic against another package or a count, and planted answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from analysis import association, rivals, words


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_weighted_auc_is_that_of_scikit_learn(rng: np.random.Generator) -> None:
    score, positive, weight = rng.integers(0, 9, 60).astype(float), rng.random(60) < 0.4, rng.uniform(0.1, 3, 60)
    expected = roc_auc_score(positive, score, sample_weight=weight)
    assert rivals.weighted_auc(score, positive, weight) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(rivals.weighted_auc(score, np.ones(60, bool), weight))


def test_kinds_with_many_conditions_weigh_no_more(rng: np.random.Generator) -> None:
    kinds = np.array(["a"] * 50 + ["b"] * 2)
    weight = rivals.equal_weights(kinds)
    assert weight[:50].sum() == pytest.approx(weight[50:].sum())


def test_bins_hold_equal_values_and_neighbours_within_the_width() -> None:
    found = rivals.strata(np.array([1e4, 1.05e4, 2e4, 1e-3, 1e4]), 0.1)
    assert found[0] == found[1] == found[4]
    assert len(set(found)) == 3


def test_auc_inside_strata_counts_pairs_of_the_same_stratum(rng: np.random.Generator) -> None:
    score, positive = rng.integers(0, 6, 80).astype(float), rng.random(80) < 0.5
    stratum = rng.integers(0, 7, 80)
    won = [
        float(score[i] > score[j]) + 0.5 * float(score[i] == score[j])
        for i in np.flatnonzero(positive)
        for j in np.flatnonzero(~positive)
        if stratum[i] == stratum[j]
    ]
    assert rivals.within_auc(score, positive, stratum) == pytest.approx(np.mean(won), abs=1e-12)
    assert np.isnan(rivals.within_auc(score, positive, np.arange(80)))


def test_permutation_p_in_one_stratum_is_that_of_mann_and_whitney() -> None:
    rng = np.random.default_rng(3)
    score = np.concatenate([rng.normal(0.6, 1, 12), rng.normal(0, 1, 15)])
    positive = np.arange(27) < 12
    expected = stats.mannwhitneyu(score[positive], score[~positive], alternative="greater", method="exact").pvalue
    found = rivals.within_p(score, positive, np.zeros(27, np.intp), permutations=20_000)
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected / 20_000))
    assert 0.01 < expected < 0.5


def test_what_only_differs_between_strata_counts_for_nothing_inside(rng: np.random.Generator) -> None:
    stratum = np.repeat(np.arange(10), 20)
    positive = rng.random(200) < stratum / 10
    score = stratum + 0.1 * rng.standard_normal(200)
    assert association.auc(score, positive) > 0.75
    assert rivals.within_p(score, positive, stratum) > 0.05
    assert rivals.within_p(score + positive, positive, stratum) == pytest.approx(1 / (rivals.PERMUTATIONS + 1))


def test_partial_correlation_is_that_of_the_inverse_of_the_rank_correlations(rng: np.random.Generator) -> None:
    data = rng.standard_normal((4, 90))
    data[0] += data[2] - data[3]
    data[1] += 0.5 * data[0] + data[2]
    precision = np.linalg.inv(np.corrcoef([stats.rankdata(row) for row in data]))
    expected = -precision[0, 1] / np.sqrt(precision[0, 0] * precision[1, 1])
    assert rivals.partial_given(data[0], data[1], data[2:]) == pytest.approx(expected, abs=1e-10)
    none = rivals.partial_given(data[0], data[1], np.empty((0, 90)))
    assert none == pytest.approx(stats.spearmanr(data[0], data[1]).statistic, abs=1e-12)


def test_held_out_log_likelihoods_are_those_of_scikit_learn(rng: np.random.Generator) -> None:
    x = rng.standard_normal((2, 120)) * np.array([[3.0], [0.2]]) + 5
    positive = rng.random(120) < 1 / (1 + np.exp(-(x[0] - 5)))
    folds = rng.integers(0, 5, 120)
    expected = np.empty(120)
    for fold in range(5):
        kept, out = folds != fold, folds == fold
        centre, spread = x[:, kept].mean(1, keepdims=True), x[:, kept].std(1, keepdims=True)
        model = LogisticRegression(C=1 / (2 * rivals.PENALTY), tol=1e-10, max_iter=10_000)
        model.fit(((x[:, kept] - centre) / spread).T, positive[kept])
        probability = model.predict_proba(((x[:, out] - centre) / spread).T)
        expected[out] = np.log(np.where(positive[out], probability[:, 1], probability[:, 0]))
    assert rivals.held_out(x, positive, folds) == pytest.approx(expected, abs=1e-5)


def test_separable_data_have_a_fit() -> None:
    x = np.arange(40.0)[None]
    found = rivals.held_out(x, x[0] > 19.5, np.arange(40) % 5)
    assert np.isfinite(found).all()
    assert np.exp(found).mean() > 0.9


def test_a_mean_over_clusters_of_one_has_students_interval(rng: np.random.Generator) -> None:
    values = rng.standard_normal(12)
    found = rivals.clustered_mean(values, np.arange(12))
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((low, high))
    twice = rivals.clustered_mean(np.tile(values, 3), np.tile(np.arange(12), 3))
    assert (twice.low, twice.high) == pytest.approx((low, high))  # copies tell nothing new


def planted(by: str, rng: np.random.Generator, count: int = 400) -> pd.DataFrame:
    """Conditions in which one quantity decides about the peak, and the other follows it with scatter."""
    tau = 10.0 ** rng.integers(1, 8, count)
    loss = 10 ** (-np.log10(tau) * 0.7 + 0.5 * rng.standard_normal(count))
    drive = np.log10(tau) - 4.1 if by == "tau" else -np.log10(loss) - 2.8
    drive = drive + 0.2 * rng.standard_normal(count)
    height = np.where(drive > 0, 0.3 + 0.2 * drive, 0.05) + 0.01 * rng.standard_normal(count)
    return pd.DataFrame(
        {
            "train_loss": loss, "tau": tau, "steps": rng.choice([100.0, 1000.0, 10_000.0], count), "height": height,
            "feature_condition": np.exp(rng.standard_normal(count)), "method": rng.choice(["gd", "adam"], count),
            "cluster": rng.integers(0, 12, count).astype(str), "trained": False,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("by", "name", "other"), [("tau", rivals.TIME, "train loss"), ("loss", "train loss", rivals.TIME)]
)
def test_the_quantity_that_decides_is_found(by: str, name: str, other: str, rng: np.random.Generator) -> None:
    found = planted(by, rng)
    rivalry = rivals.compare(found, (found["height"] > 0.2).to_numpy())
    table = rivalry.table.set_index("quantity")
    assert rivalry.duels[other, name].outcome == "adds"
    assert rivalry.duels[name, other].outcome == "nothing"
    assert rivalry.duels[name, other].within.low < 0.5
    assert table.loc[name, "sufficient"] == "yes"
    assert table.loc[other, "sufficient"] == "no"
    assert name in table.loc[other, "added"]
    assert table.loc[name, "auc"] > max(0.95, table.loc[other, "auc"])
    text = words.rivals(rivalry.table, rivalry.duels)
    assert f"Sufficient, with no other quantity adding anything: {name}." in text
    says = "nothing is shown to tell" if by == "loss" else f"these tell peak from no peak: {rivals.TIME}"
    assert says in text


def test_a_quantity_that_few_conditions_have_is_not_compared(rng: np.random.Generator) -> None:
    found = planted("loss", rng)
    found.loc[10:, "tau"] = np.nan
    rivalry = rivals.compare(found, (found["height"] > 0.2).to_numpy())
    assert rivals.TIME not in set(rivalry.table["quantity"])
    assert "training time" not in words.rivals(rivalry.table, rivalry.duels)
