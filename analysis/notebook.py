"""What a notebook asks of rows and tables: ``dd.plot``, ``dd.peaks``, ``dd.curves``, ``dd.verdict`` and ``dd.tidy``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pandas as pd
from matplotlib import style
from matplotlib.figure import Figure

from analysis import peaks as judged
from analysis.bundle import draw_bundle
from analysis.claim import verdicts
from analysis.conditions import conditions
from analysis.curves import PANEL_AXES, SEEDS, axis_columns, varying_axes
from analysis.labels import title_of
from analysis.layout import layout_of
from analysis.panels import draw
from analysis.setups import MAX_LINES
from analysis.style import SHEET
from analysis.tables import comparable, curve_rows, load_runs

OUTCOMES = (
    "status", "train_loss", "test_loss", "train_error", "test_error", "feature_condition", "seconds", "run_id",
)  # fmt: skip
"""Columns that :func:`tidy` shows after the axes."""


def plot(rows: pd.DataFrame) -> Figure:
    """Losses, error and condition number of one set-up, medians and bands over seeds: the figure of ``make figures``.

    Args:
        rows: of ``dd.sweep`` or ``dd.load``.

    Raises:
        ValueError: no run has come to an end, or the rows are of several set-ups; the message names the columns.
    """
    rows = comparable(rows.copy())
    if not (rows["status"] == "ok").any():
        raise ValueError("no row has status ok: there is nothing to draw")
    layout = layout_of(rows)
    several = [axis for axis in varying_axes(rows, PANEL_AXES, ("model_", "data_")) if axis != layout.x]
    if several:
        column = several[0]
        value = rows[column].iloc[0]
        raise ValueError(
            f"the rows differ in {', '.join(several)}; plot one set-up at a time, as rows[rows.{column} == {value!r}]"
        )
    if "ipykernel" in sys.modules:
        import_module("matplotlib_inline.backend_inline")  # tells Jupyter how to show a figure that is no pyplot's
    with style.context(SHEET):
        lines = rows[layout.line_axes].drop_duplicates() if layout.line_axes else rows.head(1)
        if len(lines) > MAX_LINES:
            return draw_bundle(rows, title_of(rows, layout.x), layout.line_axes, layout.x)
        return draw(rows, title_of(rows, layout.x), layout.line_axes or ["optimizer"], layout.x)


def peaks(rows: pd.DataFrame, x: str = "width", metric: str | Sequence[str] = "test_loss") -> pd.DataFrame:
    """The peak of every curve of some rows, with its test and intervals; see ``analysis.peaks.table``."""
    return judged.table(comparable(rows.copy()), x, metric)


def curves(name: str = "default", results_dir: str | Path = "results") -> pd.DataFrame:
    """Logged steps of a table's runs, a row for each run and step, with the runs' axes."""
    return curve_rows(Path(results_dir), name)


def verdict(names: str | Sequence[str], results_dir: str | Path = "results", metric: str = "test_loss") -> pd.DataFrame:
    """What some tables say about the claim, a row a problem; docs/verdict.md defines the statistics.

    Args:
        names: of the tables.
        results_dir: folder of all tables.
        metric: what peaks, ``test_loss`` or ``test_error``.

    Returns:
        ``problem``, ``conditions`` (how many), ``text`` (the verdict in words), and the statistics; no row where no
        problem has enough conditions.
    """
    tables = [names] if isinstance(names, str) else names
    found = verdicts(conditions({name: load_runs(Path(results_dir), name) for name in tables}, metric))
    return pd.DataFrame(
        [
            {"problem": one.family, "conditions": len(one.conditions), "text": one.text}
            | dict(zip(one.statistics["name"], one.statistics["value"], strict=True))
            for one in found
        ],
        columns=None if found else ["problem", "conditions", "text"],
    )


def tidy(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns that tell runs apart, then the outcomes; what is the same in all rows is left out.

    Args:
        rows: of ``dd.sweep`` or ``dd.load``.
    """
    axes = [name for name in ("optimizer", "width", *axis_columns(rows), *SEEDS) if name in rows]
    varying = [name for name in dict.fromkeys(axes) if rows[name].nunique(dropna=False) > 1]
    outcomes = [name for name in OUTCOMES if name in rows and rows[name].notna().any()]
    return rows[[*varying, *outcomes]].sort_values(varying, ignore_index=True)
