"""Test error and loss against effective parameters instead of width (Curth, Jeffares & van der Schaar 2023)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.curves import FLOOR, split
from analysis.labels import QUANTITIES, legend_of
from analysis.style import MARKERS, below_handles, colours, log_ticks, mark_below, set_limits, subplots

EFFECTIVE = "effective_parameters_test"


def has_effective(rows: pd.DataFrame) -> bool:
    """Whether all runs are closed forms that know their effective parameters, at several widths."""
    known = EFFECTIVE in rows and rows.loc[rows["status"] == "ok", EFFECTIVE].notna().all()
    return bool(known) and rows["steps"].isna().all() and rows["width"].nunique() > 1


def draw_effective(rows: pd.DataFrame, title: str, line_axes: list[str]) -> Figure:
    """Draw medians over seeds against the median of effective parameters on test inputs, a point a width.

    Points are joined in the order of the widths: solid up to the threshold, dashed beyond.

    Args:
        rows: rows that differ in width, seeds and ``line_axes`` only.
        title: what is fixed.
        line_axes: axes whose combinations are lines.
    """
    panels = [c for c in ("test_error", "test_loss") if rows[c].notna().any()]
    figure, axes = subplots(1, len(panels), figsize=(3.5 * len(panels), 3.2))
    groups = [(v, m[m["status"] == "ok"]) for v, m in split(rows, line_axes) if (m["status"] == "ok").any()]
    tones = colours([values for values, _ in groups])
    for ax, column in zip(axes[0], panels, strict=True):
        seen, drawn = [], []
        for i, (values, members) in enumerate(groups):
            found = members.groupby("width")[[EFFECTIVE, column, "interpolation_width"]].median()
            x, measured = found[EFFECTIVE].to_numpy(), found[column].to_numpy()
            y = np.maximum(measured, FLOOR)
            drawn.append((x, measured, tones[i]))
            before = int((found.index <= found["interpolation_width"]).sum())
            style = {"color": tones[i], "marker": MARKERS[i % len(MARKERS)], "mew": 0}
            ax.plot(x[:before], y[:before], label=legend_of(values), **style)
            ax.plot(x[max(before - 1, 0) :], y[max(before - 1, 0) :], ls="--", **style)
            seen.append(y)
        ax.set(xscale="log", yscale="log", xlabel="effective parameters on test inputs", ylabel=QUANTITIES[column])
        set_limits(ax, seen)
        for x, measured, tone in drawn:
            mark_below(ax, x, measured, tone)
        log_ticks(ax.xaxis, *ax.get_xlim())
        log_ticks(ax.yaxis, *ax.get_ylim())
    handles = [*axes[0, 0].get_legend_handles_labels()[0], *below_handles(figure)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
    figure.suptitle(f"{title}\nsolid up to the threshold, dashed beyond", fontsize=8)
    return figure
