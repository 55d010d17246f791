"""From rows to curves: which axes vary, and medians with bands over seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

PANEL_AXES = ("model", "data", "n_train", "label_noise", "label_noise_over", "targets", "standardize", "loss", "dtype")
"""Axes (with the options of model and data) whose values are drawn in figures of their own."""

LINE_AXES = (
    "optimizer",
    "lr",
    "lr_unit",
    "batch_size",
    "steps",
    "init",
    "init_scale",
    "normalization",
    "stop_loss",
    "solver",
)
"""Axes (with the options of optimizer and normalization) whose values are lines of one figure."""

FOLLOWERS = ("lr", "lr_unit", "batch_size", "steps", "init", "init_scale", "stop_loss")
"""Axes that an optimizer brings with it: they vary only if they do so within one optimizer."""

CHOSEN = {"solver": ["optimizer", "width"], "dtype": ["optimizer", "width", "solver"]}
"""Axes that dd may settle by itself at each width: they vary only if they do so where these others agree."""

GROUPS = ("model", "data", "init", "normalization", "optimizer")
"""Axes whose options, ``<group>_<option>``, vary only if they do so within one value of the group."""


@dataclass(frozen=True)
class Band:
    """A quantity against width.

    Attributes:
        width: [points], ascending.
        median: median over seeds.
        low: 10 % quantile.
        high: 90 % quantile.
        seeds: most runs behind one point.
    """

    width: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: int


def band(rows: pd.DataFrame, column: str) -> Band:
    """Median and 10-90 % quantiles of a column at each width; failed and diverged runs are left out.

    Means are not used: near the threshold they do not exist.
    """
    good = rows[(rows["status"] == "ok") & rows[column].notna()]
    grouped = good.groupby("width")[column]
    widths = np.array(sorted(good["width"].unique()))
    quantiles = grouped.quantile([0.1, 0.5, 0.9]).unstack() if len(widths) else None
    if quantiles is None:
        empty = np.array([])
        return Band(empty, empty, empty, empty, 0)
    values = quantiles.loc[widths]
    return Band(
        widths,
        values[0.5].to_numpy(),
        values[0.1].to_numpy(),
        values[0.9].to_numpy(),
        int(grouped.size().max()),
    )


def varying_axes(rows: pd.DataFrame, core: tuple[str, ...], prefixes: tuple[str, ...]) -> list[str]:
    """Axes of a kind that take more than one value (nulls count as a value)."""
    skip = {"data_seed", "data_source", "data_sha256"}
    names = [c for c in core if c in rows]
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
