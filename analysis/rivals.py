"""Does the train loss decide about the peak, or what it goes with: the budget, the conditioning, the solution's size?

Definitions are in docs/verdict.md. Every quantity is compared with every other one on the conditions that have both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, stdtrit

from analysis import association
from analysis.association import Estimate, Flags, Floats

FEWEST = 20
"""Conditions, and three with and without a peak among them, that a comparison takes at least."""

NEGLIGIBLE = 0.05
"""A gain in held-out log-likelihood below this (nats a condition; a coin flip is 0.69) counts as none."""

LEVEL = 0.05
"""Of the test inside strata."""

FOLDS = 20
"""Clusters are left out one by one, or in this many groups where there are more."""

PENALTY = 1e-2
"""Weight of the squared slopes (of standardised quantities) beside the summed log-likelihood, so that separable data
have a fit."""

PERMUTATIONS = 999


@dataclass(frozen=True)
class Rival:
    """A quantity at the threshold that may decide about the peak.

    Attributes:
        name: in words.
        column: of :func:`analysis.conditions.conditions`, positive numbers.
        sign: 1 where a high value is to go with a peak, -1 where a low one is.
        bin: decades within which values count as equal.
    """

    name: str
    column: str
    sign: int
    bin: float


LOSS = Rival("train loss", "train_loss", -1, 0.25)

TIME = "training time τ"

UNKNOWN = Estimate(np.nan, np.nan, np.nan)

REPEATS = 0.999
"""Quantities whose ranks correlate so closely are one: the Hessian's condition number is the features' squared."""

RIVALS = (
    LOSS,
    Rival(TIME, "tau", 1, 0.1),
    Rival("absolute training time", "time", 1, 0.1),
    Rival("steps", "steps", 1, 0.1),
    Rival("κ of the features", "feature_condition", -1, 0.25),
    Rival("κ of the Hessian", "hessian_condition", -1, 0.25),
    Rival("κ as optimized", "preconditioned_condition", -1, 0.25),
    Rival("norm of the solution", "weight_norm", 1, 0.25),
    Rival("effective parameters", "effective_parameters_train", 1, 0.1),
)
"""The train loss and its rivals. The claim says that good conditioning leads to a low loss, and so to a peak."""


def weighted_auc(score: Floats, positive: Flags, weight: Floats) -> float:
    """P(score of a positive > score of a negative), ties half, each drawn with the weights; NaN with one class only."""
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    group = np.cumsum(np.append(False, ordered[1:] != ordered[:-1]))
    high = np.bincount(group, np.where(positive, weight, 0.0)[order])
    low = np.bincount(group, np.where(positive, 0.0, weight)[order])
    below = np.cumsum(low) - low
    pairs = high.sum() * low.sum()
    return float(np.sum(high * (below + low / 2)) / pairs) if pairs else float("nan")


def equal_weights(kinds: NDArray[np.generic]) -> Floats:
    """Weights that make kinds count alike: one over the number of conditions of the kind."""
    _, member, counts = np.unique(kinds, return_inverse=True, return_counts=True)
    return np.asarray(1 / counts[member])


def strata(values: Floats, width: float) -> NDArray[np.intp]:
    """Number of the bin of each value; bins are ``width`` decades wide, with 1 in the middle of one."""
    return np.unique(np.round(np.log10(values) / width), return_inverse=True)[1]


def within_auc(score: Floats | NDArray[np.intp], positive: Flags, stratum: NDArray[np.intp]) -> float:
    """P(score of a positive > score of a negative) among pairs of the same stratum, ties half; NaN without pairs."""
    hits = pairs = 0.0
    for members in _mixed(positive, stratum):
        count = int(positive[members].sum()) * int((~positive[members]).sum())
        hits, pairs = hits + count * association.auc(score[members], positive[members]), pairs + count
    return hits / pairs if pairs else float("nan")


def _mixed(positive: Flags, stratum: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Members of each stratum that has both outcomes."""
    order = np.argsort(stratum, kind="stable")
    starts = np.flatnonzero(stratum[order][1:] != stratum[order][:-1]) + 1
    groups = np.split(order, starts)
    return [members for members in groups if len(np.unique(positive[members])) > 1]


def within_p(
    score: Floats, positive: Flags, stratum: NDArray[np.intp], permutations: int = PERMUTATIONS, seed: int = 0
) -> float:
    """P-value of :func:`within_auc` being as high by chance: outcomes are permuted inside strata; NaN without pairs."""
    generator = np.random.default_rng(seed)
    observed, drawn, found = 0.0, np.zeros(permutations), False
    for members in _mixed(positive, stratum):
        ranks, outcomes = association.ranks(score[members]), positive[members]
        observed, found = observed + float(ranks[outcomes].sum()), True
        shuffled = generator.permuted(np.tile(outcomes, (permutations, 1)), axis=1)
        drawn += np.where(shuffled, ranks, 0.0).sum(1)
    return float((1 + np.sum(drawn >= observed - 1e-9)) / (permutations + 1)) if found else float("nan")


def partial_given(x: Floats, y: Floats, others: Floats) -> float:
    """Rank correlation of x and y with the linear effect of all other quantities' ranks removed from both.

    Args:
        x: [conditions].
        y: [conditions].
        others: [quantities, conditions].
    """
    columns = np.stack([np.ones(len(x)), *(association.ranks(other) for other in others)], axis=1)
    sides = np.stack([association.ranks(x), association.ranks(y)], axis=1)
    left = sides - columns @ np.linalg.lstsq(columns, sides, rcond=None)[0]
    return association.pearson(left[:, 0], left[:, 1])


def held_out(predictors: Floats, positive: Flags, folds: NDArray[np.intp]) -> Floats:
    """Log-likelihood of each condition's outcome under a logistic regression on the other folds' conditions.

    Args:
        predictors: [quantities, conditions].
        positive: [conditions].
        folds: which fold each condition is in, [conditions].

    Returns:
        [conditions], in nats; NaN with one fold only.
    """
    found = np.full(len(positive), np.nan)
    different = np.unique(folds)
    for fold in different if len(different) > 1 else ():
        out = folds == fold
        kept = predictors[:, ~out]
        centre, spread = kept.mean(1, keepdims=True), np.maximum(kept.std(1, keepdims=True), 1e-12)
        weights = _logistic((kept - centre) / spread, positive[~out])
        logit = weights[0] + weights[1:] @ ((predictors[:, out] - centre) / spread)
        found[out] = -np.logaddexp(0, np.where(positive[out], -logit, logit))
    return found


def _logistic(z: Floats, positive: Flags) -> Floats:
    """Intercept and slopes of a logistic regression with a small penalty on the slopes, by Newton's method."""
    design = np.vstack([np.ones(z.shape[1]), z])
    ridge = np.diag([1e-9] + [2 * PENALTY] * len(z))
    weights, target = np.zeros(len(design)), positive.astype(float)
    for _ in range(100):
        p = expit(weights @ design)
        step = np.linalg.solve(
            (design * np.maximum(p * (1 - p), 1e-12)) @ design.T + ridge, design @ (p - target) + ridge @ weights
        )
        step *= min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-300))
        weights = weights - step
        if np.abs(step).max() < 1e-8:
            break
    return weights


def folds_of(clusters: NDArray[np.generic]) -> NDArray[np.intp]:
    """Fold of each condition: its cluster, or where there are more than ``FOLDS``, its cluster's place modulo that."""
    member: NDArray[np.intp] = np.unique(clusters, return_inverse=True)[1]
    return member % FOLDS


def clustered_mean(values: Floats, clusters: NDArray[np.generic], level: float = 0.95) -> Estimate:
    """Mean over conditions, with Student's interval from the sums of whole clusters (a ratio estimate)."""
    member = np.unique(clusters, return_inverse=True)[1]
    sums, counts = np.bincount(member, values), np.bincount(member)
    mean, groups = float(values.mean()), len(sums)
    if groups < 2:
        return Estimate(mean, np.nan, np.nan)
    error = np.sqrt(groups / (groups - 1) * np.sum((sums - mean * counts) ** 2)) / len(values)
    reach = float(stdtrit(groups - 1, (1 + level) / 2) * error)
    return Estimate(mean, mean - reach, mean + reach)


@dataclass(frozen=True)
class Duel:
    """What two quantities say about the peak beside each other, on the conditions that have both.

    Attributes:
        first: name of the quantity that is given.
        second: name of the quantity that is added.
        conditions: that have both.
        gain: held-out log-likelihood a condition that adding the second to a logistic regression on the first gains.
        within: AUC of the second among conditions in which the first is equal, and the frozen features are the same.
        p_value: of ``within``, by permutation inside the strata.
    """

    first: str
    second: str
    conditions: int
    gain: Estimate
    within: Estimate
    p_value: float

    @property
    def outcome(self) -> str:
        """Whether the second tells something that the first does not: ``adds``, ``nothing`` or ``undecided``.

        It adds if it tells peak from no peak among conditions where the first is equal, by its interval over clusters
        and by permutation. It adds nothing if it does not, and the whole interval of its gain is negligible.
        """
        if self.within.low > 0.5 and self.p_value <= LEVEL:
            return "adds"
        return "nothing" if self.gain.high < NEGLIGIBLE else "undecided"


@dataclass(frozen=True)
class Rivalry:
    """The train loss beside its rivals.

    Attributes:
        table: one row a quantity, with ``quantity``; ``conditions`` that have it; ``auc`` and ``loss_auc``, its own and
            that of the train loss on the same conditions; ``auc_alike``, with methods weighted alike; ``partial``, its
            rank correlation with the height given all others; ``gain_given_loss``, ``auc_given_loss``, ``p_given_loss``
            of its duel given the train loss, and ``loss_gain_given``, ``loss_auc_given``, ``loss_p_given`` of the
            train loss's duel given it; ``added``, the quantities that add to it; ``sufficient``: ``no`` if there are
            any, ``yes`` if all others add nothing, else ``undecided``. Estimates have ``…_low`` and ``…_high``.
        duels: by (given, added).
    """

    table: pd.DataFrame
    duels: Mapping[tuple[str, str], Duel]


def compare(found: pd.DataFrame, positive: Flags) -> Rivalry:
    """Compare all quantities that enough conditions have.

    Args:
        found: rows of :func:`analysis.conditions.conditions` of one problem.
        positive: whether each has a peak.
    """
    clusters = pd.factorize(found["cluster"])[0]
    # on frozen features equal conditions are compared on the same features; a trained net has each budget once
    features = np.zeros_like(clusters) if found["trained"].all() else clusters
    values = {r.name: found[r.column].to_numpy(float) for r in RIVALS if r.column in found}
    values = {name: np.where(np.isfinite(v) & (v > 0), v, np.nan) for name, v in values.items()}
    known = {name: np.isfinite(v) for name, v in values.items()}
    able = [r for r in RIVALS if r.name in values and _enough(values[r.name], positive)]
    duels = {}
    for first in able:
        for second in able:
            both = known[first.name] & known[second.name]
            if first is not second and _enough(np.where(both, values[second.name], np.nan), positive):
                arrays = values[first.name][both], values[second.name][both], positive[both]
                duels[first.name, second.name] = _duel(first, second, *arrays, features[both], clusters[both])
    height, kinds = found["height"].to_numpy(float), found["method"].to_numpy(str)
    rows = [_row(r, values, known, positive, height, kinds, clusters, duels) for r in able]
    return Rivalry(pd.DataFrame(rows), duels)


def _enough(x: Floats, positive: Flags) -> bool:
    """Whether conditions that have a quantity are enough, differ in it, and have both outcomes."""
    there = np.isfinite(x)
    few = min(int(positive[there].sum()), int((~positive[there]).sum()))
    return int(there.sum()) >= FEWEST and few >= 3 and len(np.unique(x[there])) > 2


def _duel(
    first: Rival,
    second: Rival,
    a: Floats,
    b: Floats,
    positive: Flags,
    features: NDArray[np.intp],
    clusters: NDArray[np.intp],
) -> Duel:
    logs = np.log10(np.stack([a, b]))
    folds = folds_of(clusters)
    gain = clustered_mean(held_out(logs, positive, folds) - held_out(logs[:1], positive, folds), clusters)
    score = association.places(second.sign * b)
    stratum = np.unique(np.stack([strata(a, first.bin), features]), axis=1, return_inverse=True)[1].reshape(-1)

    def statistic(i: NDArray[np.intp]) -> float:
        return within_auc(score[i], positive[i], stratum[i])

    pairs = _mixed(positive, stratum)
    compared = np.isin(np.arange(len(a)), np.concatenate(pairs)) if pairs else np.zeros(len(a), bool)
    within = association.cluster_interval(statistic, clusters, "share", among=compared)
    p = within_p(score.astype(float), positive, stratum)
    return Duel(first.name, second.name, len(a), gain, within, p)


def _row(
    rival: Rival,
    values: Mapping[str, Floats],
    known: Mapping[str, Flags],
    positive: Flags,
    height: Floats,
    kinds: NDArray[np.generic],
    clusters: NDArray[np.intp],
    duels: Mapping[tuple[str, str], Duel],
) -> dict[str, object]:
    """What the table says of a quantity."""
    there = known[rival.name] & known[LOSS.name]
    peaked, groups = positive[there], clusters[there]

    def interval(statistic: Callable[[NDArray[np.intp]], float], scale: association.Scale) -> Estimate:
        among = association.rarer(peaked) if scale == "share" else None
        return association.cluster_interval(statistic, groups, scale, among=among)

    own = association.places(rival.sign * values[rival.name][there])
    loss = association.places(LOSS.sign * values[LOSS.name][there])
    x, y = values[rival.name][there], height[there]
    others = [v[there] for name, v in values.items() if name != rival.name and known[name][there].all()]
    distinct = [other for other in others if not abs(association.spearman(other, x)) > REPEATS]
    given = np.array(distinct).reshape(len(distinct), -1)
    row: dict[str, object] = {"quantity": rival.name, "conditions": int(there.sum())}
    row["auc_alike"] = weighted_auc(own.astype(float), peaked, equal_weights(kinds[there]))
    estimates = {
        "auc": interval(lambda i: association.auc(own[i], peaked[i]), "share"),
        "loss_auc": interval(lambda i: association.auc(loss[i], peaked[i]), "share"),
        "partial": interval(lambda i: partial_given(x[i], y[i], given[:, i]), "correlation"),
    }
    for pair, gain, within, p in (
        ((LOSS.name, rival.name), "gain_given_loss", "auc_given_loss", "p_given_loss"),
        ((rival.name, LOSS.name), "loss_gain_given", "loss_auc_given", "loss_p_given"),
    ):
        duel = duels.get(pair, Duel(*pair, 0, UNKNOWN, UNKNOWN, np.nan))
        estimates |= {gain: duel.gain, within: duel.within}
        row[p] = duel.p_value
    for name, estimate in estimates.items():
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    outcomes = {d.second: d.outcome for (first, _), d in duels.items() if first == rival.name}
    row["added"] = ", ".join(name for name, outcome in outcomes.items() if outcome == "adds")
    row["sufficient"] = "no" if row["added"] else "yes" if set(outcomes.values()) == {"nothing"} else "undecided"
    return row
