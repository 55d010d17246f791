"""How the rows of a table become figures: what is x, what a figure, what a line."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.curves import LINE_AXES, PANEL_AXES, split, varying_axes, x_axis

CROWD = 24
"""More lines of one set-up than this, or as many set-ups, are drawn as a bundle."""

PRIMARY_AXES = ("model", "data", "n_train", "label_noise", "loss")
"""Axes that divide the figures of a crowded table; all others are curves of its bundles."""


@dataclass(frozen=True)
class Layout:
    """How the rows of a table become figures.

    Attributes:
        x: column that the curves run over.
        panel_axes: axes whose values have figures of their own.
        line_axes: axes whose combinations are lines.
        crowded: whether there are too many lines for a legend.
    """

    x: str
    panel_axes: list[str]
    line_axes: list[str]
    crowded: bool


def layout_of(rows: pd.DataFrame) -> Layout:
    """Decide what is x, what a figure, what a line."""
    x = x_axis(rows)
    panel_axes = [a for a in varying_axes(rows, PANEL_AXES, ("model_", "data_")) if a != x]
    line_axes = _line_axes(rows, x)
    parts = [members for _, members in split(rows, panel_axes)]
    lines = max(len(p[line_axes].drop_duplicates()) if line_axes else 1 for p in parts)
    if lines > CROWD or len(parts) > CROWD:
        primary = [a for a in panel_axes if a in PRIMARY_AXES]
        return Layout(x, primary, [a for a in panel_axes if a not in primary] + line_axes, True)
    if rows["optimizer"].nunique() == 1 and not line_axes:
        line_axes = ["optimizer"]
    return Layout(x, panel_axes, line_axes, False)


def _line_axes(rows: pd.DataFrame, x: str) -> list[str]:
    """Axes whose combinations are lines; a budget that is named in epochs is counted in them."""
    within = rows.groupby("optimizer", dropna=False)
    steps, epochs = (within[c].nunique(dropna=False).max() for c in ("steps", "epochs"))
    core = tuple("epochs" if a == "steps" and epochs < steps else a for a in LINE_AXES)
    found = [a for a in varying_axes(rows, core, ("optimizer_", "schedule_", "normalization_", "init_")) if a != x]
    if x == "n_train" or "validation" in found:
        # a full batch grows along the curve, and is smaller where samples are held out
        same = [a for a in ("optimizer", "n_train", "validation") if a in rows]
        sizes = rows.groupby(same, dropna=False)["batch_size"].nunique(dropna=False)
        found = [a for a in found if a != "batch_size" or sizes.max() > 1]
    return found
