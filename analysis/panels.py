"""Four panels of a set-up: test error and loss, train loss and condition number along x, a line a condition."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.curves import FLOOR, Band, band, split, thresholds
from analysis.labels import QUANTITIES, legend_of, over_seeds, x_title
from analysis.overlay import Prediction, predictions
from analysis.style import (
    GREY,
    LIMIT,
    MARKERS,
    SCREEN,
    THEORY,
    Look,
    below_handles,
    colours,
    is_marked,
    log_ticks,
    mark_below,
    mark_thresholds,
    set_limits,
    subplots,
)
from analysis.theory import reference

PANELS = (
    ("test_error", "min_norm_test_error"),
    ("test_loss", "min_norm_test_loss"),
    ("train_loss", "min_norm_train_loss"),
    ("feature_condition", None),
)
"""Columns, each with that of its min-norm limit."""

LOGGED_PANELS = (("test_error", None), ("test_loss", None), ("train_loss", None), ("train_error", None))
"""Columns of logged steps: condition numbers and limits are known for the end alone."""

THEORY_STYLE = "-."
"""How theory is drawn."""

FEW_POINTS = 25
"""Lines of more points go without markers."""

Group = tuple[dict[str, object], pd.DataFrame]


def panels_of(rows: pd.DataFrame, x: str, look: Look = SCREEN) -> list[tuple[str, str | None]]:
    """Columns that have a panel, each with that of its min-norm limit: those that the rows have, or the look's."""
    known = dict(LOGGED_PANELS if x == "epoch" else PANELS)
    asked = known if look.panels is None else look.panels
    return [(column, known.get(column)) for column in asked if column in rows and rows[column].notna().any()]


def draw(rows: pd.DataFrame, title: str, line_axes: list[str], x: str = "width", look: Look = SCREEN) -> Figure:
    """Draw the panels of one set-up.

    Args:
        rows: rows that differ in x, seeds and ``line_axes`` only.
        title: what is fixed.
        line_axes: axes whose combinations are lines.
        x: column that the curves run over; where it is ``epoch`` the rows are logged steps.
        look: size, panels and title.

    Raises:
        ValueError: the rows have none of the panels.
    """
    groups = [(values, members) for values, members in split(rows, line_axes) if (members["status"] == "ok").any()]
    tones = colours([values for values, _ in groups])
    logged = x == "epoch"
    panels = panels_of(rows, x, look)
    if not panels:
        raise ValueError(f"none of the panels {', '.join(look.panels or ())} has a value")
    has_limit = not logged and rows["min_norm_test_loss"].notna().any() and set(rows["optimizer"]) != {"min_norm"}
    columns = min(look.columns, len(panels))
    figure, grid = subplots(-(-len(panels) // columns), columns, figsize=look.size(len(panels), columns), sharex=True)
    axes = list(grid.flat)
    exact = reference(rows) if x == "width" else None
    own, of_limit = ([None] * len(groups), None) if logged else predictions(groups, rows, x)
    low, high = x_limits(rows[x])
    seeds = 0
    for ax, (column, limit_column) in zip(axes, panels, strict=False):
        bands = [band(members, column, x) for _, members in groups]
        seeds = max([seeds, *(b.seeds for b in bands)])
        same = column == "feature_condition" and len(bands) > 1 and _same(bands)
        theories = _theories(column, own, of_limit, tones, same=same)
        drawn = [prediction for prediction, _ in theories]
        if same:
            draw_band(ax, max(bands, key=lambda b: len(b.x)), "black", "o", pale=bool(drawn))
            ax.set_title("the same for every line", loc="right", color=GREY, pad=2, fontsize=7)
        else:
            for i, data in enumerate(bands):
                draw_band(ax, data, tones[i], MARKERS[i % len(MARKERS)], pale=own[i] in drawn)
        seen = [a for b in bands for a in (b.low, b.high)]
        if limit_column is not None and has_limit:
            seen += _draw_limit(ax, groups, tones, limit_column, column, x)
        if exact is not None and column == "test_loss":
            ax.plot(exact.width, exact.value, color="black", ls=exact.style, lw=1, zorder=4)
            seen.append(exact.value)
        for prediction, tone in theories:
            # it may leave the axes, whose limits are those of the measurements
            _draw_theory(ax, prediction.x, prediction.values[column], tone)
        ax.set(xscale="log", yscale="log", ylabel=QUANTITIES[column], xlim=(low, high))
        set_limits(ax, seen)
        for i, data in enumerate(bands):
            mark_below(ax, data.x, data.median, tones[i])
        mark_diverged(ax, groups, tones, x)
        mark_thresholds(ax, thresholds(rows, x), named=ax is axes[0])
        log_ticks(ax.yaxis, *ax.get_ylim())
        log_ticks(ax.xaxis, low, high)
    label_bottom(axes, len(panels), x_title(rows, x), columns)
    few = rows[x].nunique() <= FEW_POINTS
    handles = [
        Line2D([], [], color=tones[i], marker=MARKERS[i % len(MARKERS)] if few else None, label=legend_of(values))
        for i, (values, _) in enumerate(groups)
    ]
    if has_limit:
        handles.append(Line2D([], [], color="black", ls="--", lw=1, label="min-norm limit"))
    if exact is not None:
        handles.append(Line2D([], [], color="black", ls=exact.style, lw=1, label=exact.label))
    if has_theory(figure):
        name = "theory" if of_limit is None else "theory of the min-norm limit"
        handles.append(Line2D([], [], color="black", ls=THEORY_STYLE, lw=1, label=name))
    if (rows["status"] == "diverged").any():
        handles.append(Line2D([], [], color=GREY, ls="", marker="x", label="diverged"))
    handles += below_handles(figure)
    beside = look.legend_columns([str(h.get_label()) for h in handles])
    figure.set_size_inches(*look.size(len(panels), columns, -(-len(handles) // beside)))
    figure.legend(handles=handles, loc="outside lower center", ncols=beside)
    if look.titled:
        figure.suptitle("\n".join([*textwrap.wrap(title, int(16 * look.width)), over_seeds(seeds)]), fontsize=8)
    return figure


def x_limits(values: pd.Series) -> tuple[float, float]:
    """Limits of a logarithmic x axis; a single value gets an octave on both sides."""
    known = values[values > 0]
    low, high = float(known.min()), float(known.max())
    span = (high / low) ** 0.04 if high > low else 2.0
    return low / span, high * span


def label_bottom(axes: Sequence[Axes], used: int, label: str, columns: int = 2) -> None:
    """Remove the panels of a grid that are not used, and name the x axis below the lowest ones."""
    for ax in axes[used:]:
        ax.remove()
    for ax in axes[max(0, used - columns) : used]:
        ax.set_xlabel(label)
        ax.tick_params(labelbottom=True)


def draw_band(ax: Axes, data: Band, colour: Any, marker: str, *, pale: bool = False) -> None:
    """A line of medians, with markers where there are few points, and its band where there are several seeds.

    A pale line keeps its markers as they are: theory that agrees with it is drawn on top, and is seen.
    """
    style = {"color": to_rgba(colour, 0.35) if pale else colour, "mfc": colour, "mew": 0, "zorder": 3}
    few = len(data.x) <= FEW_POINTS
    ax.plot(data.x, np.maximum(data.median, FLOOR), marker=marker if few else None, **style)
    if data.seeds > 1:
        low, high = np.maximum(data.low, FLOOR), np.maximum(data.high, FLOOR)
        ax.fill_between(data.x, low, high, color=colour, alpha=0.18, lw=0)


def _same(bands: list[Band]) -> bool:
    """Whether all lines of a panel are one curve, as far as they have points in common."""
    first = max(bands, key=lambda b: len(b.x))
    for other in bands:
        _, mine, theirs = np.intersect1d(first.x, other.x, return_indices=True)
        if not len(mine) or not np.allclose(first.median[mine], other.median[theirs], rtol=1e-6):
            return False
    return True


def _draw_limit(
    ax: Axes, groups: Sequence[Group], tones: list[Any], column: str, panel: str, x: str
) -> list[np.ndarray]:
    """Dashed min-norm limit: one for all lines, unless they see different features."""
    of_features = [key for key in groups[0][0] if key.startswith(("normalization", "validation"))]
    if of_features:
        limits = [(members, tones[i]) for i, (_, members) in enumerate(groups)]
    else:
        limits = [(pd.concat([members[[x, "seed", "data_seed", column]] for _, members in groups]), "black")]
    seen = []
    for members, colour in limits:
        distinct = members.drop_duplicates([x, "seed", "data_seed"]).assign(status="ok")
        data = band(distinct, column, x)
        values = np.where(data.median > FLOOR, data.median, np.nan)
        ax.plot(data.x, values, color=colour, ls="--", lw=1, zorder=2, gid=LIMIT)
        seen.append(data.median)
    # the training loss of the limit falls to rounding; it must not stretch the axis
    return [] if panel == "train_loss" else seen


def has_theory(figure: Figure) -> bool:
    """Whether a figure that :func:`draw` gave shows random-matrix theory."""
    return is_marked(figure.axes, THEORY)


def _draw_theory(ax: Axes, x: np.ndarray, values: np.ndarray, tone: Any) -> None:
    """A dash-dotted line, with points where a value has no neighbour to be joined to."""
    known = np.pad(np.isfinite(values), 1)
    alone = np.flatnonzero(known[1:-1] & ~known[:-2] & ~known[2:])
    ax.plot(x, values, color=tone, ls=THEORY_STYLE, lw=1, marker=".", markevery=alone, zorder=4, gid=THEORY)


def _theories(
    column: str, own: Sequence[Prediction | None], of_limit: Prediction | None, tones: list[Any], *, same: bool
) -> list[tuple[Prediction, Any]]:
    """Theory of one panel with its colours: that of each line, black where it is of the limit or the same for all."""
    found = [(p, tones[i]) for i, p in enumerate(own) if p is not None]
    if same:
        finest = max((p for p, _ in found), key=lambda p: int(np.isfinite(p.values[column]).sum()), default=None)
        found = [] if finest is None else [(finest, "black")]
    if of_limit is not None and column != "train_loss":  # the limit's is rounding
        found = [(of_limit, "black")]
    return [(p, tone) for p, tone in found if column in p.values and np.isfinite(p.values[column]).any()]


def mark_diverged(ax: Axes, groups: Sequence[Group], tones: list[Any], x: str) -> None:
    """Crosses at the upper edge where runs of a line diverged."""
    for i, (_, members) in enumerate(groups):
        at = members.loc[members["status"] == "diverged", x].unique()
        if len(at):
            ax.plot(at, np.full(len(at), 0.98), "x", color=tones[i], transform=ax.get_xaxis_transform(), ms=4)
