"""Conditioning of trained features along the width, at the start and at the end, beside the test loss."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.conditions import trained_features
from analysis.curves import band, split, thresholds
from analysis.labels import QUANTITIES, legend_of, over_seeds, x_title
from analysis.panels import draw_band, label_bottom, x_limits
from analysis.style import (
    GREY,
    MARKERS,
    below_handles,
    colours,
    log_ticks,
    mark_below,
    mark_thresholds,
    set_limits,
    subplots,
)

PANELS = (
    ("test_loss", None),
    ("feature_condition", "feature_condition_init"),
    ("ntk_condition", "ntk_condition_init"),
    ("hessian_lambda_max", None),
)
"""Columns at the end of training, each with that of the start."""


def has_conditioning(rows: pd.DataFrame) -> bool:
    """Whether trained features were measured in full: kernel and Hessian of frozen ones say what their features say."""
    full = rows[(rows["measure"] == "full") & trained_features(rows)]
    return bool(full[["ntk_condition", "hessian_lambda_max"]].notna().any(axis=None))


def draw_conditioning(rows: pd.DataFrame, title: str, line_axes: list[str], x: str = "width") -> Figure:
    """Draw test loss, κ of the features and of the tangent kernel, and the Hessian's largest eigenvalue along x.

    Args:
        rows: rows that differ in x, seeds and ``line_axes`` only.
        title: what is fixed.
        line_axes: axes whose combinations are lines: solid at the end of training, dashed at its start.
        x: column that the curves run over.
    """
    groups = [(v, members) for v, members in split(rows, line_axes) if (members["status"] == "ok").any()]
    tones = colours([values for values, _ in groups])
    panels = [p for p in PANELS if rows[p[0]].notna().any()]
    figure, grid = subplots((len(panels) + 1) // 2, 2, figsize=(7.0, 5.6), sharex=True)
    axes = list(grid.flat)
    low, high = x_limits(rows[x])
    seeds, started = 0, False
    for ax, (column, start) in zip(axes, panels, strict=False):
        seen = []
        bands = [band(members, column, x) for _, members in groups]
        for i, ((_, members), data) in enumerate(zip(groups, bands, strict=True)):
            draw_band(ax, data, tones[i], MARKERS[i % len(MARKERS)])
            seen += [data.low, data.high]
            seeds = max(seeds, data.seeds)
            if start is not None and members[start].notna().any():
                before = band(members, start, x)
                ax.plot(before.x, before.median, color=tones[i], ls="--", lw=1, zorder=2)
                seen.append(before.median)
                started = True
        ax.set(xscale="log", yscale="log", ylabel=QUANTITIES[column], xlim=(low, high))
        set_limits(ax, seen)
        for data, tone in zip(bands, tones, strict=True):
            mark_below(ax, data.x, data.median, tone)
        mark_thresholds(ax, thresholds(rows, x), named=ax is axes[0])
        log_ticks(ax.yaxis, *ax.get_ylim())
        log_ticks(ax.xaxis, low, high)
    label_bottom(axes, len(panels), x_title(rows, x))
    handles = [
        Line2D([], [], color=tones[i], marker=MARKERS[i % len(MARKERS)], label=legend_of(values))
        for i, (values, _) in enumerate(groups)
    ]
    if started:
        handles.append(Line2D([], [], color=GREY, ls="--", lw=1, label="at the start"))
    handles += below_handles(figure)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(3, len(handles)))
    figure.suptitle(f"{title}\n{over_seeds(seeds)}", fontsize=8)
    return figure
