"""The claim of Liu & Flanigan (arXiv 2312.03951) put to the test: is there a peak if and only if the train loss is low?

All definitions are this project's own, fixed before the study was run (``docs/verdict.md``); the settings of its runs are
this project's own too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from analysis import association, peaks
from analysis.association import Estimate
from analysis.judgement import FEWEST_POINTS
from analysis.prominence import value_at

PROBLEM = ("model", "data", "n_train", "loss")
"""Columns whose values are judged apart; noisy and clean labels are too."""

HEIGHT = 0.2
"""Prominence of the log median test loss above which a condition counts as having a peak: 22 %."""

LOSS_FLOOR = 1e-8
"""Train losses below this count as this much: what is left is rounding."""

MARGIN_LOW, MARGIN_HIGH = 0.3, 0.2
"""A violator lies this many decades below (above) the level and has no peak (has one)."""

CLEAR_LOW = 0.1
"""... where no peak means a prominence below this."""

RESAMPLES = 500
"""Of the cluster bootstrap."""

ENOUGH = 20
"""Conditions that a verdict takes at least, with three on each side."""

STRONG = 0.8
""""If" ("only if") holds if the interval of its share lies above this, and fails if it lies below."""

LEVELS_APART = 0.3
"""Levels of a factor whose L50 differ by more than so many decades act beside the train loss."""

FACTORS = ("optimizer", "steps", "lr", "batch_size", "init_scale", "normalization", "standardize", "model_activation")
FEATURES = ("standardize", "normalization", "model_activation", "model_bias", "model_bandwidth")
"""Conditions of random features that agree in these share their design matrices: a cluster."""

CONDITIONING = (
    "feature_condition", "feature_condition_init", "hessian_condition", "preconditioned_condition", "feature_rank",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What the conditions of one problem say.

    Attributes:
        family: the problem in words, for example ``random_features on digits, n = 200, noisy labels``.
        conditions: rows of :func:`conditions` that were judged.
        statistics: ``statistic``, ``value``, ``low``, ``high`` (95 % intervals).
        factors: ``factor``, ``levels``, ``explained`` (share of what the train loss leaves of the height, with interval),
            ``l50_spread`` (decades between the L50 of its levels).
        violators: conditions on the wrong side, worst first, with ``side`` and ``distance`` in decades.
        level: train loss that best separates peak from no peak.
        l50: train loss at which a peak is as likely as not.
        text: the verdict in plain words.
    """

    family: str
    conditions: pd.DataFrame
    statistics: pd.DataFrame
    factors: pd.DataFrame
    violators: pd.DataFrame
    level: float
    l50: float
    text: str


def noise_floor(label_noise: pd.Series, over: pd.Series, classes: pd.Series) -> pd.Series:
    """Variance of noisy one-hot labels around their mean given the input, averaged over outputs.

    With a share q of labels replaced by another class, sum_k Var(y_k) = 2 q - q² C/(C - 1); redrawing over all classes
    replaces q (C - 1)/C of them. A predictor that interpolates nothing but the clean signal has this train loss.
    """
    share = label_noise.where(over != "all", label_noise * (classes - 1) / classes)
    floor: pd.Series = (2 * share - share**2 * classes / (classes - 1)) / classes
    return floor


def conditions(tables: Mapping[str, pd.DataFrame], metric: str = "test_loss") -> pd.DataFrame:
    """One row a condition: every axis fixed but width and seeds.

    Runs that several tables hold count once; a condition belongs to the first of its tables.

    Args:
        tables: rows of ``runs`` by the table's name.
        metric: ``test_loss`` or ``test_error``.

    Returns:
        The columns of :func:`analysis.peaks.table`, and ``table`` (the factor's experiment), ``cluster``, ``noisy``,
        ``outputs``, ``train_loss`` (median at the threshold, at least ``LOSS_FLOOR``; NaN where runs diverged there),
        ``floor`` (:func:`noise_floor`), ``height`` (random features: prominence at the threshold; trained features:
        that of the most prominent peak), and medians at the threshold of ``CONDITIONING`` and, as
        ``<metric>_at_threshold``, of the metric.
    """
    rows = pd.concat([frame.assign(table=name) for name, frame in tables.items()], ignore_index=True)
    rows = rows.drop_duplicates("run_id", ignore_index=True)
    found = []
    for _, problem in rows.groupby([*PROBLEM, "label_noise_over", problem_noise(rows)], dropna=False, sort=True):
        if problem["width"].nunique() < FEWEST_POINTS:
            continue
        table = peaks.table(problem, metric=metric)
        extra = pd.DataFrame([_of_condition(curve.rows, metric) for curve in peaks.curves(problem)])
        found.append(pd.concat([table, extra[[c for c in extra if c not in table]]], axis=1))
    if not found:
        return pd.DataFrame()
    every = pd.concat(found, ignore_index=True)
    every["noisy"] = every["label_noise"] > 0
    every["floor"] = noise_floor(every["label_noise"], every["label_noise_over"], every["outputs"])
    every["train_loss"] = every["train_loss_at_threshold"].clip(lower=LOSS_FLOOR)
    frozen = every["model"] != "two_layer"
    every["height"] = every["prominence_at_threshold"].where(frozen, every["prominence"])
    labels = every[[c for c in FEATURES if c in every]].map(str).agg("|".join, axis=1)
    every["cluster"] = labels.where(frozen, every["condition"])
    return every


def problem_noise(rows: pd.DataFrame) -> pd.Series:
    """Whether labels are noisy."""
    noisy: pd.Series = (rows["label_noise"] > 0).rename("noisy")
    return noisy


def _of_condition(rows: pd.DataFrame, metric: str) -> dict[str, object]:
    """Table, axes, and medians at the threshold of the runs of one condition."""
    good = rows[rows["status"] == "ok"]
    first = rows.iloc[0]
    at = float(rows["interpolation_width"].median())
    found: dict[str, object] = {"table": first["table"], "outputs": first["outputs"]}
    found |= {axis: first[axis] for axis in (*PROBLEM, "label_noise", "label_noise_over", *FACTORS, *FEATURES)}
    medians = good.groupby("width")[[*CONDITIONING, metric]].median()
    for column, median in medians.items():
        values = np.log(median.where(median > 0).to_numpy(float))
        there = value_at(median.index.to_numpy(float), values, at) if len(median) else np.nan
        found[f"{column}_at_threshold" if column == metric else column] = float(np.exp(there))
    return found


def verdicts(found: pd.DataFrame, resamples: int = RESAMPLES) -> list[Verdict]:
    """Judge each problem that has enough conditions, clean and noisy labels apart.

    Args:
        found: rows of :func:`conditions`.
        resamples: of the cluster bootstrap.
    """
    if not len(found):
        return []
    judged = []
    for values, members in found.groupby([*PROBLEM, "noisy"], sort=True):
        usable = members[np.isfinite(members["train_loss"]) & np.isfinite(members["height"])]
        peaked = usable["height"] > HEIGHT
        if len(usable) >= ENOUGH and min(peaked.sum(), (~peaked).sum()) >= 3:
            judged.append(_judge(_family(values), usable.reset_index(drop=True), len(members) - len(usable), resamples))
    return judged


def _family(values: tuple[object, ...]) -> str:
    model, data, n, loss, noisy = values
    losses = "" if loss == "mse" else f", {str(loss).replace('_', '-')}"
    return f"{model} on {data}, n = {n}{losses}, {'noisy' if noisy else 'clean'} labels"


def _judge(family: str, found: pd.DataFrame, dropped: int, resamples: int) -> Verdict:
    x = np.log10(found["train_loss"].to_numpy(float))
    height = found["height"].to_numpy(float)
    peaked = height > HEIGHT
    clusters = pd.factorize(found["cluster"])[0]

    def interval(statistic: Callable[[NDArray[np.intp]], float]) -> Estimate:
        return association.cluster_bootstrap(statistic, clusters, resamples)

    level = association.separating_level(x, peaked)
    l50 = interval(lambda i: association.logistic_midpoint(x[i], peaked[i]))
    low = association.left_out_predictions(x, peaked, np.arange(len(x)))
    apart = association.left_out_predictions(x, peaked, clusters)
    shares = {
        "if: share of low-loss conditions with a peak": association.share(int((peaked & low).sum()), int(low.sum())),
        "only if: share of peaks with a low loss (sensitivity)": association.share(
            int((peaked & low).sum()), int(peaked.sum())
        ),
        "share of conditions without a peak that have a high loss (specificity)": association.share(
            int((~peaked & ~low).sum()), int((~peaked).sum())
        ),
        "accuracy, whole clusters left out": association.share(int((peaked == apart).sum()), len(x)),
    }
    rows: dict[str, Estimate] = {
        "AUC of the train loss for a peak": interval(lambda i: association.auc(-x[i], peaked[i])),
        "Spearman of train loss and height": interval(lambda i: association.spearman(x[i], height[i])),
        "Spearman among heights above 0.05": _among(x, height, height > 0.05, clusters, resamples),
        "L50, log10 train loss": l50,
        "separating level, log10 train loss": interval(lambda i: association.separating_level(x[i], peaked[i])),
        **shares,
    }
    rows |= _conditioning(found, x, height, interval)
    for name, group in (("steps", found["steps"]), ("features", found["cluster"])):
        labels = pd.factorize(group)[0]
        rows[f"Spearman of train loss and height within equal {name}"] = interval(
            lambda i, labels=labels: association.within_spearman(x[i], height[i], labels[i])  # type: ignore[misc]
        )
    small = found["train_loss"] * found["outputs"] / 2 < 1e-2
    test = np.log(found[f"{found['metric'].iloc[0]}_at_threshold"].to_numpy(float))
    rows["slope of log test loss on log train loss at the threshold"] = _among(
        x * np.log(10), test, (small & (x > np.log10(LOSS_FLOOR)) & np.isfinite(test)).to_numpy(), clusters, resamples,
        association.theil_sen,
    )  # fmt: skip
    factors = _factors(found, x, height, peaked, clusters, resamples)
    violators = _violators(found, x, height, l50.value)
    statistics = pd.DataFrame([{"statistic": k, "value": v.value, "low": v.low, "high": v.high} for k, v in rows.items()])
    text = _in_words(found, rows, factors, violators, peaked, level, l50, dropped)
    return Verdict(family, found, statistics, factors, violators, 10**level, 10**l50.value, text)


def _among(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    members: NDArray[np.bool_],
    clusters: NDArray[np.intp],
    resamples: int,
    statistic: Callable[[NDArray[np.float64], NDArray[np.float64]], float] = association.spearman,
) -> Estimate:
    """A statistic of some conditions only."""
    a, b = x[members], y[members]
    return association.cluster_bootstrap(lambda i: statistic(a[i], b[i]), clusters[members], resamples)


def _conditioning(
    found: pd.DataFrame,
    x: NDArray[np.float64],
    height: NDArray[np.float64],
    interval: Callable[[Callable[[NDArray[np.intp]], float]], Estimate],
) -> dict[str, Estimate]:
    """Whether condition numbers tell something that the train loss does not, and the other way round."""
    rows: dict[str, Estimate] = {}
    for column, name in (("feature_condition", "κ of the features"), ("preconditioned_condition", "κ as optimized")):
        kappa = np.log(found[column].to_numpy(float))
        there = np.isfinite(kappa)
        if there.sum() < ENOUGH:
            continue

        def among(
            statistic: Callable[[NDArray[np.intp]], float], there: NDArray[np.bool_] = there
        ) -> Callable[[NDArray[np.intp]], float]:
            return lambda i: statistic(i[there[i]])

        def alone(i: NDArray[np.intp], kappa: NDArray[np.float64] = kappa) -> float:
            return association.spearman(kappa[i], height[i])

        def given_loss(i: NDArray[np.intp], kappa: NDArray[np.float64] = kappa) -> float:
            return association.partial_spearman(kappa[i], height[i], x[i])

        def given_kappa(i: NDArray[np.intp], kappa: NDArray[np.float64] = kappa) -> float:
            return association.partial_spearman(x[i], height[i], kappa[i])

        rows[f"Spearman of {name} and height"] = interval(among(alone))
        rows[f"... given the train loss ({name})"] = interval(among(given_loss))
        rows[f"Spearman of train loss and height given {name}"] = interval(among(given_kappa))
    return rows


def _left_over(x: NDArray[np.float64], height: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a falling function of the train loss leaves of the height."""
    fit = IsotonicRegression(increasing=False).fit_transform(x, height)
    return np.asarray(height - fit)


def _factors(
    found: pd.DataFrame,
    x: NDArray[np.float64],
    height: NDArray[np.float64],
    peaked: NDArray[np.bool_],
    clusters: NDArray[np.intp],
    resamples: int,
) -> pd.DataFrame:
    """What each factor adds once the train loss is given."""
    left = _left_over(x, height)
    rows = []
    for factor in FACTORS:
        levels, names = pd.factorize(found[factor].map(str))
        if len(names) < 2:
            continue
        share = association.cluster_bootstrap(
            lambda i, levels=levels: association.explained_by(left[i], levels[i]), clusters, resamples  # type: ignore[misc]
        )
        midpoints = {}
        for code in range(len(names)):
            members = levels == code
            if min((peaked & members).sum(), (~peaked & members).sum()) >= 3:
                midpoints[code] = association.logistic_midpoint(x[members], peaked[members])
        spread = max(midpoints.values()) - min(midpoints.values()) if len(midpoints) > 1 else np.nan
        rows.append(
            {"factor": factor, "levels": len(names), "explained": share.value, "low": share.low,
             "high": share.high, "l50_spread": spread}
        )  # fmt: skip
    columns = ["factor", "levels", "explained", "low", "high", "l50_spread"]
    return pd.DataFrame(rows, columns=columns).sort_values("explained", ascending=False, ignore_index=True)


def _violators(
    found: pd.DataFrame, x: NDArray[np.float64], height: NDArray[np.float64], level: float
) -> pd.DataFrame:
    """Conditions on the wrong side of the level by more than the margins, farthest first."""
    low = (x < level - MARGIN_LOW) & (height < CLEAR_LOW)
    high = (x > level + MARGIN_HIGH) & (height > HEIGHT)
    sides = np.select([low, high], ["low loss, no peak", "high loss, peak"], "")
    chosen = found.assign(side=sides, distance=np.abs(x - level))[low | high]
    return chosen.sort_values("distance", ascending=False, ignore_index=True)


def _word(share: Estimate) -> str:
    if not np.isfinite(share.value):
        return "cannot be judged"
    if share.low >= STRONG:
        return "holds"
    return "fails" if share.high < STRONG else "is undecided"


def _in_words(
    found: pd.DataFrame,
    rows: Mapping[str, Estimate],
    factors: pd.DataFrame,
    violators: pd.DataFrame,
    peaked: NDArray[np.bool_],
    level: float,
    l50: Estimate,
    dropped: int,
) -> str:
    """The verdict in sentences."""
    if_, only_if = rows["if: share of low-loss conditions with a peak"], rows[
        "only if: share of peaks with a low loss (sensitivity)"
    ]  # fmt: skip
    said = [
        f"{len(found)} conditions, {int(peaked.sum())} with a peak at the threshold"
        + (f" ({dropped} more diverged there and say nothing)." if dropped else "."),
        f"\"If\" {_word(if_)}: {_percent(if_)} of the conditions with a train loss at or below {10**level:.2g} have a peak.",
        f"\"Only if\" {_word(only_if)}: {_percent(only_if)} of the peaks have a train loss at or below it.",
        f"The train loss tells peak from no peak with an AUC of {rows['AUC of the train loss for a peak']}; its rank "
        f"correlation with the peak's height is {rows['Spearman of train loss and height']}.",
    ]
    floor = float(found["floor"].median())
    if np.isfinite(l50.value):
        relative = f", {10**l50.value / floor:.2g} times the variance of the label noise" if floor > 0 else ""
        said.append(f"A peak is as likely as not at a train loss of {10**l50.value:.2g}{relative}.")
    given = rows.get("... given the train loss (κ of the features)")
    if given is not None and np.isfinite(given.value):
        alone = rows["Spearman of κ of the features and height"]
        adds = "adds nothing that shows" if given.low <= 0 <= given.high else "still tells something"
        said.append(
            f"The condition number of the features at the threshold correlates with the height by {alone}, and given the "
            f"train loss by {given}: it {adds}."
        )
    beside = factors[(factors["l50_spread"] > LEVELS_APART) & (factors["low"] > 0)]
    if len(beside):
        names = ", ".join(
            f"{f.factor.replace('_', ' ').removeprefix('model ')} ({100 * f.explained:.0f} % of what is left)"
            for f in beside.itertuples()
        )
        said.append(f"Beside the train loss these act: {names}.")
    else:
        said.append("No factor is shown to act beside the train loss.")
    for side in ("low loss, no peak", "high loss, peak"):
        members = violators[violators["side"] == side]
        if len(members):
            named = "; ".join(members["condition"].head(3))
            said.append(f"{len(members)} conditions violate it by {side}, the farthest: {named}.")
    if not len(violators):
        said.append("No condition violates it by more than the margins.")
    return " ".join(said)


def _percent(share: Estimate) -> str:
    return f"{100 * share.value:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"
