"""The verdict in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.association import Estimate
from analysis.labels import x_title
from analysis.rivals import LOSS, TIME, Duel

STRONG = 0.8
"""Where the interval of a share lies above this, "if" ("only if") holds; where below, it fails."""

MATTERS, LEVEL = 0.1, 0.05
"""A factor acts beside the train loss if it explains at least this share of what is left, at this level."""

IF = "if: share of low-loss conditions with a peak"
ONLY_IF = "only if: share of peaks with a low loss (sensitivity)"
AUC = "AUC of the train loss for a peak"
RANK = "Spearman of train loss and height"
L50 = "L50, log10 train loss"
KAPPA = "Spearman of κ of the features and height"
KAPPA_GIVEN = "... given the train loss (κ of the features)"
SIDES = ("low loss, no peak", "high loss, peak")


def counts(found: pd.DataFrame, peaked: int, dropped: int, excluded: int = 0) -> str:
    """How many conditions there are, with a peak and without; with trained features also what counts as which.

    Args:
        found: the conditions that were judged.
        peaked: those with a peak.
        dropped: conditions that were not.
        excluded: runs with dead units, of all conditions.
    """
    decisions = found["decision"].value_counts()
    lost = (
        f" {dropped} more have no train loss at the threshold (diverged, dead units, or no widths there)."
        if dropped
        else ""
    )
    if excluded:
        lost += f" {excluded} {'run with dead units was' if excluded == 1 else 'runs with dead units were'} left out."
    clusters = found["cluster"].nunique()
    shared = f" in {clusters} clusters that share their features" if clusters < len(found) else ""
    return (
        f"{len(found)} conditions{shared}: {peaked} rise above their surroundings by 22 % and count as having a peak; "
        f"the test decides {decisions.get('peak', 0)} peak, {decisions.get('no peak', 0)} no peak, "
        f"{decisions.get('undecided', 0)} undecided.{lost}{_counted(found)}"
    )


def _counted(found: pd.DataFrame) -> str:
    """Where the threshold of trained features was put, and which peak was taken; nothing for frozen ones."""
    if not found["trained"].all():
        return ""
    ends = sorted({f"{at:.3g}" for at in found["threshold_counted"].agg(["min", "max"])}, key=float)
    width = x_title(found, "width")
    return (
        f" Features are trained: the threshold is counted (parameters = samples × outputs, at {width} = "
        f"{' to '.join(ends)}), and the peak is the most prominent one, wherever it lies."
    )


def verdict(rows: Mapping[str, Estimate], level: float, floor: float) -> str:
    """Both halves of the claim, and the mechanism.

    Args:
        rows: statistics by name.
        level: log10 of the train loss that best separates peak from no peak.
        floor: variance of the label noise in units of the train loss; 0 without noise, NaN for other losses than the
            squared one.
    """
    said = [f"{_tells(rows[AUC])} (AUC {rows[AUC]}); its rank correlation with the peak's height is {rows[RANK]}."]
    if not rows[AUC].low > 0.5:
        said.append("No level of it separates them, and the claim finds no support here.")
    else:
        said += [
            f'"If" {_word(rows[IF])}: {_percent(rows[IF])} of the conditions with a train loss at or below '
            f"{10**level:.2g} at the threshold have a peak.",
            f'"Only if" {_word(rows[ONLY_IF])}: {_percent(rows[ONLY_IF])} of the peaks have a train loss at or below '
            "it.",
        ]
    if np.isfinite(rows[L50].value):
        l50 = 10 ** rows[L50].value
        relative = f", {l50 / floor:.2g} times the variance of the label noise" if floor > 0 else ""
        said.append(f"A peak is as likely as not at a train loss of {l50:.2g}{relative}.")
    else:
        said.append("Nowhere within the data is a peak as likely as not.")
    given = rows.get(KAPPA_GIVEN)
    if given is not None and np.isfinite([given.low, given.high]).all():
        adds = "adds nothing that shows" if given.low <= 0 <= given.high else "still tells something"
        said.append(
            f"The condition number of the features at the threshold has a rank correlation of {rows[KAPPA]} with the "
            f"height, and of {given} once the train loss is given: it {adds}."
        )
    return " ".join(said)


def rivals(table: pd.DataFrame, duels: Mapping[tuple[str, str], Duel]) -> str:
    """Whether the train loss decides, or what it goes with; empty without a rival to compare with."""
    about = [
        (duels[LOSS.name, name], duels[name, LOSS.name]) for name in table["quantity"] if (LOSS.name, name) in duels
    ]
    if not about:
        return ""
    said = []
    beside = [f"{d.second} ({_within(d)})" for d, _ in about if d.outcome == "adds"]
    if beside:
        said.append(f"Among conditions of equal train loss these tell peak from no peak: {'; '.join(beside)}.")
    else:
        said.append("Among conditions of equal train loss nothing is shown to tell peak from no peak.")
    for back in (back for _, back in about if back.first == TIME):
        answer = {"adds": "tells more", "nothing": "tells nothing more", "undecided": "is not shown to tell more"}
        said.append(
            f"Among the {back.conditions} conditions with a training time τ, within equal τ the train loss "
            f"{answer[back.outcome]} ({_within(back)}; held-out gain {back.gain} nats a condition)."
        )
    by = {word: table.loc[table["sufficient"] == word, "quantity"].tolist() for word in ("yes", "undecided")}
    if by["yes"]:
        said.append(f"Sufficient, with no other quantity adding anything: {', '.join(by['yes'])}.")
    elif by["undecided"]:
        said.append(
            f"No quantity is shown to be sufficient; none is shown to add to {', or to '.join(by['undecided'])}."
        )
    else:
        said.append("No single quantity is sufficient: to each another one adds.")
    return " ".join(said)


def rival(row: Any) -> str:
    """One line about a quantity of :class:`analysis.rivals.Rivalry`'s table, given as a named tuple."""
    duel = "-" if row.quantity == LOSS.name else f"{row.auc_given_loss:.2f}, and the other way {row.loss_auc_given:.2f}"
    return (
        f"{row.quantity:<22} AUC {row.auc:.2f} [{row.auc_low:.2f}, {row.auc_high:.2f}] of {row.conditions}; "
        f"methods alike {row.auc_alike:.2f}; given equal train loss {duel}; sufficient: {row.sufficient}"
    )


def _within(duel: Duel) -> str:
    return f"AUC {duel.within}, p = {duel.p_value:.2g}"


def _tells(auc: Estimate) -> str:
    if not np.isfinite([auc.low, auc.high]).all():
        return "Whether the train loss tells peak from no peak cannot be judged"
    if auc.high < 0.5:
        return "The train loss tells peak from no peak the wrong way round"
    return f"The train loss {'does not tell' if auc.low <= 0.5 else 'tells'} peak from no peak"


def factors(found: pd.DataFrame) -> str:
    """What acts beside the train loss."""
    beside = found[(found["p_value"] <= LEVEL) & (found["explained"] >= MATTERS)]
    if not len(beside):
        return "No factor is shown to act beside the train loss."
    names = "; ".join(
        f"{f.factor} ({100 * f.explained:.0f} % of what the train loss leaves of the height, p = {f.p_value:.2g})"
        for f in beside.itertuples()
    )
    return f"Beside the train loss these act: {names}."


def violators(found: pd.DataFrame) -> str:
    """The conditions that break the claim, farthest first."""
    said = []
    for side in SIDES:
        members = found[found["side"] == side]
        if len(members):
            named = "; ".join(members["condition"].head(3))
            violate = "condition violates" if len(members) == 1 else "conditions violate"
            said.append(f"{len(members)} {violate} it by {side}, the farthest: {named}.")
    return " ".join(said) or "No condition violates it by more than the margins."


def _word(share: Estimate) -> str:
    if not np.isfinite([share.low, share.high]).all():
        return "cannot be judged"
    if share.low >= STRONG:
        return "holds"
    return "fails" if share.high < STRONG else "is undecided"


def _percent(share: Estimate) -> str:
    return f"{100 * share.value:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}]"
