"""A crossing of budgets with a few other axes: a column a setting, a line a budget."""

from __future__ import annotations

import textwrap

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.curves import band, split, thresholds
from analysis.labels import QUANTITIES, legend_of, over_seeds, x_title
from analysis.panels import FEW_POINTS, draw_band, mark_diverged, x_limits
from analysis.style import MARKERS, below_handles, colours, log_ticks, mark_below, mark_thresholds, set_limits, subplots

COLUMNS = ("test_error", "test_loss", "train_loss")

TITLE = 26
"""Letters in a line of a panel's title."""


def draw_budgets(rows: pd.DataFrame, title: str, budget: str, settings: list[str], x: str = "width") -> Figure:
    """Draw test error, test loss and train loss, one above the other, for every setting side by side.

    Args:
        rows: rows that differ in x, seeds, budget and ``settings`` only.
        title: what is fixed.
        budget: the axis whose values are lines, ``steps`` or ``epochs``.
        settings: axes whose combinations are columns.
        x: column that the curves run over.
    """
    columns = [c for c in COLUMNS if rows[c].notna().any()]
    groups = [(v, members) for v, members in split(rows, settings) if (members["status"] == "ok").any()]
    budgets = sorted(rows[budget].unique().tolist())
    tones = colours([{budget: b} for b in budgets])
    size = (0.7 + 1.6 * max(len(groups), 2), 0.9 + 1.45 * len(columns))
    figure, grid = subplots(len(columns), len(groups), figsize=size, sharex=True, sharey="row")
    low, high = x_limits(rows[x])
    seeds = 0
    for line, column in zip(grid, columns, strict=True):
        seen, drawn = [], []
        for ax, (_, members) in zip(line, groups, strict=True):
            parts = [({budget: b}, members[members[budget] == b]) for b in budgets]
            for i, (_, part) in enumerate(parts):
                data = band(part, column, x)
                draw_band(ax, data, tones[i], MARKERS[i % len(MARKERS)])
                drawn.append((ax, data, tones[i]))
                seen += [data.low, data.high]
                seeds = max(seeds, data.seeds)
            ax.set(xscale="log", yscale="log", xlim=(low, high))
            mark_diverged(ax, parts, tones, x)
            mark_thresholds(ax, thresholds(members, x), named=ax in grid[0])
            log_ticks(ax.xaxis, low, high, most=5)
        set_limits(line[0], seen)
        for ax, data, tone in drawn:
            mark_below(ax, data.x, data.median, tone)
        log_ticks(line[0].yaxis, *line[0].get_ylim(), most=6)
        line[0].set_ylabel(QUANTITIES[column])
    for top, bottom, (values, _) in zip(grid[0], grid[-1], groups, strict=True):
        words = textwrap.fill(legend_of(values), TITLE)
        top.set_title(words, fontsize=7, pad=12 if thresholds(rows, x) else 4)
        bottom.set_xlabel(x_title(rows, x))
    few = rows[x].nunique() <= FEW_POINTS
    handles = [
        Line2D([], [], color=tones[i], marker=MARKERS[i % len(MARKERS)] if few else None, label=legend_of({budget: b}))
        for i, b in enumerate(budgets)
    ]
    handles += below_handles(figure)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6 if len(groups) > 2 else 3))
    figure.suptitle(f"{title}\n{over_seeds(seeds)}", fontsize=8)
    return figure
