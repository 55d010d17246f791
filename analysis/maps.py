"""Heat maps: epoch against width from the logged steps, ridge penalty against width from the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from analysis.curves import FLOOR, thresholds
from analysis.labels import AXIS_TITLES, QUANTITIES, at_most, plain, x_title
from analysis.style import SEQUENTIAL, log_ticks, mark_thresholds, subplots

LEVEL = 1e-3
"""Train loss whose contour is drawn unless another is asked for."""


@dataclass(frozen=True)
class Map:
    """A quantity over two axes.

    Attributes:
        title: what the other axes are.
        x: [columns], ascending.
        y: [lines], ascending.
        values: [lines, columns], median over seeds, NaN where no run is finished.
        train_loss: [lines, columns], median over seeds.
        thresholds: x at which the model can just fit the training set.
        x_title: what x is.
    """

    title: str
    x: np.ndarray
    y: np.ndarray
    values: np.ndarray
    train_loss: np.ndarray
    thresholds: tuple[float, ...]
    x_title: str = "width"


def map_of(rows: pd.DataFrame, column: str, y: str, title: str = "", x: str = "width") -> Map:
    """Medians of a column over two axes of finished runs; values of x or y that are not positive are left out.

    Args:
        rows: runs, or for y = ``epoch`` the longest run's logged steps (:func:`longest`).
        column: the quantity.
        y: axis that goes upwards.
        title: what the other axes are.
        x: axis that goes to the right.
    """
    good = rows[(rows["status"] == "ok") & (rows[x] > 0) & (rows[y] > 0)]
    grouped = good.groupby([y, x])[list(dict.fromkeys([column, "train_loss"]))].median()
    values, losses = (grouped[c].unstack(x).sort_index().sort_index(axis=1) for c in (column, "train_loss"))
    return Map(
        title,
        values.columns.to_numpy(dtype=float),
        values.index.to_numpy(dtype=float),
        values.to_numpy(),
        losses.to_numpy(),
        tuple(thresholds(rows, x)),
        x_title(rows, x),
    )


def longest(long: pd.DataFrame, curve_axes: list[str], x: str = "width") -> pd.DataFrame:
    """Logged steps of the longest budget of each curve point: shorter runs of the same set-up are its beginnings.

    Under a schedule that ends with the budget they are not; logged steps are those of the longest budget's schedule.

    Args:
        long: logged steps with their runs' axes.
        curve_axes: axes whose combinations are curves, the budget not among them.
        x: column that the curves run over.
    """
    if long.empty:
        return long
    budget = long.groupby([*curve_axes, x], dropna=False)["steps"].transform("max")
    return long[long["steps"] == budget]


def edges(centres: np.ndarray) -> np.ndarray:
    """Borders of cells around ascending positive centres, halfway on a logarithmic axis: [n] to [n + 1].

    >>> edges(np.array([1.0, 100.0])).round(6).tolist()
    [0.1, 10.0, 1000.0]
    """
    logs = np.log(centres)
    if len(logs) == 1:
        return np.exp(np.array([logs[0] - 0.5, logs[0] + 0.5]))
    middles = (logs[1:] + logs[:-1]) / 2
    ends = np.array([logs[0] - (middles[0] - logs[0]), logs[-1] + (logs[-1] - middles[-1])])
    return np.exp(np.concatenate([ends[:1], middles, ends[1:]]))


def draw_maps(maps: Sequence[Map], title: str, column: str, y: str, level: float = LEVEL) -> Figure:
    """Draw maps side by side with one logarithmic colour scale.

    Args:
        maps: at least one.
        title: what all have in common.
        column: the quantity in colour.
        y: axis that goes upwards.
        level: train loss whose contour is drawn, in white.
    """
    columns = min(2, len(maps))
    lines = (len(maps) + 1) // 2
    size = (4.8 if columns == 1 else 7.0, 0.6 + 2.5 * lines)
    figure, grid = subplots(lines, columns, figsize=size, sharex=True, sharey=True)
    seen = np.concatenate([m.values[np.isfinite(m.values)] for m in maps])
    low, high = max(seen.min(), FLOOR), max(seen.max(), FLOOR)
    norm = LogNorm(low, max(high, 1.01 * low))
    axes = list(grid.flat)
    for ax, data in zip(axes, maps, strict=False):
        shown = np.ma.masked_invalid(np.maximum(data.values, FLOOR))
        ax.pcolormesh(edges(data.x), edges(data.y), shown, norm=norm, cmap=SEQUENTIAL, rasterized=True)
        ax.set(xscale="log", yscale="log")
        ax.set_title(data.title, fontsize=7, pad=12 if data.thresholds else 4)
        ax.grid(visible=False)
        _contour(ax, data, level)
        mark_thresholds(ax, data.thresholds, named=True)
    for ax in axes[: len(maps)]:
        log_ticks(ax.xaxis, *ax.get_xlim())
        log_ticks(ax.yaxis, *ax.get_ylim())
    for ax in axes[len(maps) :]:
        ax.remove()
    for i, ax in enumerate(axes[: len(maps)]):
        if i % columns == 0:
            ax.set_ylabel(AXIS_TITLES[y])
        if i + columns >= len(maps):
            ax.set_xlabel(maps[i].x_title)
            ax.tick_params(labelbottom=True)
    clipped = bool((seen < FLOOR).any())
    bar = figure.colorbar(
        ScalarMappable(norm, SEQUENTIAL),
        ax=axes[: len(maps)],
        aspect=30,
        pad=0.02,
        extend="min" if clipped else "neither",
    )
    bar.set_label(QUANTITIES[column])
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 1e3 else (1.0, 2.0, 5.0)))
    bar.ax.yaxis.set_major_formatter(FuncFormatter(at_most(FLOOR) if clipped else plain))
    bar.ax.minorticks_off()
    figure.suptitle(title, fontsize=8)
    return figure


def _contour(ax: Axes, data: Map, level: float) -> None:
    """Contour of the train loss, interpolated in logarithms; nothing where the level is not crossed."""
    losses = np.ma.masked_invalid(np.log(np.maximum(data.train_loss, FLOOR)))
    if min(losses.shape) < 2 or losses.count() == 0 or not losses.min() < np.log(level) < losses.max():
        return
    lines = ax.contour(
        data.x, data.y, losses, levels=[np.log(level)], colors="white", linewidths=1.0, linestyles="solid"
    )
    ax.clabel(lines, fmt={np.log(level): f"train loss {plain(level)}"}, fontsize=7)
