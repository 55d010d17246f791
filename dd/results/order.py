"""What is out of order in a table: doubled rows, doubled points, and points of runs that have no row.

A table that this version has written is in order at any time, but for a change that a killed process left half done.
Earlier versions appended rows and took the old ones out later, which a kill prevented.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dd.arrow import booleans, integers, is_one_of, mask, single
from dd.results import parts
from dd.results.commit import Change
from dd.results.holdings import Holding, holdings
from dd.results.schema import runs_schema

ORDERING = ("run_id", "status", "finished_at")
"""Columns that tell which of two rows of a run counts."""


@dataclass(frozen=True)
class Fix:
    """One part that is out of order.

    Attributes:
        part: its file.
        table: what it should hold; None if it should go.
        fault: in words, for example ``2 doubled rows``.
    """

    part: Path
    table: pa.Table | None
    fault: str

    def stage(self, made: Change) -> None:
        """Stage what mends the part."""
        if self.table is None:
            made.remove(self.part)
        else:
            made.write(self.part, parts.encode(self.table))


def winners(table: pa.Table) -> NDArray[np.int64]:
    """Positions of the rows that count, ascending: of each run the newest that has not failed, else the newest."""
    if pc.count_distinct(table["run_id"], mode="all").as_py() == table.num_rows:
        return np.arange(table.num_rows)
    best: dict[str, tuple[bool, int, int]] = {}
    moments = integers(table["finished_at"]).tolist()
    rows = zip(table["run_id"].to_pylist(), table["status"].to_pylist(), moments, strict=True)
    for i, (run_id, status, at) in enumerate(rows):
        rank = (status != "failed", at, i)
        if run_id not in best or rank > best[run_id]:
            best[run_id] = rank
    return np.array(sorted(rank[2] for rank in best.values()), np.int64)


def fixes(folder: Path) -> list[Fix]:
    """What has to change in a table for every run to have one row, and every point to be there once and with its row.

    Raises:
        StoreError: a part is damaged.
        FileNotFoundError: a part has gone since it was listed.
    """
    held = holdings(folder / "runs")
    found, kept = _doubled_rows(held)
    for kind in ("curves", "predictions"):
        for part in parts.parts_of(folder / kind):
            if part.name not in kept:
                found.append(Fix(part, None, "belongs to no rows"))
                continue
            columns = parts.read(part, ["run_id", "step"], whole=False)
            points = _points(columns, kept[part.name])
            if points is not None:
                table = parts.read(part)
                rest = table.filter(mask(points)) if points.any() else None
                found.append(Fix(part, rest, f"{int((~points).sum())} points doubled or without a row"))
    return found


def _doubled_rows(held: Sequence[Holding]) -> tuple[list[Fix], dict[str, pa.Array]]:
    """Parts with superseded rows; and the runs that each part keeps, by its name."""
    kept = {holding.part.name: holding.ids for holding in held}
    ids = pa.chunked_array([holding.ids for holding in held], pa.string())
    if pc.count_distinct(ids, mode="all").as_py() == len(ids):
        return [], kept
    schema = pa.schema([runs_schema().field(name) for name in ORDERING])
    tables = [parts.read_as(holding.part, schema) for holding in held]
    wins = np.zeros(sum(table.num_rows for table in tables), bool)
    wins[winners(pa.concat_tables(tables))] = True
    found, position = [], 0
    for holding, table in zip(held, tables, strict=True):
        own = wins[position : position + table.num_rows]
        position += table.num_rows
        if own.all():
            continue
        fault = f"{int((~own).sum())} doubled rows"
        if own.any():
            kept[holding.part.name] = single(table["run_id"]).filter(mask(own))
            found.append(Fix(holding.part, parts.read(holding.part).filter(mask(own)), fault))
        else:
            del kept[holding.part.name]
            found.append(Fix(holding.part, None, fault))
    return found, kept


def _points(table: pa.Table, kept: pa.Array) -> NDArray[np.bool_] | None:
    """Which points stay; None if all do."""
    encoded: pa.DictionaryArray = single(table["run_id"].cast(pa.string())).dictionary_encode()
    runs = integers(encoded.indices)
    good = booleans(is_one_of(encoded.dictionary, kept))[runs]
    same = runs[1:] == runs[:-1]
    together = int((~same).sum()) + 1 == len(encoded.dictionary)
    if "step" in table.column_names:
        steps = integers(table["step"])
        once = together and bool((~same | (steps[1:] > steps[:-1])).all())
    else:
        steps, once = np.zeros_like(runs), together and not same.any()
    if not once and len(runs):  # the last of each run and step stays
        order = np.lexsort((steps, runs))
        last = np.append((np.diff(runs[order]) != 0) | (np.diff(steps[order]) != 0), True)
        good = good.copy()
        good[order[~last]] = False
    return None if good.all() else good
