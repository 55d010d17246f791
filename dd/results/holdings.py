"""Which part holds which runs: the index of a table, kept in memory until a part changes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from dd.arrow import are, booleans, is_one_of, mask, single, strings
from dd.results import parts
from dd.results.schema import runs_schema
from dd.runs.axis import Value
from dd.runs.settings import MEASURES


@dataclass(frozen=True)
class Holding:
    """What one part of ``runs`` holds.

    Attributes:
        part: its file.
        ids: ``run_id`` of its rows, in their order.
        good: those that have not failed.
        measured: those of them that have been measured so, or with more, by each of :data:`dd.runs.settings.MEASURES`.
        distinct: the different rows of some columns, where somebody has asked for them.
    """

    part: Path
    ids: pa.Array
    good: pa.Array
    measured: dict[str, pa.Array]
    distinct: dict[tuple[str, ...], frozenset[tuple[Value, ...]]] = field(default_factory=dict)


_KNOWN: dict[str, tuple[parts.Signature, Holding]] = {}


def holdings(folder: Path) -> list[Holding]:
    """What each part of a folder of ``runs`` holds; only those that have changed since are read.

    Raises:
        StoreError: a part is damaged.
        FileNotFoundError: a part has gone since it was listed.
    """
    found = {str(Path(os.path.abspath(part))): part for part in parts.parts_of(folder)}
    here = os.path.join(os.path.abspath(folder), "")
    for key in [k for k in list(_KNOWN) if k.startswith(here) and k not in found]:
        _KNOWN.pop(key, None)
    return [_holding(key, part) for key, part in found.items()]


def _holding(key: str, part: Path) -> Holding:
    signature = parts.signature(part)
    known = _KNOWN.get(key)
    if known is None or known[0] != signature:
        table = parts.read_as(part, _schema("run_id", "status", "measure"))
        ids, failed = single(table["run_id"]), booleans(are(table["status"], "failed"))
        unknown = booleans(single(table["measure"]).is_null())  # of a table older than the column: as basic
        measured = {}
        for i, measure in enumerate(MEASURES):
            enough = booleans(is_one_of(table["measure"], strings(MEASURES[i:])))
            measured[measure] = ids.filter(mask(~failed & (enough | unknown if measure != "full" else enough)))
        holding = Holding(part, ids, ids.filter(mask(~failed)), measured)
        known = _KNOWN[key] = signature, holding
    return known[1]


def distinct(folder: Path, columns: tuple[str, ...]) -> set[tuple[Value, ...]]:
    """The different rows of some columns; as :func:`holdings`, only parts that have changed since are read."""
    found: set[tuple[Value, ...]] = set()
    for holding in holdings(folder):
        if columns not in holding.distinct:
            table = parts.read_as(holding.part, _schema(*columns))
            # the different rows of a part are few; Arrow's own ways to find them import pandas
            holding.distinct[columns] = frozenset(zip(*(column.to_pylist() for column in table.columns), strict=True))
        found |= holding.distinct[columns]
    return found


def _schema(*columns: str) -> pa.Schema:
    return pa.schema([runs_schema().field(name) for name in columns])
