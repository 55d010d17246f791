"""From rows to curves: what the curves run over, which axes vary, and medians with bands over seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

X_AXES = ("width", "n_train", "optimizer_penalty")
"""What curves may run over, most usual first."""

PANEL_AXES = ("model", "data", "n_train", "label_noise", "label_noise_over", "standardize", "loss", "dtype")
"""Axes (with the options of model and data) whose values are drawn in figures of their own."""

LINE_AXES = (
    "optimizer",
    "lr",
    "lr_unit",
    "batch_size",
    "steps",
    "epochs",
    "init",
    "init_scale",
    "normalization",
    "stop_loss",
    "solver",
)
"""Axes (with the options of optimizer and normalization) whose values are lines of one figure."""

FOLLOWERS = ("lr", "lr_unit", "batch_size", "steps", "epochs", "init", "init_scale", "stop_loss")
"""Axes that an optimizer brings with it: they vary only if they do so within one optimizer."""

CHOSEN = {
    "solver": ["optimizer", "width", "n_train"],
    "dtype": ["optimizer", "width", "n_train", "solver"],
    "batch_size": ["optimizer", "n_train"],
}
"""Axes that dd may settle by itself at each size: they vary only if they do so where these others agree."""

GROUPS = ("model", "data", "init", "normalization", "optimizer")
"""Axes whose options, ``<group>_<option>``, vary only if they do so within one value of the group."""


@dataclass(frozen=True)
class Band:
    """A quantity along a curve.

    Attributes:
        x: [points], ascending.
        median: median over seeds.
        low: 10 % quantile.
        high: 90 % quantile.
        seeds: most runs behind one point.
    """

    x: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: int


def x_axis(rows: pd.DataFrame) -> str:
    """The first of ``X_AXES`` that takes more than one value; ``width`` where none does."""
    return next((x for x in X_AXES if x in rows and rows[x].nunique() > 1), "width")


def band(rows: pd.DataFrame, column: str, x: str = "width") -> Band:
    """Median and 10-90 % quantiles of a column at each x; failed and diverged runs are left out.

    Means are not used: near the threshold they do not exist.
    """
    good = rows[(rows["status"] == "ok") & rows[column].notna() & rows[x].notna()]
    if good.empty:
        empty = np.array([])
        return Band(empty, empty, empty, empty, 0)
    grouped = good.groupby(x)[column]
    values = grouped.quantile([0.1, 0.5, 0.9]).unstack().sort_index()
    return Band(
        values.index.to_numpy(),
        values[0.5].to_numpy(),
        values[0.1].to_numpy(),
        values[0.9].to_numpy(),
        int(grouped.size().max()),
    )


def thresholds(rows: pd.DataFrame, x: str = "width") -> list[float]:
    """Where along x the model can just fit its training set, ascending.

    Against width these are the values of ``interpolation_width``. Against training samples it is their number at which
    ``interpolation_width`` is the width, interpolated linearly. A penalty has none.
    """
    if x == "width":
        return sorted(float(v) for v in rows["interpolation_width"].dropna().unique())
    if x != "n_train":
        return []
    found = set()
    parts = ["model", "width", *(c for c in ("model_bias", "outputs") if c in rows)]
    for _, line in rows.dropna(subset=["interpolation_width"]).groupby(parts, dropna=False):
        width = float(line["width"].iloc[0])
        needed = line.groupby("n_train")["interpolation_width"].first().sort_index()
        if needed.iloc[0] <= width <= needed.iloc[-1]:
            found.add(float(np.interp(width, needed.to_numpy(), needed.index.to_numpy())))
    return sorted(found)


def axes_of(rows: pd.DataFrame) -> list[str]:
    """All axes of a table: x, seeds, budget, components and their options."""
    skip = {"data_source", "data_sha256", "init_scale"}
    names = ["width", "seed", *PANEL_AXES, *LINE_AXES]
    options = [c for c in rows if c.startswith(tuple(g + "_" for g in GROUPS)) and c not in skip]
    return [c for c in dict.fromkeys([*names, *options]) if c in rows]


def _budget(rows: pd.DataFrame) -> str:
    """Unit of the budget that takes fewer values within an optimizer: the one that was held fixed or swept."""
    if "epochs" not in rows or "steps" not in rows:
        return "steps"
    counts = {c: rows.groupby("optimizer", dropna=False)[c].nunique(dropna=False).max() for c in ("steps", "epochs")}
    return "epochs" if counts["epochs"] < counts["steps"] else "steps"


def varying_axes(rows: pd.DataFrame, core: tuple[str, ...], prefixes: tuple[str, ...], x: str = "width") -> list[str]:
    """Axes of a kind, x not among them, that take more than one value (nulls count as a value).

    Of the two units of the budget the one that takes fewer values counts.
    """
    skip = {"data_seed", "data_source", "data_sha256", x, "steps" if _budget(rows) == "epochs" else "epochs"}
    names = [c for c in core if c in rows and c not in skip]
    names += [c for c in rows if c.startswith(prefixes) and c not in skip and c not in names]
    found = []
    for name in names:
        owner = "optimizer" if name in FOLLOWERS else next((g for g in GROUPS if name.startswith(g + "_")), None)
        owners = [c for c in CHOSEN.get(name, [owner]) if c in rows]
        if not owners:
            varies = rows[name].nunique(dropna=False) > 1
        else:
            varies = rows.groupby(owners, dropna=False)[name].nunique(dropna=False).max() > 1
        if varies:
            found.append(name)
    return found


def split(rows: pd.DataFrame, axes: list[str]) -> Iterator[tuple[dict[str, object], pd.DataFrame]]:
    """Rows of each combination of values of the axes, with that combination."""
    if not axes:
        yield {}, rows
        return
    for values, members in rows.groupby(axes, dropna=False, sort=True):
        yield dict(zip(axes, values, strict=True)), members
