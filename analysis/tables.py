"""Reading the tables of ``results/``."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.curves import SEEDS, axis_columns

NEUTRAL: dict[str, tuple[str | float, Callable[[pd.DataFrame], pd.Series]]] = {
    "targets": ("given", lambda rows: rows["run_id"].notna()),
    "validation": (0.0, lambda rows: rows["run_id"].notna()),
    "model_weights": ("gaussian", lambda rows: rows["model"] == "random_features"),
    "schedule": ("constant", lambda rows: rows["run_id"].notna()),
    "schedule_per": ("step", lambda rows: rows["schedule"] == "constant"),
    "schedule_warmup": (0, lambda rows: rows["schedule"] == "constant"),
}
"""Axes that older parts do not have: what they stand for there, and for which rows."""


MARK = b"\x89ddseal\n"
SEAL = struct.Struct(f"<{len(MARK)}sII{len(MARK)}s")
"""What dd writes before a part's footer (docs/columns.md): mark, CRC-32 of all before, CRC-32 of all after, mark."""

POINT, OUTPUTS = ["run_id", "step"], ["run_id", "targets_id", "outputs"]
WINNING = ("run_id", "status", "finished_at")
"""What names a point; columns of ``predictions``; columns of ``runs`` that tell which of two rows of a run counts."""

KINDS = ("runs", "curves", "predictions", "targets")
"""Folders of a table that hold parts."""

TRIES, PAUSE = 7, 0.05
"""How often a table is read that another process changes meanwhile, and seconds before the second time; then double."""

Result = TypeVar("Result")


class UnreadableTable(Exception):
    """A part of a table is not a readable parquet file."""


def table_names(results_dir: Path) -> list[str]:
    """Names of the tables that have at least one part, sorted."""
    return sorted(p.parent.name for p in results_dir.glob("*/runs") if any(_parts(p)))


def _parts(folder: Path) -> list[Path]:
    """Parts by name; what begins with ``_`` or ``.`` is something else (macOS writes ``._x.parquet``)."""
    return sorted(p for p in folder.glob("*.parquet") if not p.name.startswith(("_", ".")))


def _again(look: Callable[[], Result]) -> Result:
    """List and read, once more where a part has gone meanwhile because another process has merged it with others."""
    for attempt in range(TRIES - 1):
        try:
            return look()
        except FileNotFoundError:
            time.sleep(PAUSE * 2**attempt)
    try:
        return look()
    except FileNotFoundError as error:
        raise UnreadableTable(
            f"{error.filename} goes whenever it is read; another program changes the table"
        ) from error


def load_runs(results_dir: Path, name: str) -> pd.DataFrame:
    """Rows of one table, one a run, whatever version of dd wrote its parts; see :func:`comparable`.

    Raises:
        UnreadableTable: naming the file.
    """
    return comparable(_again(lambda: _rows(results_dir / name)))


def comparable(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows as they are compared with each other.

    Options that an older dd did not write have their neutral values. ``n_train`` is the number of training samples that
    was asked for, those held out included: runs that hold out other shares of the same samples are lines of one figure.

    Args:
        rows: as they are in a table; changed in place.
    """
    for column, (neutral, applies) in NEUTRAL.items():
        if column in rows:
            rows[column] = rows[column].where(rows[column].notna() | ~applies(rows), neutral)
    if "n_validation" in rows:
        rows["n_train"] += rows["n_validation"].fillna(0).astype(rows["n_train"].dtype)
    return _in_one_place(rows)


PLACES = ("data_path", "data_labels", "data_target", "data_task")
"""Options of ``data=file``, which only say where the samples are: the content says all about them."""


def _in_one_place(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in which each content of files has one path, the latest: a file that was moved is no other condition."""
    if not {"data_content", *PLACES} <= set(rows):
        return rows
    ours = (rows["data"] == "file") & rows["data_content"].notna()
    if ours.any():
        latest = rows[ours].sort_values("finished_at").drop_duplicates("data_content", keep="last")
        there = latest.set_index("data_content")[list(PLACES)]
        for place in PLACES:
            rows.loc[ours, place] = rows.loc[ours, "data_content"].map(there[place])
    return rows


def copy_table(results_dir: Path, name: str, out: Path) -> dict[str, list[pq.FileMetaData]]:
    """Copy the parts of a table byte for byte, once their checksums have been verified; what ``out`` had before goes.

    Args:
        results_dir: folder of the tables.
        name: the table.
        out: what becomes another folder of a table, with ``runs/`` and the others of ``KINDS`` that have parts.

    Returns:
        The kinds of rows that there are, with the footers of their parts.

    Raises:
        UnreadableTable: naming the file.
    """
    found = _again(lambda: {kind: _copied(results_dir / name / kind, out / kind) for kind in KINDS})
    return {kind: footers for kind, footers in found.items() if footers}


def _copied(folder: Path, out: Path) -> list[pq.FileMetaData]:
    parts = _parts(folder)
    for former in _parts(out):
        former.unlink()
    if parts:
        out.mkdir(parents=True, exist_ok=True)
    footers = []
    for part in parts:
        footers.append(_open(part).metadata)
        shutil.copyfile(part, out / part.name)
    return footers


def load_curves(results_dir: Path, name: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Logged steps of one table's runs; empty where none were logged.

    Raises:
        UnreadableTable: naming the file.
    """
    asked = None if columns is None else [*columns, *(c for c in POINT if c not in columns)]
    points = _again(lambda: _points(results_dir / name, "curves", asked))
    if points.empty:
        return points
    points = points.drop_duplicates(POINT, keep="last", ignore_index=True)
    return points if columns is None else points[list(columns)]


def curve_rows(results_dir: Path, name: str, runs: pd.DataFrame | None = None) -> pd.DataFrame:
    """Logged steps of one table with the axes of their runs: a row for each run and step; empty where none were logged.

    Losses and errors are those at the step; ``status`` and the axes are the run's. The long table takes ``step`` or
    ``epoch`` as its x where ``runs`` has ``width``.

    Args:
        results_dir: folder of the tables.
        name: the table.
        runs: what ``load_runs`` gives, if it is there already.

    Raises:
        UnreadableTable: naming the file.
    """
    runs = load_runs(results_dir, name) if runs is None else runs
    curves = load_curves(results_dir, name)
    if curves.empty:
        return curves
    axes = [c for c in axis_columns(runs) if runs[c].notna().any()]
    kept = ["run_id", "status", *SEEDS, *axes, "epochs", "interpolation_width"]
    return curves.merge(runs[kept], on="run_id", validate="many_to_one")


def environments(results_dir: Path, name: str) -> list[dict[str, Any]]:
    """What one table's parts were computed with, each environment once: packages, Python, platform, processor."""
    return _again(lambda: _environments(results_dir / name / "runs"))


def _environments(folder: Path) -> list[dict[str, Any]]:
    found = []
    for part in _parts(folder):
        footer = json.loads((_open(part).schema_arrow.metadata or {}).get(b"dd", b"{}"))
        for environment in (*footer.get("environments", []), footer.get("environment")):
            if environment and environment not in found:
                found.append(environment)
    return found


def _rows(folder: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """One row a run: one that has not failed, then the newest; with the name of its part as the column ``_part``."""
    tables = {part.name: _read(part, columns) for part in _parts(folder / "runs")}
    if not tables:
        return pd.DataFrame()
    rows = _joined(tables.values())
    names = np.repeat(list(tables), [table.num_rows for table in tables.values()])
    if rows["run_id"].duplicated().any():  # an earlier version of dd, killed while it replaced rows
        moments = rows.get("finished_at", pd.Series(0, rows.index))
        keys = pd.DataFrame({"good": rows["status"] != "failed", "at": moments, "run_id": rows["run_id"]})
        newest = keys.sort_values(["good", "at"], kind="stable").drop_duplicates("run_id", keep="last").index
        kept = np.sort(newest)
        rows, names = rows.loc[kept].reset_index(drop=True), names[kept]
    return rows if columns is None else rows.assign(_part=names)


def _points(folder: Path, kind: str, columns: Sequence[str] | None) -> pd.DataFrame:
    """Points of ``curves`` or ``predictions``: of each run those beside its row, in the part of the same name.

    A part whose rows are nowhere counts for runs without other points.
    """
    listed = {part.name for part in _parts(folder / "runs")}
    rows = _rows(folder, WINNING)
    places = {} if rows.empty else dict(iter(rows.groupby("_part")["run_id"]))
    listed |= places.keys()
    beside, alone = [], []
    for part in _parts(folder / kind):
        table = _read(part, columns)
        if (folder / "runs" / part.name).exists():
            # a part that has come meanwhile is one that others were merged into
            own = places.get(part.name, ()) if part.name in listed or rows.empty else rows["run_id"]
            beside.append(_of(table, own))
        else:
            alone.append(table)
    if alone:
        covered = {i for table in beside for i in pc.unique(table["run_id"]).to_pylist()}
        beside += [_of(table, set(pc.unique(table["run_id"]).to_pylist()) - covered) for table in alone]
    return _joined(beside) if beside else pd.DataFrame()


def _of(table: pa.Table, run_ids: Iterable[str]) -> pa.Table:
    """Points of some runs."""
    wanted = pa.array(list(run_ids), table["run_id"].type)
    return table.filter(pc.is_in(table["run_id"], value_set=wanted))


def _joined(tables: Iterable[pa.Table]) -> pd.DataFrame:
    """Tables one below the other, with the columns of any of them."""
    merged = pa.concat_tables([t.replace_schema_metadata() for t in tables], promote_options="permissive")
    frame: pd.DataFrame = merged.to_pandas()
    return frame


def load_predictions(results_dir: Path, name: str) -> pd.DataFrame:
    """Test outputs of one table: ``run_id``, ``targets_id`` and ``predicted``, a flat array a run; may be empty.

    Outputs count where the row of their run is there, in the part of the same name.

    Raises:
        UnreadableTable: naming the file.
    """
    found = _again(lambda: _points(results_dir / name, "predictions", OUTPUTS))
    merged = pd.DataFrame(columns=OUTPUTS) if found.empty else found.drop_duplicates("run_id", ignore_index=True)
    return merged.rename(columns={"outputs": "predicted"})  # runs has a column of the name outputs, their number


def load_targets(results_dir: Path, name: str) -> dict[str, np.ndarray]:
    """Clean test targets of one table by their ``targets_id``, flat as the outputs are.

    Raises:
        UnreadableTable: naming the file.
    """
    tables = _again(lambda: [_read(part).to_pandas() for part in _parts(results_dir / name / "targets")])
    return {row.targets_id: row.targets for table in tables for row in table.itertuples()}


def _read(part: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Columns of a part, those of them that it has."""
    file = _open(part)
    held = set(file.schema_arrow.names)
    try:
        table = file.read(None if columns is None else [c for c in columns if c in held], use_threads=False)
        if part.parent.name != "targets":  # without the column, or with numbers in it, this is no table of dd's
            place = table.column_names.index("run_id")
            table = table.set_column(place, "run_id", table["run_id"].cast(pa.string()))
    except Exception as error:  # pyarrow answers damage with errors of many classes
        raise _unreadable(part, error) from error
    return table


def _open(part: Path) -> pq.ParquetFile:
    """A part whose bytes are those that were written, as far as it carries checksums."""
    try:
        data = part.read_bytes()
        starts = {data.find(MARK), data.rfind(MARK), data.rfind(MARK) - SEAL.size + len(MARK)}
        if MARK in data and not any(_sealed(data, start) for start in starts):
            raise ValueError("its bytes are not those that were written: the checksum differs")
        return pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ESTALE):  # a network's word for gone
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(part)) from error
        raise _unreadable(part, error) from error


def _sealed(data: bytes, start: int) -> bool:
    if start < 0 or start + SEAL.size > len(data):
        return False
    _, before, after, _ = SEAL.unpack_from(data, start)
    view = memoryview(data)
    return bool(zlib.crc32(view[:start]) == before and zlib.crc32(view[start + SEAL.size :]) == after)


def _unreadable(part: Path, error: Exception) -> UnreadableTable:
    folder = part.parents[1]
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UnreadableTable(
        f"{part} is not a readable parquet file ({reason}); python -m dd.results repair {shlex.quote(folder.name)} "
        f"{shlex.quote(f'results_dir={folder.parent}')} moves it away, and the same sweep computes its runs again"
    )
