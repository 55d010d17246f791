"""One table of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from dd.arrow import integers, is_one_of, numbers, single, strings
from dd.errors import StoreError
from dd.results import parts
from dd.results.commit import change
from dd.results.footers import footer_of
from dd.results.patience import patiently
from dd.results.predictions import PREDICTIONS_SCHEMA
from dd.results.schema import CURVES_SCHEMA, empty, runs_schema, unite
from dd.results.store import Store
from dd.runs.settings import MEASURES

RANKING = ("run_id", "status", "measure", "finished_at")


def merge(sources: Sequence[Store], into: Store) -> int:
    """Copy the rows of some tables with their points into another one.

    Of rows of one run, one that has not failed counts before one that has, one that was measured with more before one
    with less, then that of the table named first; what ``into`` holds already comes before all.

    Returns:
        Rows copied.

    Raises:
        StoreError: a table is not there, cannot be read or cannot be written.
    """
    for source in sources:
        if not source.parts():
            raise StoreError(f"no table {source.runs}")
        if source.folder.resolve() == into.folder.resolve():
            raise StoreError(f"{source.folder} is the table to merge into; name another")
    into.open()
    best: dict[str, tuple[tuple[bool, int, int, int], int, str]] = {}
    for number, store in enumerate([into, *sources]):
        for part, table in _ranked(store):
            rows = zip(*(table[name].to_pylist() for name in RANKING[:3]), integers(table["finished_at"]), strict=True)
            for run_id, status, measure, at in rows:
                rank = (status != "failed", MEASURES.index(measure or "basic"), -number, int(at))
                if run_id not in best or rank > best[run_id][0]:
                    best[run_id] = (rank, number, part.name)
    chosen: dict[tuple[int, str], list[str]] = {}
    for run_id, (_, number, name) in best.items():
        if number:
            chosen.setdefault((number - 1, name), []).append(run_id)
    for (number, name), run_ids in sorted(chosen.items()):
        try:
            _copy(sources[number], name, run_ids, into)
        except FileNotFoundError as error:
            raise StoreError(f"{error.filename} has gone while the tables were merged; start again") from error
    into.tidy()
    return sum(len(run_ids) for run_ids in chosen.values())


def _ranked(store: Store) -> list[tuple[Path, pa.Table]]:
    """What tells which of several rows counts, part by part."""
    schema = pa.schema([runs_schema().field(name) for name in RANKING])
    return patiently(store.folder, lambda: [(part, parts.read_as(part, schema)) for part in store.parts()])


def _copy(source: Store, name: str, run_ids: Sequence[str], into: Store) -> None:
    """Copy some runs of one part."""
    wanted = strings(run_ids)
    tables = {}
    for folder, schema in ((source.runs, runs_schema()), (source.curves, CURVES_SCHEMA), (
        source.predictions, PREDICTIONS_SCHEMA
    )):  # fmt: skip
        part = folder / name
        found = parts.read(part) if folder == source.runs or part.exists() else empty(schema)
        tables[folder.name] = found.filter(is_one_of(found["run_id"].cast(pa.string()), wanted))
    rows = tables["runs"]
    footer = footer_of(rows)
    _, last = np.unique(np.array(rows["run_id"].to_pylist())[::-1], return_index=True)
    rows = rows.take(numbers(np.sort(len(rows) - 1 - last), pa.int64()))
    column = pa.repeat(single(strings([into.name]))[0], len(rows))
    rows = unite([rows.set_column(rows.schema.get_field_index("name"), "name", column)], runs_schema())
    targets = set(tables["predictions"]["targets_id"].to_pylist())
    needed = {i: parts.read(path) for i in targets if (path := source.targets / f"{i}.parquet").exists()}
    with change(into.folder) as made:
        into.put(made, name, rows, tables["curves"], tables["predictions"], footer, needed)
