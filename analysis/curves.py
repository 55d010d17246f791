"""From rows to curves: what the curves run over, which axes vary, and medians with bands over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

X_AXES = ("width", "n_train", "optimizer_penalty")
"""What curves may run over, most usual first."""

PANEL_AXES = (
    "model", "data", "classes", "n_train", "label_noise", "label_noise_over", "targets", "standardize", "loss", "dtype",
)  # fmt: skip
"""Axes (with the options of model and data) whose values are drawn in figures of their own."""

LINE_AXES = (
    "optimizer",
    "lr",
    "lr_unit",
    "schedule",
    "batch_size",
    "steps",
    "init",
    "init_scale",
    "normalization",
    "stop_loss",
    "validation",
    "solver",
)
"""Axes (with the options of their components) whose values are lines of one figure."""

FOLLOWERS = ("lr", "lr_unit", "schedule", "batch_size", "steps", "epochs", "init", "init_scale", "stop_loss")
"""Axes that an optimizer brings with it: they vary only if they do so within one optimizer."""

CHOSEN = ("data_content", "model_source", "model_readout", "model_bias", "solver", "dtype")
"""Axes that dd may settle by itself for each run, each after those before it: they vary only if they do so where all
other axes agree."""

GROUPS = ("model", "data", "init", "normalization", "optimizer", "schedule")
"""Axes whose options, ``<group>_<option>``, vary only if they do so within one value of the group."""

SEEDS = ("seed", "data_seed")
"""Axes that a curve is taken over: one pair of values is one seed."""

NO_OPTIONS = ("data_seed", "data_source", "data_sha256")
"""Columns that bear a group's name and are not options of it."""

FLOOR = 1e-10
"""Losses below this are rounding, not measurement."""


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
    good = ((rows["status"] == "ok") & rows[column].notna() & rows[x].notna()).to_numpy()
    if not good.any():
        empty = np.array([])
        return Band(empty, empty, empty, empty, 0)
    places, index, counts = np.unique(rows[x].to_numpy()[good], return_inverse=True, return_counts=True)
    values = rows[column].to_numpy(dtype=float)[good]
    ordered = values[np.lexsort((values, index))]
    first = np.cumsum(counts) - counts

    def quantile(share: float) -> np.ndarray:
        place = share * (counts - 1)
        below, above = (ordered[first + end(place).astype(int)] for end in (np.floor, np.ceil))
        with np.errstate(invalid="ignore"):  # infinite condition numbers
            return np.where(place % 1 > 0, below + (above - below) * (place % 1), below)

    return Band(places, quantile(0.5), quantile(0.1), quantile(0.9), int(counts.max()))


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
    parts = ["model", "width", *(c for c in ("model_bias", "outputs", "validation") if c in rows)]
    for _, line in rows.dropna(subset=["interpolation_width"]).groupby(parts, dropna=False):
        width = float(line["width"].iloc[0])
        needed = line.groupby("n_train")["interpolation_width"].first().sort_index()
        if needed.iloc[0] <= width <= needed.iloc[-1]:
            found.add(float(np.interp(width, needed.to_numpy(), needed.index.to_numpy())))
    return sorted(found)


def varying_axes(rows: pd.DataFrame, core: tuple[str, ...], prefixes: tuple[str, ...]) -> list[str]:
    """Axes of a kind that take more than one value (nulls count as a value); one that repeats the width is none."""
    names = [c for c in core if c in rows]
    names += [c for c in rows if c.startswith(prefixes) and c not in NO_OPTIONS and c not in names]
    found = []
    for name in names:
        if rows[name].nunique(dropna=False) < 2:
            continue
        owner = "optimizer" if name in FOLLOWERS else next((g for g in GROUPS if name.startswith(g + "_")), None)
        if name in CHOSEN:
            varies = _varies_by_itself(rows, name)
        else:
            varies = owner not in rows or rows.groupby(owner, dropna=False)[name].nunique(dropna=False).max() > 1
        if varies and not _repeats_width(rows, name):
            found.append(name)
    return found


def _repeats_width(rows: pd.DataFrame, name: str) -> bool:
    """Whether an axis is the width by another name, as ``data.dim=${width}`` makes it."""
    return name != "width" and "width" in rows and bool((rows[name] == rows["width"]).all())


def axis_columns(rows: pd.DataFrame) -> list[str]:
    """Columns that are axes of a run or their options, without the seeds."""
    core = ["width", "n_test", *PANEL_AXES, *LINE_AXES]
    options = tuple(f"{group}_" for group in GROUPS)
    return [c for c in core if c in rows] + [
        c for c in rows if c.startswith(options) and c not in NO_OPTIONS and c not in core
    ]


def _varies_by_itself(rows: pd.DataFrame, name: str) -> bool:
    """Whether a chosen axis takes several values where all other axes, and chosen ones before it, agree."""
    later = CHOSEN[CHOSEN.index(name) :]
    others = [c for c in (*axis_columns(rows), *SEEDS, "test_seed") if c in rows and c not in later]
    distinct = rows[[*others, name]].drop_duplicates()
    return bool(distinct.duplicated(others).any())


def split(rows: pd.DataFrame, axes: list[str]) -> Iterator[tuple[dict[str, object], pd.DataFrame]]:
    """Rows of each combination of values of the axes, with that combination."""
    if not axes:
        yield {}, rows
        return
    for values, members in rows.groupby(axes, dropna=False, sort=True):
        yield dict(zip(axes, values, strict=True)), members


def exact(value: float) -> str:
    """Shortest text of a number that reads back as the number itself.

    >>> exact(1e-3), exact(0.1 + 0.2)
    ('0.001', '0.30000000000000004')
    """
    short = f"{value:g}"
    return short if float(short) == value else str(value)


def label_of(values: dict[str, object], number: Callable[[float], str] = exact) -> str:
    """Name of a combination of axis values: optimizers and their like by name, others as axis and value, no nulls.

    >>> label_of({"optimizer": "adam", "lr": 0.01, "label_noise": 0.1, "batch_size": float("nan")})
    'adam, lr 0.01, label noise 0.1'
    """
    parts = []
    for key, value in values.items():
        if value is None or value != value:
            continue
        shown = number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        parts.append(shown if key in ("optimizer", "normalization", "init") else f"{key.replace('_', ' ')} {shown}")
    return ", ".join(parts) or "all runs"
