"""Which part holds which runs: the index of a table, kept in memory until a part changes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from dd.arrow import are, booleans, is_one_of, mask, single
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


_Known = dict[str, tuple[parts.Signature, Holding]]

_KNOWN: dict[tuple[str, str], _Known] = {}
"""By the folder, with its path as it was given: the names of its parts."""


def holdings(folder: Path) -> list[Holding]:
    """What each part of a folder of ``runs`` holds; only those that have changed since are read.

    Raises:
        StoreError: a part is damaged.
        FileNotFoundError: a part has gone since it was listed.
    """
    names = parts.names_of(folder)
    known = _KNOWN.setdefault((os.path.abspath(folder), str(folder)), {})
    for gone in set(known) - set(names):
        known.pop(gone, None)
    beginning = os.path.join(folder, "")  # a path object a part would take most of the time
    return [_holding(known, folder, name, parts.signature(beginning + name)) for name in names]


def _holding(known: _Known, folder: Path, name: str, signature: parts.Signature) -> Holding:
    held = known.get(name)
    if held is None or held[0] != signature:
        table = parts.read_as(folder / name, _schema("run_id", "status", "measure"))
        ids, failed = single(table["run_id"]), booleans(are(table["status"], "failed"))
        # rows of a table older than the column are as basic
        level = np.array([MEASURES.index(found or "basic") for found in table["measure"].to_pylist()], dtype=int)
        measured = {measure: ids.filter(mask(~failed & (level >= i))) for i, measure in enumerate(MEASURES)}
        held = signature, Holding(folder / name, ids, ids.filter(mask(~failed)), measured)
        known[name] = held
    return held[1]


def holders(held: Sequence[Holding], ids: pa.Array) -> list[Holding]:
    """Those that hold one of some runs."""
    # one look at all of them: a new pack is nowhere, and a table may have thousands of parts
    there = booleans(is_one_of(pa.chunked_array([one.ids for one in held], pa.string()), ids))
    if not there.any():
        return []
    ends = np.cumsum([len(one.ids) for one in held])
    return [held[i] for i in np.unique(np.searchsorted(ends, np.flatnonzero(there), side="right"))]


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
