"""Conditions of the study: one row for everything fixed but width and seeds, over all tables."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis import experiments, peaks
from analysis.curves import CHOSEN, axis_columns
from analysis.judgement import FEWEST_POINTS
from analysis.labels import family_of, is_null, legend_of, value_text
from analysis.prominence import value_at

PROBLEM = ("model", "data", "n_train", "loss")
"""Columns whose values are judged apart; noisy and clean labels are too."""

LOSS_FLOOR = 1e-8
"""Train losses below this count as this much: what is left is rounding."""

FORMERLY_TRAINED = ("two_layer", "rmt")
"""Models with trained features, for tables of an older dd that lack the column ``trained_features``."""

FACTORS = (
    "optimizer",
    "steps",
    "step_size",
    "schedule",
    "batch_size",
    "init",
    "init_scale",
    "normalization",
    "standardize",
    "model_activation",
)

FEATURES = ("standardize", "normalization", "model_activation", "model_bias", "model_bandwidth", "model_weights")
"""Conditions of random features that agree in these share their design matrices: a cluster."""

CONDITIONING = (
    "feature_condition", "feature_condition_init", "hessian_condition", "preconditioned_condition", "feature_rank",
)  # fmt: skip


EXCLUDED = "excluded"
"""What stands in for the status of runs that do not count; see :func:`without_dead_units`."""


def without_dead_units(rows: pd.DataFrame) -> pd.DataFrame:
    """The runs, those with dead units as if missing: a division by about √eps makes their test loss (docs/columns.md).

    An older dd has no column ``dead_units``: its runs count, unless another table knows better.
    """
    if "dead_units" not in rows:
        return rows
    dead = rows["dead_units"].astype(float).groupby(rows["run_id"]).transform("max") > 0
    return rows.assign(status=rows["status"].mask(dead & (rows["status"] == "ok"), EXCLUDED))


def trained_features(rows: pd.DataFrame) -> pd.Series:
    """Whether the features of each run are trained: parameters = samples × outputs is then known less well."""
    by_name = rows["model"].isin(FORMERLY_TRAINED)
    if "trained_features" not in rows:
        return by_name
    known: pd.Series = rows["trained_features"].where(rows["trained_features"].notna(), by_name).astype(bool)
    return known


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
        The columns of :func:`analysis.peaks.table` (``condition`` shortened), and

        - ``table``, ``factor`` (what the table varies), ``family`` (:func:`family`), ``noisy``, ``cluster``,
          ``trained`` (whether the features are), ``outputs``, ``floor`` (:func:`noise_floor`; null for other losses
          than the squared one)
        - ``train_loss``: median at the threshold, at least ``LOSS_FLOOR``; NaN where the widths there are missing
          or most runs diverged
        - ``height``: frozen features: prominence at the threshold; trained ones, whose threshold is known less well:
          that of the most prominent peak
        - medians at the threshold of ``CONDITIONING`` and, as ``<metric>_at_threshold``, of the metric
        - ``excluded``: runs that do not count (:func:`without_dead_units`)
    """
    rows = pd.concat([frame.assign(table=name) for name, frame in tables.items()], ignore_index=True)
    rows = without_dead_units(rows)
    # of a run that several tables hold, what finished and was measured in full comes first
    worst = (rows["status"] == "failed").astype(int) * 2 + (rows["measure"] != "full").astype(int)
    best = worst.groupby(rows["run_id"]).transform("min")
    rows = rows[worst == best].drop_duplicates("run_id", ignore_index=True)
    found = []
    for _, problem in rows.groupby([*PROBLEM, "label_noise_over", problem_noise(rows)], dropna=False, sort=True):
        if problem["width"].nunique() < FEWEST_POINTS:
            continue
        table = peaks.table(problem, metric=metric)
        extra = _of_conditions(problem, metric)
        found.append(pd.concat([table, extra[[c for c in extra if c not in table]]], axis=1))
    if not found:
        return pd.DataFrame()
    every = pd.concat(found, ignore_index=True)
    every["noisy"] = problem_noise(every)
    every["family"] = [family(*values) for values in every[list(PROBLEM)].itertuples(index=False)]
    every["factor"] = every["table"].map(experiments.factor)
    floor = noise_floor(every["label_noise"], every["label_noise_over"], every["outputs"])
    every["floor"] = floor.where(every["loss"] == "mse")
    every["train_loss"] = every["train_loss_at_threshold"].clip(lower=LOSS_FLOOR)
    every["condition"] = short_labels(every)
    frozen = ~every["trained"]
    every["height"] = every["prominence_at_threshold"].where(frozen, every["prominence"])
    labels = every[[c for c in FEATURES if c in every]].map(str).agg("|".join, axis=1)
    every["cluster"] = labels.where(frozen, every.index.map(str))
    known = every["train_loss"].notna()
    every[list(CONDITIONING)] = every[list(CONDITIONING)].where(known)
    return every


def family(model: str, data: str, n_train: int, loss: str) -> str:
    """Name of a problem.

    >>> family("random_features", "digits", 200, "mse")
    'random features on digits, n = 200'
    """
    losses = "" if loss == "mse" else f", {value_text(loss)}"
    return f"{family_of(model)} on {value_text(data)}, n = {n_train}{losses}"


def of_the_study(tables: Mapping[str, pd.DataFrame], metric: str = "test_loss") -> pd.DataFrame:
    """Conditions of those tables that belong to the study, in the study's order; see :func:`conditions`."""
    order = [name + end for end in ("", experiments.FULL) for name in experiments.STUDY]
    order += sorted(name for name in tables if experiments.of_the_study(name) and name not in order)
    ours = {name: tables[name] for name in order if name in tables}
    return conditions(ours, metric) if ours else pd.DataFrame()


def short_labels(found: pd.DataFrame) -> pd.Series:
    """Names of conditions by what sets them apart: axes at their problem's most common value are left out.

    The optimizer, and the budget where it varies, are always named.
    """
    labels = pd.Series("", found.index)
    for _, members in found.groupby([*PROBLEM, "noisy"], sort=False):
        named = [c for c in axis_columns(members) if c not in CHOSEN]
        curves = members[[c for c in named if members[c].nunique(dropna=False) > 1]]
        usual = {c: curves[c].mode(dropna=False).iloc[0] for c in curves}
        always = ("optimizer", "steps")
        for index, row in curves.iterrows():
            moved = {c for c, v in row.items() if v != usual[c] and not (is_null(v) and is_null(usual[c]))}
            own = {c: v for c, v in row.items() if c in moved or c in always}
            labels[index] = legend_of({"optimizer": members.loc[index, "optimizer"]} | own)
        same = labels[members.index].duplicated(keep=False)
        labels[same.index[same]] = members.loc[same.index[same], "condition"]  # short names round numbers
    return labels


def problem_noise(rows: pd.DataFrame) -> pd.Series:
    """Whether labels are noisy."""
    noisy: pd.Series = (rows["label_noise"] > 0).rename("noisy")
    return noisy


def _of_conditions(problem: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Table, axes, and medians at the threshold of the runs of each condition, as :func:`peaks.curves` has them."""
    every = [curve.rows for curve in peaks.curves(problem)]
    owner = pd.Series(-1, problem.index)
    for i, rows in enumerate(every):
        owner.loc[rows.index] = i
    good = problem[problem["status"] == "ok"]
    medians = good.groupby([owner, "width"])[[*CONDITIONING, metric]].median()
    of_each = dict(iter(medians.groupby(level=0)))
    trained = trained_features(problem)
    axes = [a for a in (*PROBLEM, "label_noise", "label_noise_over", *FACTORS, *FEATURES) if a != "step_size"]
    firsts = problem.loc[[rows.index[0] for rows in every]].to_dict("records")
    found = []
    for i, (rows, first) in enumerate(zip(every, firsts, strict=True)):
        at = float(rows["interpolation_width"].median())
        values: dict[str, object] = {"table": first["table"], "outputs": first["outputs"]}
        values |= {"trained": bool(trained[rows.index[0]])} | {axis: first.get(axis) for axis in axes}
        values["excluded"] = int((rows["status"] == EXCLUDED).sum())
        values["step_size"] = None if pd.isna(first["lr"]) else f"{first['lr']:g} {first['lr_unit']}"
        there = _at(of_each[i], at) if i in of_each else dict.fromkeys(medians, np.nan)
        values |= {f"{c}_at_threshold" if c == metric else c: value for c, value in there.items()}
        found.append(values)
    return pd.DataFrame(found)


def _at(medians: pd.DataFrame, width: float) -> dict[str, float]:
    """Each column at a width, interpolated in log-log; the index ends with the width."""
    values = medians.to_numpy(float).T
    logs = np.log(np.where(values > 0, values, np.nan))
    return dict(
        zip(medians, np.exp(value_at(medians.index.get_level_values(-1).to_numpy(float), logs, width)), strict=True)
    )
