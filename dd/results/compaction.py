"""Few files: small parts of a table become one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from dd.results import parts
from dd.results.commit import Change, change
from dd.results.footers import footer_of, merged, with_footer
from dd.results.holdings import Holding, holdings
from dd.results.predictions import PREDICTIONS_SCHEMA
from dd.results.schema import CURVES_SCHEMA, runs_schema, unite

SMALL, MANY = 256, 64
"""Parts with fewer rows than the first are merged at the end of a sweep once there are more of them than the second."""

LARGE, LARGE_BYTES = 16384, 64_000_000
"""Rows, and bytes with their points, up to which parts are merged on demand."""

MEDIUM = 4096
"""Rows up to which parts are merged at the end of a sweep: what is computed again rewrites a part, so that a table in
work has more of them."""

POINTS = (("predictions", PREDICTIONS_SCHEMA), ("curves", CURVES_SCHEMA))


def small_parts(folder: Path) -> list[Holding]:
    """Parts of a table with few rows.

    Raises:
        StoreError: a part is damaged.
        FileNotFoundError: a part has gone since it was listed.
    """
    return [holding for holding in holdings(folder / "runs") if len(holding.ids) < SMALL]


def compact(folder: Path, below: int = LARGE // 2, most: int = LARGE) -> None:
    """Merge the parts of a table that have fewer rows than ``below``, one group after the other.

    Args:
        folder: the table.
        below: parts with so many rows stay.
        most: rows of a merged part.

    Raises:
        StoreError: something cannot be written, or a part is damaged.
    """
    while True:
        with change(folder) as made:
            group = _group(folder, below, most)
            if len(group) < 2:
                return
            _merge(made, folder, group)


def _group(folder: Path, below: int, most: int) -> list[Holding]:
    """Parts that are merged next, by name."""
    group: list[Holding] = []
    rows = size = 0
    for holding in holdings(folder / "runs"):
        files = [folder / kind / holding.part.name for kind in ("runs", "curves", "predictions")]
        own = sum(file.stat().st_size for file in files if file.exists())
        if len(holding.ids) >= below or own >= LARGE_BYTES // 2:
            continue
        if group and (rows + len(holding.ids) > most or size + own > LARGE_BYTES):
            if len(group) > 1:
                break
            group, rows, size = [], 0, 0
        group.append(holding)
        rows, size = rows + len(holding.ids), size + own
    return group


def _merge(made: Change, folder: Path, group: Sequence[Holding]) -> None:
    """Stage one part of several, of rows and of points."""
    ids = sorted(run_id for holding in group for run_id in holding.ids.to_pylist())
    name = f"merged_{hashlib.sha256(' '.join(ids).encode()).hexdigest()[:12]}.parquet"
    names = [holding.part.name for holding in group]
    for kind, schema in POINTS:
        files = [folder / kind / own for own in names]
        _write(made, folder / kind / name, [parts.read(file) for file in files if file.exists()], schema)
    rows = [parts.read(holding.part) for holding in group]
    footer = merged([footer_of(table) for table in rows])
    made.write(folder / "runs" / name, parts.encode(with_footer(unite(rows, runs_schema()), footer)))
    for kind in ("runs", "curves", "predictions"):
        for own in names:
            if own != name and (folder / kind / own).exists():
                made.remove(folder / kind / own)


def _write(made: Change, part: Path, tables: Sequence[pa.Table], schema: pa.Schema) -> None:
    if tables:
        made.write(part, parts.encode(unite(tables, schema)))
