"""What a tracker is given: one track a curve (width as the step, the seeds as median and quantiles), or one a run."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Real

import numpy as np
import pandas as pd

from analysis import peaks
from analysis.curves import (
    CHOSEN,
    GROUPS,
    LINE_AXES,
    PANEL_AXES,
    SEEDS,
    axis_columns,
    band,
    exact,
    label_of,
    varying_axes,
)
from analysis.labels import is_null, legend_of
from analysis.tables import PLACES, POINT

METRICS = (
    "train_loss", "test_loss", "train_error", "test_error", "min_norm_test_loss", "feature_condition",
    "preconditioned_condition", "hessian_condition", "ntk_condition", "weight_norm",
)  # fmt: skip
"""Columns of ``runs`` that are exported, those of them that have values."""

QUANTILES = ("median", "q10", "q90")
"""What stands for the seeds at one step: the median, the 10 % and the 90 % quantile."""


@dataclass(frozen=True)
class Track:
    """One run of a tracker.

    Attributes:
        id: twelve hexadecimal digits of the curve's identity, or the ``run_id``: the same whenever it is exported.
        name: what a person reads.
        settings: the axes that are the same at all steps, without nulls.
        x: what the steps are.
        points: [steps, metrics], with the steps as the index, ascending; NaN where there is no value.
    """

    id: str
    name: str
    settings: dict[str, str | int | float | bool]
    x: str
    points: pd.DataFrame

    def logged(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Each step with its finite values: trackers take whole steps, and not all of them take infinity."""
        for step, values in zip(self.points.index, self.points.to_dict("records"), strict=True):
            yield int(step), {str(key): float(v) for key, v in values.items() if math.isfinite(v)}


def of_curves(rows: pd.DataFrame, table: str, x: str) -> list[Track]:
    """One track a curve: everything fixed but x and the seeds.

    Columns of ``points`` are ``<metric>/median``, ``<metric>/q10`` and ``<metric>/q90`` over the runs that are ``ok``,
    ``runs``, their number, and ``diverged``, the number of those that diverged.

    Args:
        rows: of ``tables.load_runs``.
        table: its name; curves of two tables are never one track.
        x: the axis that becomes the step.
    """
    found = list(peaks.curves(rows, x))
    names = [legend_of(curve.values) if curve.values else table for curve in found]
    if len(set(names)) < len(names):  # legends round numbers
        names = [label_of(curve.values) for curve in found]
    return [
        Track(identity(table, x, curve), name, _settings(curve.axes), x, _points(curve.rows, x))
        for name, curve in zip(names, found, strict=True)
    ]


def of_runs(rows: pd.DataFrame, logged: pd.DataFrame, table: str) -> list[Track]:
    """One track a run that has not failed, its logged steps as steps.

    The last step has the metrics of the finished run, too. A run without logged steps, as a closed form is, has one
    step, ``steps_done`` or 0.

    Args:
        rows: of ``tables.load_runs``.
        logged: of ``tables.load_curves``.
        table: its name.
    """
    axes = [c for c in (*axis_columns(rows), *SEEDS) if c in rows]
    core, options = ("optimizer", "width", *LINE_AXES, *PANEL_AXES, "n_test"), tuple(f"{group}_" for group in GROUPS)
    varying = varying_axes(rows, tuple(dict.fromkeys(core)), options) + [c for c in SEEDS if rows[c].nunique() > 1]
    finished = rows[rows["status"] != "failed"].set_index("run_id")
    last = finished["steps_done"].fillna(0) if "steps_done" in finished else pd.Series(0, finished.index)
    final = finished[[c for c in METRICS if c in finished]]
    if logged.empty:
        points = final.set_index(last.astype(int).rename("step"), append=True)
    else:
        ends = logged.groupby("run_id")["step"].max()
        steps = ends.reindex(finished.index).fillna(last).astype(int).rename("step")
        points = final.set_index(steps, append=True).combine_first(logged.set_index(POINT))
    of_run = dict(iter(points.groupby(level="run_id")))
    return [
        Track(
            str(run_id),
            legend_of({c: row[c] for c in varying}) if varying else table,
            _settings({c: row[c] for c in (*axes, "status")}),
            POINT[1],
            of_run[run_id].droplevel("run_id").sort_index().dropna(axis="columns", how="all"),
        )
        for run_id, row in zip(finished.index, finished.to_dict("records"), strict=True)
    ]


def identity(table: str, x: str, curve: peaks.Curve) -> str:
    """Twelve digits that stay when the table grows: by widths, seeds, or other curves.

    Axes that are null do not count. Axes that dd settles by itself count where they tell curves apart: elsewhere a
    further width may be settled in another way. A file may be moved.
    """
    left_out = {*PLACES, *CHOSEN} - curve.values.keys()
    axes = {key: _canonical(v) for key, v in curve.axes.items() if key not in left_out and not is_null(v)}
    return hashlib.sha256(json.dumps([table, x, sorted(axes.items())]).encode()).hexdigest()[:12]


def _canonical(value: object) -> str:
    """One text for one value: a column of whole numbers becomes one of floats when nulls join it."""
    return exact(float(value)) if isinstance(value, Real) and not isinstance(value, bool) else str(value)


def _settings(axes: Mapping[str, object]) -> dict[str, str | int | float | bool]:
    """Values as plain Python, whole numbers as such."""
    plain: dict[str, str | int | float | bool] = {}
    for key, value in axes.items():
        if is_null(value):
            continue
        if isinstance(value, Real) and not isinstance(value, bool):
            number = float(value)
            plain[key] = int(number) if number.is_integer() else number
        else:
            plain[key] = bool(value) if isinstance(value, bool | np.bool_) else str(value)
    return plain


def _points(rows: pd.DataFrame, x: str) -> pd.DataFrame:
    columns = {}
    for metric in (c for c in METRICS if c in rows):
        over = band(rows, metric, x)
        if over.seeds:
            for quantile, values in zip(QUANTILES, (over.median, over.low, over.high), strict=True):
                columns[f"{metric}/{quantile}"] = pd.Series(values, over.x)
    for count, status in (("runs", "ok"), ("diverged", "diverged")):
        columns[count] = (rows["status"] == status).groupby(rows[x]).sum()
    return pd.DataFrame(columns).sort_index().rename_axis(x)
