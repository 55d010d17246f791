"""Figure of the train loss beside its rivals: what each tells alone, and what it tells given the other."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.labels import OWN_SETTINGS, sentence
from analysis.style import GREY, OKABE_ITO, subplots

KINDS = (
    ("auc", "alone", "o", OKABE_ITO[0]),
    ("auc_given_loss", "among equal train losses", "s", OKABE_ITO[1]),
    ("loss_auc_given", "the train loss, among equal values of it", "D", OKABE_ITO[2]),
)
"""Columns of the table, what they say, marker and colour."""

CAPTION = (
    "How well each quantity at the threshold tells conditions with a peak from those without: area under the receiver "
    "operating characteristic (AUC; one half is chance), with 95 % intervals over clusters of conditions. Circles: the "
    "quantity alone. Squares: among conditions of equal train loss. Diamonds: the train loss, among conditions where "
    "the quantity is equal. A quantity that decides has its square above one half and its diamond at one half. "
    f"{OWN_SETTINGS}"
)


def draw_rivals(tables: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """Draw one panel a problem, one line a quantity.

    Args:
        tables: name of the problem, and :class:`analysis.rivals.Rivalry`'s table; none of them empty.
    """
    names = list(dict.fromkeys(q for _, table in tables for q in table["quantity"]))
    columns = min(len(tables), 2)
    lines = -(-len(tables) // columns)
    size = (1.8 + 2.7 * columns, 0.8 + lines * (0.7 + 0.26 * len(names)))
    figure, grid = subplots(lines, columns, figsize=size, sharex=True, sharey=True)
    for ax in grid.flat[len(tables) :]:
        ax.set_axis_off()
    for ax, (title, table) in zip(grid.flat, tables, strict=False):
        ax.set_title("\n".join(textwrap.wrap(sentence(title), 44)), fontsize=7)
        _draw(ax, table.set_index("quantity"), names)
    for ax in grid[-1]:
        ax.set_xlabel("AUC for a peak")
    handles = [Line2D([], [], color=c, marker=m, ls="none", label=label) for _, label, m, c in KINDS]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(3, 1 + columns), fontsize=7)
    return figure


def _draw(ax: Axes, table: pd.DataFrame, names: Sequence[str]) -> None:
    ax.axvline(0.5, color=GREY, lw=0.8, ls=":")
    for i, (column, _, marker, colour) in enumerate(KINDS):
        for place, name in enumerate(names):
            if name not in table.index or not np.isfinite(table.loc[name, column]):
                continue
            y = place + 0.22 * (i - 1)
            low, high = table.loc[name, f"{column}_low"], table.loc[name, f"{column}_high"]
            ax.plot([low, high], [y, y], color=colour, lw=1)
            ax.plot([table.loc[name, column]], [y], color=colour, marker=marker, ms=3.5, ls="none")
    ax.set(yticks=range(len(names)), yticklabels=names, xlim=(-0.02, 1.02), ylim=(len(names) - 0.5, -0.5))
    ax.tick_params(axis="y", length=0, labelsize=7)
