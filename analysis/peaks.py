"""Peaks of a whole table: one row a curve, with its condition, its thresholds and its judgement.

Definitions are in docs/peaks.md.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.curves import (
    FLOOR,
    GROUPS,
    LINE_AXES,
    PANEL_AXES,
    SEEDS,
    axis_columns,
    label_of,
    split,
    varying_axes,
)
from analysis.judgement import (
    LEVEL,
    RESAMPLES,
    SMALLEST,
    Estimate,
    Peak,
    counted,
    judge,
    median_over,
    missing_at,
    of_training_sets,
)
from analysis.labels import legend_of
from analysis.prominence import first_fall, value_at
from analysis.tables import UnreadableTable, load_runs, table_names

FITTED = 1e-3
"""Median train loss at which a model counts as interpolating, for ``threshold_measured``."""

BUDGETS = ("steps", "epochs")


def table(
    rows: pd.DataFrame,
    x: str = "width",
    metric: str | Sequence[str] = "test_loss",
    *,
    alpha: float = LEVEL,
    delta: float = SMALLEST,
    resamples: int = RESAMPLES,
    fitted: float = FITTED,
) -> pd.DataFrame:
    """Judge the peak of every curve of a table.

    A curve has everything fixed but x and the seeds; a seed is a pair (``seed``, ``data_seed``). Where several training
    sets have several seeds each, the training sets are judged, by the median curves of their seeds. What dd settles by
    itself (``solver``, ``dtype``) does not split curves. Along ``n_train`` full batches are one batch size, and where
    runs agree in epochs rather than in steps, epochs are the budget.

    Args:
        rows: of ``tables.load_runs``, or of ``tables.curve_rows`` for x = ``step`` or ``epoch``. Rows whose x is null
            or zero are left out; rows whose status is not ``ok`` count as missing.
        x: any axis with positive numbers: ``width``, ``n_train``, ``step``, ``epoch``, ``optimizer_penalty``, …
        metric: a column of losses, floored at 1e-10, or of errors (a name that ends in ``error``), floored at half a
            sample; or several columns.
        alpha: see ``judgement.judge``.
        delta: see ``judgement.judge``.
        resamples: see ``judgement.judge``.
        fitted: train loss at which a model counts as interpolating.

    Returns:
        One row a curve, sorted by condition, of one metric after the other (none, and no columns, if no row has an x),
        with the columns

        - ``condition``: short unique name made of the axes that vary in the table; then every axis as a column of its
          own (null where it is not the same throughout the curve), without options that are null everywhere
        - ``metric``, ``x``: names
        - ``decision`` (``peak``, ``no peak``, ``undecided``), ``reason``, ``p_value``, ``prominence_bound``,
          ``points``, ``dropped``, ``ends_below_minimum``: see ``judgement.Peak``
        - ``seeds``, ``training_sets``: with at least one finite value; with one training set everything that is
          inferred holds for that set
        - ``location``, ``prominence``, ``height_over_plateau``, ``height_over_minimum``, ``width_at_half_height``,
          ``final_descent``, ``peak_value``, ``plateau_value``, ``minimum_value``, ``minimum_location``,
          ``prominence_at_threshold``, each with ``…_low`` and ``…_high``: see ``judgement.Peak``
        - ``threshold_counted``: x at which the model can just fit the training set: ``interpolation_width`` along
          ``width``; along ``n_train`` where ``interpolation_width`` reaches the width; else null
        - ``threshold_measured``: first x whose median train loss is down to ``fitted``; null if it never is
        - ``train_loss_at_threshold``: median at ``threshold_counted``, interpolated in log-log; null where the
          points there do not count
        - ``diverged``: runs that diverged
    """
    metrics = [metric] if isinstance(metric, str) else metric
    every = list(curves(rows, x))
    names = [legend_of(curve.values) for curve in every]
    if len(set(names)) < len(names):  # legends round numbers
        names = [label_of(curve.values) for curve in every]
    judged = [_judged(curve.rows, x, metrics, alpha, delta, resamples, fitted) for curve in every]
    return pd.DataFrame(
        {"condition": name} | curve.axes | {"metric": metric, "x": x} | peaks[i]
        for i, metric in enumerate(metrics)
        for name, curve, peaks in zip(names, every, judged, strict=True)
    )


@dataclass(frozen=True)
class Curve:
    """Runs that differ in x and seeds only.

    Attributes:
        values: of the axes that tell the table's curves apart.
        axes: the value of every axis but x, None where there are several.
        rows: the runs, with the index that they have in the table.
    """

    values: dict[str, object]
    axes: dict[str, object]
    rows: pd.DataFrame


def curves(rows: pd.DataFrame, x: str = "width") -> Iterator[Curve]:
    """Curves of a table, in the order of :func:`table`."""
    rows = rows[rows[x].notna()]
    rows = rows[rows[x] > 0]
    if rows.empty:
        return
    rows, axes = _axes(rows, x)
    varying = _varying(rows, axes)
    number = rows.groupby(varying, dropna=False, sort=True).ngroup() if varying else pd.Series(0, rows.index)
    shared = {axis: _shared(rows[axis], number.to_numpy()) for axis in axes}
    for i, (values, members) in enumerate(split(rows, varying)):
        yield Curve(values, {axis: of_each[i] for axis, of_each in shared.items()}, members)


def _axes(rows: pd.DataFrame, x: str) -> tuple[pd.DataFrame, list[str]]:
    """Rows with comparable axes along x, and the axes without x."""
    axes = [c for c in axis_columns(rows) if rows[c].notna().any() and c != x]
    if x in BUDGETS:
        axes = [c for c in axes if c not in BUDGETS]
    if x == "n_train":
        held = rows["n_validation"].fillna(0) if "n_validation" in rows else 0
        full = rows["batch_size"] == rows["n_train"] - held
        sizes = rows["batch_size"].astype("Int64").astype("string").astype(object)
        rows = rows.assign(batch_size=sizes.mask(full, "full").where(rows["batch_size"].notna(), None))
        if rows["epochs"].nunique() < rows["steps"].nunique():
            axes = ["epochs" if c == "steps" else c for c in axes]
    return rows, axes


def _varying(rows: pd.DataFrame, axes: list[str]) -> list[str]:
    """Axes that tell curves apart, the optimizer first."""
    core = [c for c in ("optimizer", *LINE_AXES, "epochs", "width", *PANEL_AXES, "n_test") if c in axes]
    options = tuple(f"{group}_" for group in GROUPS)
    varying = varying_axes(rows, tuple(dict.fromkeys(core)), options)
    return [c for c in varying if c in axes]


def _shared(column: pd.Series, number: np.ndarray) -> list[object]:
    """The one value that a column has in each group of rows, None if there are several; groups are 0, 1, ..."""
    codes = pd.factorize(column, use_na_sentinel=False)[0]
    first = np.unique(number, return_index=True)[1]
    several = np.bincount(number, codes != codes[first][number]) > 0
    values = column.array
    return [None if mixed else values[i] for mixed, i in zip(several, first, strict=True)]


class _Grid:
    """Places of the rows of one curve in a matrix of seeds × points."""

    def __init__(self, rows: pd.DataFrame, x: str) -> None:
        self.x, self.column = np.unique(rows[x].to_numpy(dtype=float), return_inverse=True)
        columns = [c for c in (*SEEDS, "test_seed") if c in rows]
        seeds = np.column_stack([rows[c].fillna(-1).to_numpy(dtype=np.int64) for c in columns])
        distinct, row = np.unique(seeds, axis=0, return_inverse=True)
        self.row = row.reshape(-1)
        self.set_of_row = distinct[:, columns.index("data_seed")] if "data_seed" in columns else np.zeros(len(distinct))
        self.ok = (rows["status"] == "ok").to_numpy()

    def fill(self, values: pd.Series) -> np.ndarray:
        """[seeds, points]; NaN where a run is missing or not ok."""
        matrix = np.full((self.row.max() + 1, len(self.x)), np.nan)
        matrix[self.row, self.column] = np.where(self.ok, values.to_numpy(dtype=float), np.nan)
        return matrix


def _judged(
    rows: pd.DataFrame, x: str, metrics: Sequence[str], alpha: float, delta: float, resamples: int, fitted: float
) -> list[dict[str, object]]:
    """Columns of one curve, for each metric."""
    grid = _Grid(rows, x)
    threshold = _threshold(rows, x)
    losses = median_over(grid.fill(rows["train_loss"]).T)
    measured = first_fall(grid.x, losses, fitted)
    diverged = rows.loc[rows["status"] == "diverged", "run_id"].nunique()
    found = []
    for metric in metrics:
        logs = np.log(np.maximum(grid.fill(rows[metric]), grid.fill(_floor(rows, metric))))
        there = np.isfinite(logs).any(1)
        names, sets = np.unique(grid.set_of_row[there], return_inverse=True)
        unit = "seed"
        if 1 < len(names) < there.sum():  # seeds of one set are not independent
            unit, logs = "training set", of_training_sets(logs[there], sets)
        peak = judge(grid.x, logs, threshold, alpha=alpha, delta=delta, resamples=resamples, unit=unit)
        seeds = peak.seeds if unit == "seed" else int(there.sum())
        known = threshold is not None and not missing_at(grid.x, counted(logs), threshold)
        at = float(value_at(grid.x, np.log(np.maximum(losses, 1e-300)), threshold)) if known and threshold else np.nan
        of_loss = {
            "threshold_counted": np.nan if threshold is None else threshold,
            "threshold_measured": measured,
            "train_loss_at_threshold": np.exp(at),
            "diverged": diverged,
        }
        found.append(_flat(peak) | of_loss | {"seeds": seeds, "training_sets": len(names)})
    return found


def _floor(rows: pd.DataFrame, metric: str) -> pd.Series:
    """Smallest value of the metric that means something: half a sample for errors."""
    if not metric.endswith("error"):
        return pd.Series(FLOOR, rows.index)
    return 0.5 / rows["n_train" if metric.startswith("train") else "n_test"]


def _threshold(rows: pd.DataFrame, x: str) -> float | None:
    """Where along x the model can just fit the training set, None if that does not depend on x or is not known."""
    if rows["interpolation_width"].isna().all():
        return None
    if x == "width":
        return float(rows["interpolation_width"].median())
    if x == "n_train":
        known = rows[rows["interpolation_width"].notna()]
        needed = known.groupby("n_train")["interpolation_width"].median()
        spare = known["width"].iloc[0] / needed.to_numpy()  # falls with n_train
        at = first_fall(needed.index.to_numpy(dtype=float), np.log(spare), 0.0)
        return None if np.isnan(at) or spare[0] < 1 else at
    return None


def _flat(peak: Peak) -> dict[str, object]:
    """Fields of a peak as columns, intervals as columns of their own."""
    flat: dict[str, object] = {}
    for field in fields(Peak):
        value = getattr(peak, field.name)
        if isinstance(value, Estimate):
            flat |= {field.name: value.value, f"{field.name}_low": value.low, f"{field.name}_high": value.high}
        else:
            flat[field.name] = value
    return flat


SHOWN = (
    "condition", "metric", "decision", "p_value", "seeds", "location", "prominence", "threshold_counted",
    "train_loss_at_threshold", "reason",
)  # fmt: skip
"""Columns that the command prints."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the peaks of tables; returns 0, or 1 with a message where a table cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m analysis.peaks", description="Judge the peak of every curve.")
    parser.add_argument("name", nargs="*", help="tables; all of them by default")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the tables")
    parser.add_argument("--x", default="width", help="axis of the curves, as n_train or optimizer_penalty")
    parser.add_argument("--metric", nargs="+", default=["test_loss"], help="columns of losses or errors")
    parser.add_argument("--csv", action="store_true", help="every column (docs/peaks.md) as CSV")
    options = parser.parse_args(arguments)
    try:
        names = options.name or table_names(options.results)
        found = [table(load_runs(options.results, name), options.x, options.metric) for name in names]
    except (UnreadableTable, KeyError) as error:
        print(f"peaks: {error}", file=sys.stderr)
        return 1
    if not found:
        print(f"peaks: no table in {options.results}/", file=sys.stderr)
        return 1
    for name, peaks in zip(names, found, strict=True):
        peaks.insert(0, "table", name)
    every = pd.concat(found, ignore_index=True)
    if options.csv:
        every.to_csv(sys.stdout, index=False)
        return 0
    shown = every[["table", *(column for column in SHOWN if column in every)]]
    with pd.option_context("display.precision", 3):
        print(shown.to_string(index=False, na_rep="-"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
