"""The claim of Liu & Flanigan (arXiv 2312.03951) put to the test: a peak if and only if the train loss is low.

All definitions are this project's own (``docs/verdict.md``), and so are the settings of the runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import association, experiments, peaks, rivals, words
from analysis.association import Estimate, Flags
from analysis.conditions import ELSEWHERE, FACTORS, LOSS_FLOOR, conditions, of_the_study
from analysis.tables import UnreadableTable, load_runs, table_names

HEIGHT = 0.2
"""Prominence of the log median test loss above which a condition counts as having a peak: 22 %."""

MARGIN_LOW, MARGIN_HIGH = 0.3, 0.2
"""A violator lies this many decades below (above) both the separating level and L50, and has no peak (has one)."""

CLEAR_LOW = 0.1
"""... where no peak means a prominence below this."""

RESAMPLES = 500
"""Of the bootstrap of whole clusters, for statistics that jump."""

ENOUGH = 20
"""Conditions that a verdict takes at least."""

NEEDED = ("family", "noisy", "metric", "cluster", "method", "decision", "train_loss", "height", "excluded", *FACTORS)
"""Columns of conditions without which there is no verdict."""

FEWEST = 3
"""Conditions with a peak, and without one, that a level takes at least."""


Interval = Callable[..., Estimate]
"""``association.cluster_interval`` on the conditions of a problem."""


@dataclass(frozen=True)
class Verdict:
    """What the conditions of one problem say.

    Attributes:
        family: the problem in words, for example ``random features on digits, n = 200, noisy labels``.
        conditions: rows of :func:`analysis.conditions.conditions` that were judged.
        statistics: ``name``, ``value``, ``low``, ``high`` (95 % intervals).
        factors: ``factor``, ``levels``, ``explained`` (share of what the train loss leaves of the height), ``p_value``
            (of a permutation test, by Holm), ``l50_spread`` (decades between the L50 of its levels).
        rivals: the train loss beside other quantities, :class:`analysis.rivals.Rivalry`'s table; empty where one side
            has too few conditions.
        violators: conditions on the wrong side, worst first, with ``side`` and ``distance`` in decades.
        level: train loss that best separates peak from no peak.
        l50: train loss at which a peak is as likely as not.
        text: the verdict in plain words.
    """

    family: str
    conditions: pd.DataFrame
    statistics: pd.DataFrame
    factors: pd.DataFrame
    rivals: pd.DataFrame
    violators: pd.DataFrame
    level: float
    l50: float
    text: str


def verdicts(found: pd.DataFrame, resamples: int = RESAMPLES) -> list[Verdict]:
    """Judge each problem that has enough conditions, clean and noisy labels apart.

    Args:
        found: rows of :func:`analysis.conditions.conditions`.
        resamples: of the bootstrap, for statistics that jump.
    """
    if not len(found):
        return []
    judged = []
    for (family, noisy), members in found.groupby(["family", "noisy"], sort=True):
        name = f"{family}, {'noisy' if noisy else 'clean'} labels"
        usable = members[np.isfinite(members["train_loss"]) & np.isfinite(members["height"])].reset_index(drop=True)
        peaked, excluded = usable["height"] > HEIGHT, int(members["excluded"].sum())
        if len(usable) < ENOUGH:
            continue
        if min(peaked.sum(), (~peaked).sum()) < FEWEST:
            judged.append(_one_sided(name, usable, len(members) - len(usable), excluded))
        else:
            judged.append(_judge(name, usable, len(members) - len(usable), excluded, resamples))
    return judged


def _one_sided(family: str, found: pd.DataFrame, dropped: int, excluded: int) -> Verdict:
    """The verdict where hardly any condition has a peak, or hardly any has none."""
    peaked = found["height"] > HEIGHT
    fitted = found["train_loss"] <= peaks.FITTED
    text = [
        words.counts(found, int(peaked.sum()), dropped, excluded),
        f"Too few {'with' if peaked.sum() < FEWEST else 'without'} one to place a level of the train loss.",
        f"{int(fitted.sum())} conditions bring the train loss at the threshold to {peaks.FITTED:g} or less, "
        f"{int((fitted & peaked).sum())} of them have a peak, {int((fitted & (found['decision'] == 'no peak')).sum())} "
        "have none by the test.",
    ]
    none = found.iloc[:0].assign(side="", distance=0.0)
    statistics = pd.DataFrame(columns=["name", "value", "low", "high"])
    factors = pd.DataFrame(columns=["factor", "levels", "explained", "p_value", "l50_spread"])
    return Verdict(family, found, statistics, factors, pd.DataFrame(), none, np.nan, np.nan, " ".join(text))


def _judge(family: str, found: pd.DataFrame, dropped: int, excluded: int, resamples: int) -> Verdict:
    x = np.log10(found["train_loss"].to_numpy(float))
    height = found["height"].to_numpy(float)
    peaked = height > HEIGHT
    clusters = pd.factorize(found["cluster"])[0]

    def interval(statistic: Callable[[NDArray[np.intp]], float], **options: Any) -> Estimate:
        return association.cluster_interval(statistic, clusters, resamples=resamples, **options)

    rarer = association.rarer(peaked)
    loss, high = association.places(x), association.places(height)
    falling = association.places(-x)
    level = association.separating_level(x, peaked)
    l50 = interval(lambda i: association.logistic_midpoint(x[i], peaked[i]), among=rarer)
    rows: dict[str, Estimate] = {
        words.AUC: interval(lambda i: association.auc(falling[i], peaked[i]), scale="share", among=rarer),
        words.RANK: interval(lambda i: association.spearman(loss[i], high[i]), scale="correlation"),
        "Spearman among heights above 0.05": _among(loss, high, height > 0.05, clusters),
        words.L50: l50,
        "separating level, log10 train loss": interval(
            lambda i: association.separating_level(x[i], peaked[i]), among=rarer, smooth=False
        ),
    }
    rows |= _shares(x, peaked, clusters, interval)
    rows |= _robustness(found, falling, clusters)
    rows |= _conditioning(found, loss, high, interval)
    for name, group in (("steps", found["steps"]), ("features", found["cluster"])):
        labels = pd.factorize(group)[0]
        rows[f"Spearman of train loss and height within equal {name}"] = interval(
            lambda i, labels=labels: association.within_spearman(loss[i], high[i], labels[i]),  # type: ignore[misc]
            scale="correlation",
        )
    small = found["train_loss"] * found["outputs"] / 2 < 1e-2
    test = np.log(found[f"{found['metric'].iloc[0]}_at_threshold"].to_numpy(float))
    rows["slope of log test loss on log train loss at the threshold"] = _among(
        x * np.log(10), test, (small & (x > np.log10(LOSS_FLOOR)) & np.isfinite(test)).to_numpy(), clusters,
        association.theil_sen, "real",
    )  # fmt: skip
    factors = _factors(found, x, height, peaked, clusters)
    rivalry = rivals.compare(found, peaked)
    violators = _violators(found, x, height, [v for v in (level, l50.value) if np.isfinite(v)])
    statistics = pd.DataFrame([{"name": name} | vars(estimate) for name, estimate in rows.items()])
    floor = float(found["floor"].median())
    text = [
        words.counts(found, int(peaked.sum()), dropped, excluded),
        words.verdict(rows, level, floor),
        words.rivals(rivalry.table, rivalry.duels),
        words.factors(factors),
        words.violators(violators),
    ]
    said = " ".join(sentence for sentence in text if sentence)
    return Verdict(family, found, statistics, factors, rivalry.table, violators, 10**level, 10**l50.value, said)


def _rate(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean()) if len(hits) else float("nan")


def _shares(
    x: NDArray[np.float64], peaked: NDArray[np.bool_], clusters: NDArray[np.intp], interval: Interval
) -> dict[str, Estimate]:
    """Both halves of the claim, each condition judged by the separating level found without its cluster."""
    low = association.left_out_predictions(x, peaked, clusters)

    def of(hits: Flags, among: Flags) -> Estimate:
        return interval(lambda i: _rate(hits[i][among[i]]), scale="share", among=among)

    return {
        words.IF: of(peaked, low),
        words.ONLY_IF: of(low, peaked),
        "specificity: share of conditions without a peak above the level": of(~low, ~peaked),
        "accuracy: share of conditions on the right side of the level": of(peaked == low, np.ones(len(x), bool)),
    }


def _robustness(found: pd.DataFrame, falling: NDArray[np.intp], clusters: NDArray[np.intp]) -> dict[str, Estimate]:
    """AUC by other notions of a peak: what the test decides, and the other height."""
    decided = found["decision"].isin(["peak", "no peak"]).to_numpy()
    heights = found["prominence_at_threshold"].where(found["trained"], found["prominence"]).to_numpy(float)
    by_test, by_height = (found["decision"] == "peak").to_numpy(), heights > HEIGHT
    auc, known = association.auc, np.isfinite(heights)
    elsewhere = {
        f"AUC of the train loss at the {place}": _among(
            -np.log(found[column].to_numpy(float)), found["height"].to_numpy(float) > HEIGHT,
            found[column].notna().to_numpy(), clusters, auc, "share",
        )
        for column, place in zip(ELSEWHERE, ("measured threshold", "peak"), strict=True)
    }  # fmt: skip
    return elsewhere | {
        "AUC among conditions that the test decides": _among(falling, by_test, decided, clusters, auc, "share"),
        "AUC with the other height": _among(falling, by_height, known, clusters, auc, "share"),
    }


def _among(
    x: NDArray[Any],
    y: NDArray[Any],
    members: NDArray[np.bool_],
    clusters: NDArray[np.intp],
    statistic: Callable[[NDArray[Any], NDArray[Any]], float] = association.spearman,
    scale: association.Scale = "correlation",
) -> Estimate:
    """A statistic of some conditions only; y says which have a peak where it is a share."""
    a, b = x[members], y[members]
    rarer = association.rarer(b) if scale == "share" else None
    return association.cluster_interval(lambda i: statistic(a[i], b[i]), clusters[members], scale, among=rarer)


def _conditioning(
    found: pd.DataFrame,
    loss: NDArray[np.intp],
    height: NDArray[np.intp],
    interval: Interval,
) -> dict[str, Estimate]:
    """Whether condition numbers tell something that the train loss does not, and the other way round."""
    rows: dict[str, Estimate] = {}
    for column, name in (("feature_condition", "κ of the features"), ("preconditioned_condition", "κ as optimized")):
        kappa = np.log(found[column].to_numpy(float))
        there = np.isfinite(kappa)
        if there.sum() < ENOUGH:
            continue
        places = association.places(kappa)

        def among(
            statistic: Callable[[NDArray[np.intp]], float], there: NDArray[np.bool_] = there
        ) -> Callable[[NDArray[np.intp]], float]:
            return lambda i: statistic(i[there[i]])

        def alone(i: NDArray[np.intp], kappa: NDArray[np.intp] = places) -> float:
            return association.spearman(kappa[i], height[i])

        def given_loss(i: NDArray[np.intp], kappa: NDArray[np.intp] = places) -> float:
            return association.partial_spearman(kappa[i], height[i], loss[i])

        def given_kappa(i: NDArray[np.intp], kappa: NDArray[np.intp] = places) -> float:
            return association.partial_spearman(loss[i], height[i], kappa[i])

        rows[f"Spearman of {name} and height"] = interval(among(alone), scale="correlation")
        rows[f"... given the train loss ({name})"] = interval(among(given_loss), scale="correlation")
        rows[f"Spearman of train loss and height given {name}"] = interval(among(given_kappa), scale="correlation")
    return rows


def _left_over(x: NDArray[np.float64], height: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a falling function of the train loss leaves of the height."""
    from sklearn.isotonic import IsotonicRegression  # takes two seconds, and only a verdict needs it

    fit = IsotonicRegression(increasing=False).fit_transform(x, height)
    return np.asarray(height - fit)


def _factors(
    found: pd.DataFrame,
    x: NDArray[np.float64],
    height: NDArray[np.float64],
    peaked: NDArray[np.bool_],
    clusters: NDArray[np.intp],
) -> pd.DataFrame:
    """What each factor adds once the train loss is given; conditions to which it does not apply are left out."""
    left = _left_over(x, height)
    rows = []
    for factor in FACTORS:
        applies = found[factor].notna().to_numpy()
        levels, names = pd.factorize(found.loc[applies, factor].map(str))
        if len(names) < 2:
            continue
        explained = association.explained_by(left[applies], levels)
        p = association.permutation_p(left[applies], levels, clusters[applies])
        midpoints = [
            association.logistic_midpoint(x[applies][levels == code], peaked[applies][levels == code])
            for code in range(len(names))
            if min(np.bincount(peaked[applies][levels == code], minlength=2)) >= FEWEST
        ]
        known = [m for m in midpoints if np.isfinite(m)]
        spread = max(known) - min(known) if len(known) > 1 else np.nan
        rows.append((factor.replace("_", " ").removeprefix("model "), len(names), explained, p, spread))
    table = pd.DataFrame(rows, columns=["factor", "levels", "explained", "p_value", "l50_spread"])
    table["p_value"] = association.holm(table["p_value"].to_numpy(float))
    return table.sort_values("explained", ascending=False, ignore_index=True)


def _violators(
    found: pd.DataFrame, x: NDArray[np.float64], height: NDArray[np.float64], levels: Sequence[float]
) -> pd.DataFrame:
    """Conditions on the wrong side of all levels by more than the margins, by the test too, farthest first."""
    decision = found["decision"].to_numpy(str)
    low = (x < min(levels) - MARGIN_LOW) & (height < CLEAR_LOW) & (decision == "no peak")
    high = (x > max(levels) + MARGIN_HIGH) & (height > HEIGHT) & (decision == "peak")
    sides = np.select([low, high], words.SIDES, "")
    distance = np.select([low, high], [min(levels) - x, x - max(levels)], 0.0)
    chosen = found.assign(side=sides, distance=distance)[low | high]
    return chosen.sort_values("distance", ascending=False, ignore_index=True)


def read_conditions(path: Path) -> pd.DataFrame:
    """The conditions that ``make figures`` has written: the verdicts of them are the same to the last digit.

    Raises:
        UnreadableTable: no such file, or columns are missing.
    """
    try:
        found = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise UnreadableTable(f"--conditions {path}: {error}") from None
    if missing := [column for column in NEEDED if column not in found]:
        raise UnreadableTable(f"--conditions {path}: lacks the columns {', '.join(missing)}; make figures writes them")
    return found


def _given(options: argparse.Namespace) -> pd.DataFrame:
    """The conditions that the command line asks about."""
    if options.conditions:
        return read_conditions(options.conditions)
    there = table_names(options.results)
    if missing := [name for name in options.name or () if name not in there]:
        raise UnreadableTable(f"--name {missing[0]}: {options.results}/ has {', '.join(there) or 'no tables'}")
    if options.name:
        return conditions({name: load_runs(options.results, name) for name in options.name}, options.metric)
    names = [name for name in there if experiments.of_the_study(name)]
    return of_the_study({name: load_runs(options.results, name) for name in names}, options.metric)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the verdicts in plain words; returns 0, or 1 with a message where there is none."""
    parser = argparse.ArgumentParser(prog="python -m analysis.claim", description="Print the verdict in plain words.")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the tables")
    parser.add_argument("--name", nargs="*", help="tables to judge, any; those of the study by default")
    parser.add_argument("--conditions", type=Path, metavar="CSV", help="conditions.csv of a report, instead of tables")
    parser.add_argument("--metric", choices=("test_loss", "test_error"), default="test_loss", help="what peaks")
    options = parser.parse_args(arguments)
    try:
        found = verdicts(_given(options))
    except UnreadableTable as error:
        print(f"claim: {error}", file=sys.stderr)
        return 1
    for verdict in found:
        print(f"{verdict.family}\n    {verdict.text}")
        for row in verdict.statistics.itertuples():
            print(f"    {row.name:<75} {row.value:7.3f} [{row.low:.3f}, {row.high:.3f}]")
        for row in verdict.rivals.itertuples():
            print(f"    {words.rival(row)}")
    if not found:
        told = f"no problem in {options.conditions or options.results} has {ENOUGH} conditions"
        print(f"claim: {told}; make experiments and make study compute the study", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has left, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)
