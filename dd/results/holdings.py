"""Which part holds which runs: the index of a table, kept in memory until a part changes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dd.arrow import are, single
from dd.results import parts
from dd.results.schema import runs_schema


@dataclass(frozen=True)
class Holding:
    """What one part of ``runs`` holds.

    Attributes:
        part: its file.
        ids: ``run_id`` of its rows, in their order.
        good: those that have not failed.
    """

    part: Path
    ids: pa.Array
    good: pa.Array


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
        schema = pa.schema([runs_schema().field(name) for name in ("run_id", "status")])
        table = parts.read_as(part, schema)
        ids = single(table["run_id"])
        known = signature, Holding(part, ids, ids.filter(pc.invert(single(are(table["status"], "failed")))))
        _KNOWN[key] = known
    return known[1]
