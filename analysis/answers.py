"""What a table says about peaks, in words that are computed from its judged curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis import words
from analysis.captions import listed
from analysis.claim import Verdict
from analysis.curves import axis_columns
from analysis.labels import AXIS_TITLES, axis_text, is_null, plain, value_text

METRIC = "test_loss"
"""The quantity that answers are about."""

MOST_LEVELS = 8
"""An axis of more levels than this is not told level by level."""

NONE = "No verdict yet: the experiments of the study are not there, or hold too few conditions."


def answer(peaks: pd.DataFrame | None) -> str:
    """Whether the curves of a table peak, where the highest one does, and what the share of peaks goes with.

    Args:
        peaks: ``analysis.peaks.table``'s rows, of one or several metrics and x.
    """
    if peaks is None or peaks.empty or not (peaks["metric"] == METRIC).any():
        return "No peaks were judged here."
    found = peaks[peaks["metric"] == METRIC]
    parts = [_of(found[found["x"] == x], x) for x in dict.fromkeys(found["x"])]
    return " ".join(parts)


def _of(found: pd.DataFrame, x: str) -> str:
    said = [_counted(found, x)]
    peaked = found[found["decision"] == "peak"]
    if len(best := (peaked if len(peaked) else found).dropna(subset=["location"])):
        said.append(_highest(best.loc[best["prominence"].idxmax()], x, several=len(found) > 1))
    said.append(_by_axis(found))
    return " ".join(filter(None, said))


def _counted(found: pd.DataFrame, x: str) -> str:
    counts, along = found["decision"].value_counts(), f"along the {AXIS_TITLES.get(x, x)}"
    peaked, undecided, total = counts.get("peak", 0), counts.get("undecided", 0), len(found)
    if undecided == total:
        each = "curve is" if total == 1 else f"{total} curves are"
        reasons = sorted(set(found["reason"]) - {""})
        why = f" ({reasons[0]})" if len(reasons) == 1 else ""
        return f"Whether the test loss peaks {along} is undecided: the {each} not tested, or not clear{why}."
    if total == 1:
        return f"The test loss {'peaks' if peaked else 'has no peak'} {along}."
    rest = f"; {undecided} undecided" if undecided else ""
    number = "none" if not peaked else "all" if peaked == total else str(peaked)
    return f"The test loss peaks {along} in {number} of {total} curves{rest}."


def _highest(row: pd.Series, x: str, *, several: bool) -> str:
    factor = f"×{plain(float(np.exp(row['prominence'])))}"
    at = f"{AXIS_TITLES.get(x, x)} {plain(row['location'])}"
    threshold = row["threshold_counted"]
    beside = "" if is_null(threshold) else f" (threshold: {plain(threshold)})"
    which = f", for {row['condition']}" if several else ""
    return f"The largest height over both valleys is {factor}, at {at}{beside}{which}."


def _by_axis(found: pd.DataFrame) -> str:
    """Shares of curves with a peak at each level of the axis that they differ most over."""
    peaked = found["decision"] == "peak"
    best, spread = "", 0.0
    for column in (c for c in axis_columns(found) if 1 < found[c].nunique() <= MOST_LEVELS):
        shares = peaked.groupby(found[column]).mean()
        if shares.max() - shares.min() > spread + 1e-9:
            best, spread = column, float(shares.max() - shares.min())
    if not best:
        return ""
    groups = peaked.groupby(found[best])
    told = [f"{value_text(level)}: {int(g.sum())} of {len(g)}" for level, g in groups]
    return f"Curves with a peak by {axis_text(best)}: {'; '.join(told)}."


def headline(verdicts: Sequence[Verdict]) -> str:
    """The verdict over all problems in one sentence."""
    if not verdicts:
        return NONE
    known = [(v, _auc(v)) for v in verdicts]
    tells = [low_value[1] for _, low_value in known if low_value is not None and low_value[0] > 0.5]
    total = f"{len(verdicts)} problem{'s' if len(verdicts) > 1 else ''}"
    if not tells:
        return (
            f"In none of {total} is the train loss at the threshold shown to tell conditions with a peak from those "
            "without."
        )
    area = f"AUC {min(tells):.2f}" + (f" to {max(tells):.2f}" if len(tells) > 1 else "")
    return (
        f"In {len(tells)} of {total} the train loss at the threshold tells conditions with a peak from those without "
        f"({area}): the peak comes where training brings the train loss down."
    )


def _auc(verdict: Verdict) -> tuple[float, float] | None:
    """Lower end and value of the AUC of the train loss; None where there are too few peaks to judge."""
    rows = verdict.statistics
    row = rows[rows["name"] == words.AUC] if len(rows) else rows
    return None if row.empty or row["low"].isna().all() else (float(row["low"].iloc[0]), float(row["value"].iloc[0]))


def question(rows: pd.DataFrame, x: str, varied: Sequence[str]) -> str:
    """What a table without a place in the study asks."""
    beside = [axis_text(a) for a in varied if a != x]
    settings = f", and how does that change with {listed(beside)}" if beside else ""
    return f"Does the test loss peak along the {AXIS_TITLES.get(x, x)}{settings}?"
