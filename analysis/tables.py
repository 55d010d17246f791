"""Reading the tables of ``results/``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.curves import SEEDS, axis_columns

NEUTRAL: dict[str, tuple[str, Callable[[pd.DataFrame], pd.Series]]] = {
    "targets": ("given", lambda rows: rows["run_id"].notna()),
    "model_weights": ("gaussian", lambda rows: rows["model"] == "random_features"),
}
"""Axes that older parts do not have: what they stand for there, and for which rows."""


class UnreadableTable(Exception):
    """A part of a table is not a readable parquet file."""


def table_names(results_dir: Path) -> list[str]:
    """Names of the tables that have at least one part, sorted."""
    return sorted(p.parent.name for p in results_dir.glob("*/runs") if any(_parts(p)))


def _parts(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*.parquet") if not p.name.startswith("_"))


def load_runs(results_dir: Path, name: str) -> pd.DataFrame:
    """Rows of one table, whatever version of dd wrote its parts.

    Raises:
        UnreadableTable: naming the file.
    """
    rows = _load(results_dir / name / "runs", None)
    for column, (neutral, applies) in NEUTRAL.items():
        if column in rows:
            rows[column] = rows[column].where(rows[column].notna() | ~applies(rows), neutral)
    return rows


def load_curves(results_dir: Path, name: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Logged steps of one table's runs; empty where none were logged.

    Raises:
        UnreadableTable: naming the file.
    """
    return _load(results_dir / name / "curves", columns)


def curve_rows(results_dir: Path, name: str) -> pd.DataFrame:
    """Logged steps of one table with the axes of their runs: a row for each run and step; empty where none were logged.

    Losses and errors are those at the step; ``status`` and the axes are the run's. The long table takes ``step`` or
    ``epoch`` as its x where ``runs`` has ``width``.

    Raises:
        UnreadableTable: naming the file.
    """
    runs = load_runs(results_dir, name).drop_duplicates("run_id", keep="last")
    curves = load_curves(results_dir, name)
    if curves.empty:
        return curves
    axes = [c for c in axis_columns(runs) if runs[c].notna().any()]
    kept = ["run_id", "status", *SEEDS, *axes, "epochs", "interpolation_width"]
    return curves.merge(runs[kept], on="run_id", validate="many_to_one")


def environments(results_dir: Path, name: str) -> list[dict[str, Any]]:
    """What one table's parts were computed with, each environment once: packages, Python, platform, processor."""
    found = []
    for part in _parts(results_dir / name / "runs"):
        footer = (pq.read_metadata(part).metadata or {}).get(b"dd")
        environment = json.loads(footer).get("environment") if footer else None
        if environment and environment not in found:
            found.append(environment)
    return found


def _load(folder: Path, columns: Sequence[str] | None) -> pd.DataFrame:
    """All parts of a folder, with the columns of any of them."""
    tables = [_read(part, columns) for part in _parts(folder)]
    if not tables:
        return pd.DataFrame()
    merged = pa.concat_tables([t.replace_schema_metadata() for t in tables], promote_options="permissive")
    frame: pd.DataFrame = merged.to_pandas()
    return frame


def load_predictions(results_dir: Path, name: str) -> pd.DataFrame:
    """Test outputs of one table: ``run_id``, ``targets_id`` and ``predicted``, a flat array a run; may be empty.

    Outputs count where the row of their run is there, in the part of the same name.

    Raises:
        UnreadableTable: naming the file.
    """
    frames = [pd.DataFrame(columns=["run_id", "targets_id", "outputs"])]
    for part in _parts(results_dir / name / "predictions"):
        rows = results_dir / name / "runs" / part.name
        if rows.is_file():
            frame = _read(part).to_pandas()
            frames.append(frame[frame["run_id"].isin(_read(rows, ["run_id"])["run_id"].to_pylist())])
    merged = pd.concat(frames[1:] or frames, ignore_index=True).drop_duplicates("run_id")
    return merged.rename(columns={"outputs": "predicted"})  # runs has a column of the name outputs, their number


def load_targets(results_dir: Path, name: str) -> dict[str, np.ndarray]:
    """Clean test targets of one table by their ``targets_id``, flat as the outputs are.

    Raises:
        UnreadableTable: naming the file.
    """
    tables = [_read(part).to_pandas() for part in _parts(results_dir / name / "targets")]
    return {row.targets_id: row.targets for table in tables for row in table.itertuples()}


def _read(part: Path, columns: Sequence[str] | None = None) -> pa.Table:
    try:
        return pq.ParquetFile(part).read(columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise UnreadableTable(f"{part} is not a readable parquet file; move it away") from error
