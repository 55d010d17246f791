"""All curves of a large crossing in one picture, coloured by the train loss at the threshold."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.curves import FLOOR, thresholds
from analysis.labels import QUANTITIES, at_most, plain, x_title
from analysis.style import (
    GREY,
    SCREEN,
    SEQUENTIAL,
    Look,
    below_handles,
    log_ticks,
    mark_below,
    mark_thresholds,
    set_limits,
    subplots,
)


@dataclass(frozen=True)
class Bundle:
    """Median curves on one grid.

    Attributes:
        x: [points], ascending.
        values: [curves, points], median over seeds, NaN where no run is finished.
        train_loss: [curves], median train loss at the threshold, interpolated in log-log; NaN where the threshold is
            outside the grid.
    """

    x: np.ndarray
    values: np.ndarray
    train_loss: np.ndarray


def bundle(rows: pd.DataFrame, column: str, curve_axes: list[str], x: str = "width") -> Bundle:
    """Median curves of a column, one for each combination of ``curve_axes``; diverged and failed runs are left out."""
    good = rows[(rows["status"] == "ok") & (rows[x] > 0)]
    grouped = good.groupby([*curve_axes, x], dropna=False)[list(dict.fromkeys([column, "train_loss"]))].median()
    values, losses = (grouped[c].unstack(x).sort_index(axis=1) for c in (column, "train_loss"))
    grid = values.columns.to_numpy(dtype=float)
    found = thresholds(rows, x)
    at = float(np.median(found)) if found else float("nan")
    return Bundle(grid, values.to_numpy(), np.array([_at(at, grid, curve) for curve in losses.to_numpy()]))


def _at(at: float, x: np.ndarray, values: np.ndarray) -> float:
    known = np.isfinite(values)
    if not known.any() or not x[known][0] <= at <= x[known][-1]:
        return float("nan")
    return float(np.exp(np.interp(np.log(at), np.log(x[known]), np.log(np.maximum(values[known], FLOOR)))))


COLUMNS = ("test_error", "test_loss")
"""Panels of a bundle, unless others are asked for."""


def draw_bundle(rows: pd.DataFrame, title: str, curve_axes: list[str], x: str = "width", look: Look = SCREEN) -> Figure:
    """Draw test error and test loss of every curve, coloured by the train loss at the threshold.

    Args:
        rows: rows that differ in x, seeds and ``curve_axes`` only.
        title: what is fixed.
        curve_axes: axes whose combinations are curves.
        x: column that the curves run over.
        look: size, panels and title.

    Raises:
        ValueError: the rows have none of the panels.
    """
    columns = [c for c in look.panels or COLUMNS if c in rows and rows[c].notna().any()]
    if not columns:
        raise ValueError(f"none of the panels {', '.join(look.panels or COLUMNS)} has a value")
    bundles = [bundle(rows, c, curve_axes, x) for c in columns]
    beside = min(look.columns, len(columns))
    figure, axes = subplots(-(-len(columns) // beside), beside, figsize=look.size(len(columns), beside))
    for ax in axes.flat[len(columns) :]:
        ax.remove()
    losses = np.concatenate([b.train_loss for b in bundles])
    losses = losses[np.isfinite(losses)]
    norm, extend = None, "neither"
    if len(losses):
        low, high = (max(float(v), FLOOR) for v in np.quantile(losses, [0.02, 0.98]))
        high = max(high, 1.01 * low)
        norm = LogNorm(low, high, clip=True)
        ends = bool((losses < low).any()), bool((losses > high).any())
        extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(ends, "neither")
    lines = None
    for ax, column, data in zip(axes.flat, columns, bundles, strict=False):
        known = np.isfinite(data.train_loss)
        if norm is not None:
            # the lowest train losses last: they are the peaks, and must not be hidden
            order = np.flatnonzero(known)[np.argsort(-data.train_loss[known])]
            lines = _lines(data, order, cmap=SEQUENTIAL, norm=norm)
            lines.set_array(data.train_loss[order])
            ax.add_collection(lines)
        ax.add_collection(_lines(data, np.flatnonzero(~known), colors=GREY))
        span = (data.x[-1] / data.x[0]) ** 0.04 if len(data.x) > 1 else 2.0
        low, high = data.x[0] / span, data.x[-1] * span
        ax.set(xscale="log", yscale="log", xlabel=x_title(rows, x), ylabel=QUANTITIES[column], xlim=(low, high))
        set_limits(ax, [data.values])
        mark_below(ax, np.tile(data.x, len(data.values)), data.values.ravel(), GREY)
        mark_thresholds(ax, thresholds(rows, x), named=True)
        log_ticks(ax.xaxis, low, high)
        log_ticks(ax.yaxis, *ax.get_ylim())
    if lines is not None:
        bar = figure.colorbar(lines, ax=list(axes.flat[: len(columns)]), aspect=30, pad=0.02, extend=extend)
        bar.set_label("train loss at the threshold")
        bar.ax.yaxis.set_major_formatter(FuncFormatter(at_most(FLOOR) if low <= FLOOR else plain))
        bar.ax.minorticks_off()
    if handles := below_handles(figure):
        figure.legend(handles=handles, loc="outside lower center")
    if look.titled:
        words = textwrap.wrap(title, int(16 * look.width))
        figure.suptitle("\n".join([*words, f"medians of {len(bundles[0].values)} curves"]), fontsize=8)
    return figure


def _lines(data: Bundle, curves: np.ndarray, **style: object) -> LineCollection:
    """Segments of some curves, points without a value left out."""
    segments = []
    for values in data.values[curves]:
        known = np.isfinite(values)
        segments.append(np.column_stack([data.x[known], np.maximum(values[known], FLOOR)]))
    return LineCollection(segments, linewidths=0.8, alpha=0.8, **style)  # type: ignore[arg-type]
