"""Test loss with and without early stopping: at the end, at the best step of the curve, and by samples held out."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.curves import band, split, thresholds
from analysis.labels import QUANTITIES, legend_of, over_seeds, plain, x_title
from analysis.panels import draw_band, mark_diverged, x_limits
from analysis.style import MARKERS, below_handles, colours, log_ticks, mark_below, mark_thresholds, set_limits, subplots

MOST = 4
"""More settings than this are not drawn side by side."""

CAPTION = (
    "A line for the end of training, for the best step of the same runs (where the curve of test losses is lowest), "
    "and for the step where the loss on samples held out of the training set was lowest."
)


def has_stopping(rows: pd.DataFrame, line_axes: Sequence[str]) -> bool:
    """Whether runs with and without samples held out are compared, in a few settings."""
    settings = [a for a in line_axes if a != "validation"]
    few = not settings or len(rows[settings].drop_duplicates()) <= MOST
    return few and "validation" in line_axes and bool((rows["validation"] == 0).any())


def draw_stopping(rows: pd.DataFrame, title: str, line_axes: Sequence[str], x: str = "width") -> Figure:
    """Draw the test loss along x, a line a way of stopping and a panel a setting.

    Args:
        rows: rows that differ in x, seeds and ``line_axes`` only.
        title: what is fixed.
        line_axes: axes whose combinations are settings, and ``validation``.
        x: column that the curves run over.
    """
    settings = [(v, part) for v, part in split(rows, [a for a in line_axes if a != "validation"])]
    shares = sorted(share for share in rows["validation"].unique() if share > 0)
    ways = [(0.0, "test_loss", "at the end"), (0.0, "best_test_loss", "at the best step of the curve")]
    ways += [(share, "test_loss", f"by validation, {plain(share)} held out") for share in shares]
    tones = colours([{"way": name} for _, _, name in ways])
    size = (max(3.2 * len(settings), 4.2), 3.4)
    figure, grid = subplots(1, len(settings), figsize=size, sharey=True)
    low, high = x_limits(rows[x])
    seen, drawn, seeds = [], [], 0
    for ax, (values, part) in zip(grid[0], settings, strict=True):
        for i, (share, column, _) in enumerate(ways):
            members = part[part["validation"] == share]
            data = band(members, column, x)
            draw_band(ax, data, tones[i], MARKERS[i])
            drawn.append((ax, data, tones[i]))
            mark_diverged(ax, [({}, members)], [tones[i]], x)
            seen += [data.low, data.high]
            seeds = max(seeds, data.seeds)
        ax.set(xscale="log", yscale="log", xlabel=x_title(rows, x), xlim=(low, high))
        ax.set_title(legend_of(values) if len(settings) > 1 else "", fontsize=7, pad=12)
        mark_thresholds(ax, thresholds(part[part["validation"] == 0], x), named=True)
        log_ticks(ax.xaxis, low, high)
    set_limits(grid[0, 0], seen)
    for ax, data, tone in drawn:
        mark_below(ax, data.x, data.median, tone)
    log_ticks(grid[0, 0].yaxis, *grid[0, 0].get_ylim())
    grid[0, 0].set_ylabel(QUANTITIES["test_loss"])
    handles = [Line2D([], [], color=tones[i], marker=MARKERS[i], label=name) for i, (_, _, name) in enumerate(ways)]
    handles += below_handles(figure)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(2 * len(settings), len(handles)))
    figure.suptitle(f"{title}\n{over_seeds(seeds)}", fontsize=8)
    return figure
