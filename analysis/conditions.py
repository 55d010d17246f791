"""Conditions of the study: one row for everything fixed but width and seeds, over all tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

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

SOLUTION = ("weight_norm", "effective_parameters_train")
"""What else is measured of a solution at the threshold."""

BUDGET = ("steps", "epochs")
NOISE = ("label_noise", "data_noise")

ELSEWHERE = ("train_loss_at_measured", "train_loss_at_peak")
"""The train loss at other widths than the counted threshold."""

BLOCK = 1_000_000
"""Steps of a schedule that are summed at a time."""

DESCENT = ("gd", "sgd", "momentum", "nesterov")
"""Optimizers whose step is a multiple of the gradient: lr · steps/(1 - momentum) is a time."""


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
        - ``train_loss_at_measured``, ``train_loss_at_peak``: the same elsewhere, see :func:`_places`
        - ``height``: frozen features: prominence at the threshold; trained ones, whose threshold is known less well:
          that of the most prominent peak
        - ``tau``, ``time``: :func:`training_time` in units of 1/λmax, and absolute; ``method``: :func:`method`
        - medians at the threshold of ``CONDITIONING``, ``SOLUTION`` and, as ``<metric>_at_threshold``, of the metric
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
        extra = _of_conditions(problem, table, metric)
        found.append(pd.concat([table, extra[[c for c in extra if c not in table]]], axis=1))
    if not found:
        return pd.DataFrame()
    every = pd.concat(found, ignore_index=True)
    every["noisy"] = problem_noise(every)
    every["family"] = [family(*values) for values in every[list(PROBLEM)].itertuples(index=False)]
    every["family"] += _noise_text(every)
    every["factor"] = every["table"].map(experiments.factor)
    floor = noise_floor(every["label_noise"], every["label_noise_over"], every["outputs"])
    every["floor"] = floor.where(every["loss"] == "mse")
    every["train_loss"] = every["train_loss_at_threshold"]
    losses = ["train_loss", *ELSEWHERE]
    every[losses] = every[losses].clip(lower=LOSS_FLOOR)
    every["condition"] = short_labels(every)
    frozen = ~every["trained"]
    every["height"] = every["prominence_at_threshold"].where(frozen, every["prominence"])
    every["cluster"] = _joined(every, FEATURES).where(frozen, _joined(every, _settings(every)))
    every["method"] = [method(row) for row in every.to_dict("records")]
    measured = [*CONDITIONING, *SOLUTION, "tau", "time"]
    every[measured] = every[measured].where(every["train_loss"].notna())
    return every


def _noise_text(found: pd.DataFrame) -> pd.Series:
    """What a family's name says of its noise: a train loss means something beside the noise's variance alone.

    The noise of a teacher always, the share of noisy labels where a family has several.
    """
    text = pd.Series("", found.index)
    if "data_noise" in found:
        text += found["data_noise"].map(lambda value: "" if is_null(value) or not value else f", noise {value:g}")
    several = found.groupby(["family", "noisy"])["label_noise"].transform("nunique") > 1
    return text + found["label_noise"].map(lambda value: f", label noise {value:g}").where(several, "")


def _settings(found: pd.DataFrame) -> list[str]:
    """Axes of conditions that do not share a trajectory: all but the budget."""
    return [c for c in axis_columns(found) if c not in (*BUDGET, *CHOSEN)]


def _joined(found: pd.DataFrame, axes: Iterable[str]) -> pd.Series:
    """The values of some axes as one text a condition."""
    labels: pd.Series = found[[c for c in axes if c in found]].map(str).agg("|".join, axis=1)
    return labels


def method(condition: Mapping[Any, Any]) -> str:
    """Name of the kind of optimization, for weights: kinds count alike, however many conditions they have.

    Steps along the gradient on frozen features are one kind, ``gradient descent``, with full batches, and another,
    ``mini-batches``, without. What else is changed of a method makes a kind of its own.

    >>> method({"optimizer": "momentum", "trained": False, "batch_size": 200, "n_train": 200, "init_scale": 10})
    'gradient descent, far start'
    """
    name = str(condition["optimizer"])
    if name in DESCENT and not condition["trained"]:
        size = condition["batch_size"]
        name = "mini-batches" if not is_null(size) and size < condition["n_train"] else "gradient descent"
    changed = {
        "normalization": str(condition.get("normalization") or "none") != "none",
        "far start": _above(condition.get("init_scale"), 1),
        "weight decay": _above(condition.get("optimizer_weight_decay"), 0),
        "schedule": _scheduled(condition),
    }
    return ", ".join([name, *(change for change, there in changed.items() if there)])


def _above(value: object, least: float) -> bool:
    return not is_null(value) and float(value) > least  # type: ignore[arg-type]


def _scheduled(row: Mapping[Any, Any]) -> bool:
    """Whether the step size changes; tables of an older dd lack the column."""
    return str(row.get("schedule") or "constant") not in ("constant", "nan")


def training_time(row: Mapping[Any, Any], rate: float) -> float:
    """The budget of steps along the gradient: lr · steps/(1 - momentum), the sum of all step sizes with a schedule.

    In units of 1/λmax of the loss at the start it is called τ: gradient descent has then gone far along directions
    whose eigenvalue is well above λmax/τ. NaN for other methods, whose step is no multiple of the gradient.

    Args:
        row: of ``runs``.
        rate: step size, in the units of the result.
    """
    if row["optimizer"] not in DESCENT or is_null(row["steps"]):
        return float("nan")
    momentum = row.get("optimizer_momentum")
    total = float(row["steps"])
    if _scheduled(row):
        from dd.results.rebuilt import run_of  # imports torch, which few tables need

        run = run_of({column: None if is_null(value) else value for column, value in row.items()})
        total = sum(
            float(run.schedule.factors(run, first, min(first + BLOCK, int(total))).sum())
            for first in range(0, int(total), BLOCK)
        )
    kept = 0.0 if momentum is None or is_null(momentum) else float(momentum)
    return rate * total / (1 - kept)


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
    """Whether labels, or the targets of a teacher, are noisy."""
    noisy = rows["label_noise"] > 0
    if "data_noise" in rows:
        noisy |= rows["data_noise"] > 0
    named: pd.Series = noisy.rename("noisy")
    return named


def _of_conditions(problem: pd.DataFrame, table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Table, axes, and medians at the threshold of the runs of each condition, as :func:`peaks.curves` has them."""
    every = [curve.rows for curve in peaks.curves(problem)]
    owner = pd.Series(-1, problem.index)
    for i, rows in enumerate(every):
        owner.loc[rows.index] = i
    good = problem[problem["status"] == "ok"]
    at_threshold = [c for c in (*CONDITIONING, *SOLUTION, metric) if c in problem]
    own = [c for c in ("train_loss", "sharpness_init", "lr_absolute") if c in problem]
    medians = good.groupby([owner, "width"])[[*at_threshold, *own]].median()
    of_each = dict(iter(medians.groupby(level=0)))
    trained = trained_features(problem)
    axes = [a for a in (*PROBLEM, "label_noise", "label_noise_over", *FACTORS, *FEATURES) if a != "step_size"]
    firsts = problem.loc[[rows.index[0] for rows in every]].to_dict("records")
    found = []
    for i, (rows, first, at) in enumerate(zip(every, firsts, _places(table), strict=True)):
        here = of_each.get(i)
        values: dict[str, object] = {"table": first["table"], "outputs": first["outputs"]}
        values |= {"trained": bool(trained[rows.index[0]])} | {axis: first.get(axis) for axis in axes}
        values["excluded"] = int((rows["status"] == EXCLUDED).sum())
        values["step_size"] = None if pd.isna(first["lr"]) else f"{first['lr']:g} {first['lr_unit']}"
        there = (
            dict.fromkeys(medians, np.nan) if here is None else _at(here, float(rows["interpolation_width"].median()))
        )
        values |= {f"{c}_at_threshold" if c == metric else c: there[c] for c in at_threshold}
        values |= {c: np.nan if here is None else _at(here[["train_loss"]], x)["train_loss"] for c, x in at.items()}
        absolute = there.get("lr_absolute", np.nan)
        sharp = first["lr_unit"] == "sharpness"
        rate = float(first["lr"]) if sharp else absolute * there.get("sharpness_init", np.nan)
        values |= {"tau": training_time(first, rate), "time": training_time(first, absolute)}
        found.append(values)
    return pd.DataFrame(found).reindex(columns=dict.fromkeys([*found[0], *SOLUTION]))


def _places(table: pd.DataFrame) -> list[dict[str, float]]:
    """Where else the train loss of each condition is looked at: at the measured threshold, and at the peak.

    The measured threshold of a problem, and noise, is the least width that any of its conditions fits
    (``threshold_measured``), or the counted one where none does. Conditions that have no peak by the test are looked at
    where the others of the problem and noise have it in the median, or at the measured threshold if none has one.
    """
    noise = [c for c in NOISE if c in table]
    cells = table.groupby(noise, dropna=False).ngroup() if noise else pd.Series(0, table.index)
    fitted = table["threshold_measured"].groupby(cells).transform("min").fillna(table["threshold_counted"])
    own = table["location"].where(table["decision"] == "peak")
    peak = own.fillna(own.groupby(cells).transform("median")).fillna(fitted)
    return [dict(zip(ELSEWHERE, pair, strict=True)) for pair in zip(fitted, peak, strict=True)]


def _at(medians: pd.DataFrame, width: float) -> dict[str, float]:
    """Each column at a width, interpolated in log-log; the index ends with the width."""
    values = medians.to_numpy(float).T
    logs = np.log(np.where(values > 0, values, np.nan))
    return dict(
        zip(medians, np.exp(value_at(medians.index.get_level_values(-1).to_numpy(float), logs, width)), strict=True)
    )
