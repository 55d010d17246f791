"""The claim of Liu & Flanigan (arXiv 2312.03951) put to the test: a peak if and only if the train loss is low.

All definitions are this project's own (``docs/verdict.md``), and so are the settings of the runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from analysis import association, peaks, words
from analysis.association import Estimate
from analysis.conditions import FACTORS, LOSS_FLOOR, of_the_study
from analysis.tables import UnreadableTable

HEIGHT = 0.2
"""Prominence of the log median test loss above which a condition counts as having a peak: 22 %."""

MARGIN_LOW, MARGIN_HIGH = 0.3, 0.2
"""A violator lies this many decades below (above) both the separating level and L50, and has no peak (has one)."""

CLEAR_LOW = 0.1
"""... where no peak means a prominence below this."""

RESAMPLES = 500
"""Of the cluster bootstrap."""

ENOUGH = 20
"""Conditions that a verdict takes at least."""

FEWEST = 3
"""Conditions with a peak, and without one, that a level takes at least."""


@dataclass(frozen=True)
class Verdict:
    """What the conditions of one problem say.

    Attributes:
        family: the problem in words, for example ``random features on digits, n = 200, noisy labels``.
        conditions: rows of :func:`analysis.conditions.conditions` that were judged.
        statistics: ``name``, ``value``, ``low``, ``high`` (95 % intervals).
        factors: ``factor``, ``levels``, ``explained`` (share of what the train loss leaves of the height) with ``low``
            and ``high``, ``l50_spread`` (decades between the L50 of its levels).
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


def verdicts(found: pd.DataFrame, resamples: int = RESAMPLES) -> list[Verdict]:
    """Judge each problem that has enough conditions, clean and noisy labels apart.

    Args:
        found: rows of :func:`analysis.conditions.conditions`.
        resamples: of the cluster bootstrap.
    """
    if not len(found):
        return []
    judged = []
    for (family, noisy), members in found.groupby(["family", "noisy"], sort=True):
        name = f"{family}, {'noisy' if noisy else 'clean'} labels"
        usable = members[np.isfinite(members["train_loss"]) & np.isfinite(members["height"])].reset_index(drop=True)
        peaked = usable["height"] > HEIGHT
        if len(usable) < ENOUGH:
            continue
        if min(peaked.sum(), (~peaked).sum()) < FEWEST:
            judged.append(_one_sided(name, usable))
        else:
            judged.append(_judge(name, usable, len(members) - len(usable), resamples))
    return judged


def _one_sided(family: str, found: pd.DataFrame) -> Verdict:
    """The verdict where hardly any condition has a peak, or hardly any has none."""
    peaked = found["height"] > HEIGHT
    fitted = found["train_loss"] <= peaks.FITTED
    text = (
        f"{len(found)} conditions, {int(peaked.sum())} with a peak: too few "
        f"{'with' if peaked.sum() < FEWEST else 'without'} one to place a level of the train loss. "
        f"{int(fitted.sum())} conditions bring the train loss at the threshold to {peaks.FITTED:g} or less, "
        f"{int((fitted & peaked).sum())} of them have a peak"
    )
    if fitted.sum() and not (fitted & peaked).any():
        text += ': a low loss alone is not enough here ("if" fails).'
    else:
        text += "."
    none = found.iloc[:0].assign(side="", distance=0.0)
    statistics = pd.DataFrame(columns=["name", "value", "low", "high"])
    factors = pd.DataFrame(columns=["factor", "levels", "explained", "low", "high", "l50_spread"])
    return Verdict(family, found, statistics, factors, none, np.nan, np.nan, text)


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
        words.IF: association.share(int((peaked & low).sum()), int(low.sum())),
        words.ONLY_IF: association.share(int((peaked & low).sum()), int(peaked.sum())),
        "share of conditions without a peak that have a high loss (specificity)": association.share(
            int((~peaked & ~low).sum()), int((~peaked).sum())
        ),
        "accuracy, whole clusters left out": association.share(int((peaked == apart).sum()), len(x)),
    }
    rows: dict[str, Estimate] = {
        words.AUC: interval(lambda i: association.auc(-x[i], peaked[i])),
        words.RANK: interval(lambda i: association.spearman(x[i], height[i])),
        "Spearman among heights above 0.05": _among(x, height, height > 0.05, clusters, resamples),
        words.L50: l50,
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
    violators = _violators(found, x, height, [v for v in (level, l50.value) if np.isfinite(v)])
    statistics = pd.DataFrame([{"name": name} | vars(estimate) for name, estimate in rows.items()])
    floor = float(found["floor"].median())
    text = [
        words.counts(len(found), int(peaked.sum()), dropped),
        words.verdict(rows, level, floor),
        words.factors(factors),
        words.violators(violators),
    ]
    return Verdict(family, found, statistics, factors, violators, 10**level, 10**l50.value, " ".join(text))


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
            lambda i, levels=levels: association.explained_by(left[i], levels[i]),  # type: ignore[misc]
            clusters,
            resamples,
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
    found: pd.DataFrame, x: NDArray[np.float64], height: NDArray[np.float64], levels: Sequence[float]
) -> pd.DataFrame:
    """Conditions on the wrong side of all levels by more than the margins, farthest first."""
    low = (x < min(levels) - MARGIN_LOW) & (height < CLEAR_LOW)
    high = (x > max(levels) + MARGIN_HIGH) & (height > HEIGHT)
    sides = np.select([low, high], words.SIDES, "")
    distance = np.select([low, high], [min(levels) - x, x - max(levels)], 0.0)
    chosen = found.assign(side=sides, distance=distance)[low | high]
    return chosen.sort_values("distance", ascending=False, ignore_index=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the verdicts in plain words; returns 0, or 1 with a message where there is none."""
    parser = argparse.ArgumentParser(prog="python -m analysis.claim", description="Print the verdict in plain words.")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the tables")
    parser.add_argument("--metric", choices=("test_loss", "test_error"), default="test_loss", help="what peaks")
    options = parser.parse_args(arguments)
    try:
        found = verdicts(of_the_study(options.results, options.metric))
    except UnreadableTable as error:
        print(f"claim: {error}", file=sys.stderr)
        return 1
    for verdict in found:
        print(f"{verdict.family}\n    {verdict.text}")
        for row in verdict.statistics.itertuples():
            print(f"    {row.name:<75} {row.value:7.3f} [{row.low:.3f}, {row.high:.3f}]")
    if not found:
        print(
            f"no verdict: {options.results}/ holds too few conditions of the study; make experiments", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
