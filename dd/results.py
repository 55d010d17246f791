"""The results table: one declared schema, one parquet part a pack, atomic writes, resume by ``run_id``."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from dd.config import core_axes
from dd.errors import StoreError
from dd.predictions import PREDICTIONS_SCHEMA, Prediction, predictions_table, targets_tables
from dd.registry import option_axes

TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}

OUTCOME = (
    "train_loss", "train_error", "test_loss", "test_error", "weight_norm", "gradient_norm",
    "min_norm_train_loss", "min_norm_test_loss", "min_norm_test_error",
    "effective_parameters_train", "effective_parameters_test",
)  # fmt: skip
CONDITIONING = (
    "feature_condition", "feature_sigma_max", "feature_sigma_min",
    "feature_condition_init", "feature_sigma_max_init", "feature_sigma_min_init",
    "hessian_condition", "hessian_lambda_max", "hessian_lambda_min", "hessian_trace", "hessian_effective_rank",
    "preconditioned_condition", "jacobi_condition", "ntk_condition", "ntk_condition_init",
    "sharpness_init", "interpolation_width",
)  # fmt: skip
RANKS = ("feature_rank", "feature_rank_init", "hessian_rank", "ntk_rank", "ntk_rank_init")


@cache
def runs_schema() -> pa.Schema:
    """Schema of ``runs``: the same in every part, whatever the pack; what does not apply is a typed null."""
    fields: list[tuple[str, type]] = [("run_id", str), ("name", str), ("status", str), ("error", str)]
    fields += [("parameters", int), ("inputs", int), ("outputs", int)]
    fields += [(name, axis.kind) for name, axis in core_axes().items()]
    fields += [("epochs", float), ("lr_absolute", float)]
    fields += [(key.replace(".", "_"), axis.kind) for key, axis in option_axes()]
    fields += [(key, float) for key in OUTCOME] + [("steps_done", int)]
    fields += [(key, float) for key in CONDITIONING]
    fields += [(key, int) for key in RANKS] + [("measure", str), ("measure_method", str)]
    fields += [("data_source", str), ("data_sha256", str)]
    fields += [("device", str), ("torch_version", str), ("git_commit", str), ("seconds", float)]
    columns = [pa.field(key, TYPES[kind]) for key, kind in fields]
    return pa.schema([*columns, pa.field("finished_at", pa.timestamp("us", tz="UTC"))])


CURVES_SCHEMA = pa.schema(
    [("run_id", pa.string()), ("step", pa.int64()), ("epoch", pa.float64())]
    + [(key, pa.float64()) for key in ("train_loss", "train_error", "test_loss", "test_error")]
)
"""Schema of ``curves``: one row a logged step of a run."""


FEW_PARTS = 32
"""Up to so many parts are read one by one: Arrow's dataset reader is faster for many, but imports pandas."""


class Store:
    """The table ``<results_dir>/<name>/``.

    Args:
        results_dir: folder of all tables.
        name: the table.
    """

    def __init__(self, results_dir: str | Path, name: str) -> None:
        self.name = name
        self.folder = Path(results_dir) / name
        self.runs = self.folder / "runs"
        self.curves = self.folder / "curves"
        self.predictions = self.folder / "predictions"
        self.targets = self.folder / "targets"

    def open(self) -> None:
        """Make the folders and try to write.

        Raises:
            StoreError: the folder cannot be written.
        """
        try:
            for folder in (self.runs, self.curves):
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder, prefix="_probe"):
                    pass
        except OSError as error:
            raise StoreError(
                f"results_dir={self.folder.parent}: cannot write to {self.folder} ({error.strerror or error}); "
                "set results_dir to a folder that you may write to"
            ) from error

    def parts(self) -> list[Path]:
        """Finished parts of ``runs``, oldest name first."""
        return sorted(p for p in self.runs.glob("*.parquet") if not p.name.startswith("_"))

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read ``runs`` as one table in the declared schema, one row a run.

        Columns of components that have gone are dropped, columns that an old part lacks are null. Where a run has been
        computed again and its older row is still there, the newer one counts (a failed one never against a good one).

        Raises:
            StoreError: a part is not a readable parquet file.
        """
        schema = runs_schema()
        table = self._rows([*ORDERING, *(c for c in columns or schema.names if c not in ORDERING)])
        winners = _winners(table)
        if len(winners) < table.num_rows:
            table = table.take(sorted(winners.values()))
        return table.select(list(columns or schema.names))

    def _rows(self, columns: Sequence[str]) -> pa.Table:
        """All rows of all parts, in the order of :meth:`parts`."""
        schema = runs_schema()
        schema = pa.schema([schema.field(c) for c in columns])
        parts = self.parts()
        if not parts:
            return schema.empty_table()
        try:
            if len(parts) <= FEW_PARTS:
                return pa.concat_tables([_read_part(part, schema) for part in parts])
            from pyarrow import dataset

            return dataset.dataset([str(p) for p in parts], schema=schema, format="parquet").to_table()
        except (pa.ArrowInvalid, pa.ArrowTypeError, OSError, EOFError):
            self.check()
            raise

    def check(self) -> None:
        """Make sure that every part of every table can be read.

        Raises:
            StoreError: naming the first that cannot.
        """
        others = (self.curves, self.predictions, self.targets)
        for part in [*self.parts(), *(part for folder in others for part in sorted(folder.glob("*.parquet")))]:
            try:
                pq.read_metadata(part)
            except (pa.ArrowInvalid, OSError, EOFError) as error:
                reason = str(error).splitlines()[0]
                raise StoreError(
                    f"results_dir={self.folder.parent}: {part} is not a readable parquet file ({reason}); move it "
                    "away, its runs will be computed again"
                ) from error

    def finished(self, measure: str, *, predictions: bool = False) -> set[str]:
        """``run_id`` of every run that has not failed and has been measured, with ``basic`` or ``full``.

        Args:
            measure: what the run must have been measured with.
            predictions: whether its test outputs must be there too.
        """
        done = {i for i, measured in self._measured() if measure in ("basic", measured)}
        return done & self._predicted() if predictions else done

    def holds(self, run_ids: Set[str]) -> tuple[bool, bool]:
        """Whether any of some finished runs has been measured in full, and whether any has its test outputs."""
        full = any(i in run_ids and measured == "full" for i, measured in self._measured())
        return full, not self._predicted().isdisjoint(run_ids)

    def _measured(self) -> list[tuple[str, str | None]]:
        """``run_id`` and ``measure`` of every run that has not failed."""
        table = self.read(["run_id", "status", "measure"])
        rows = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
        return [(run_id, measured) for run_id, status, measured in rows if status != "failed"]

    def _predicted(self) -> set[str]:
        """``run_id`` of every run with test outputs; those of a part whose rows were never written do not count."""
        schema = pa.schema([PREDICTIONS_SCHEMA.field("run_id")])
        parts = [self.predictions / part.name for part in self.parts()]
        return {run_id for part in parts if part.exists() for run_id in _read_part(part, schema)["run_id"].to_pylist()}

    def stamps(self, run_ids: Set[str]) -> dict[str, int]:
        """When each of some runs that have a row was finished, in microseconds; tells what has changed since."""
        table = self.read(ORDERING)
        pairs = zip(_plain(table["run_id"]), _plain(table["finished_at"]), strict=True)
        return {run_id: at for run_id, at in pairs if run_id in run_ids}

    def append(
        self,
        pack_id: str,
        rows: Sequence[Mapping[str, Any]],
        curves: Sequence[Mapping[str, Any]],
        provenance: Mapping[str, Any],
        metadata: Mapping[str, Any],
        predictions: Sequence[Prediction] = (),
    ) -> Path:
        """Write a pack's rows, curves and test outputs, each as one part that appears whole or not at all.

        Rows come last: a run counts as finished once its row is there.

        Args:
            pack_id: names the parts.
            rows: one mapping a run; keys outside the schema are an error, absent ones null.
            curves: one mapping a logged step.
            provenance: columns that all rows share.
            metadata: goes into the file's footer as JSON under the key ``dd``.
            predictions: test outputs; their targets are written once a test set.

        Returns:
            Path of the part of ``runs``.

        Raises:
            StoreError: the folder cannot be written (disk full, for example).
        """
        stamped = [{"name": self.name, "finished_at": datetime.now(UTC), **provenance, **row} for row in rows]
        footer = {b"dd": json.dumps(metadata, sort_keys=True, default=str).encode()}
        if predictions:
            for targets_id, targets in targets_tables(predictions).items():
                path = self.targets / f"{targets_id}.parquet"
                if not path.exists():
                    _write(path, targets)
            _write(self.predictions / f"{pack_id}.parquet", predictions_table(predictions))
        else:  # outputs of rows that are about to be replaced
            (self.predictions / f"{pack_id}.parquet").unlink(missing_ok=True)
        if curves:
            _write(self.curves / f"{pack_id}.parquet", _table(curves, CURVES_SCHEMA))
        part = self.runs / f"{pack_id}.parquet"
        _write(part, _table(stamped, runs_schema().with_metadata(footer)))
        return part

    def retire(self) -> None:
        """Take superseded rows (after ``force``, or a retried failure) with curves and test outputs out of their parts.

        New rows are whole on disk before old ones go. One process at a time does this, and rows are told by part and
        run, so parts that another process adds meanwhile are left alone.
        """
        table = self._rows(ORDERING)
        if len(_winners(table)) == table.num_rows:
            return
        schema = pa.schema([runs_schema().field(c) for c in ORDERING])
        with _locked(self.folder / "_lock"):
            parts = self.parts()
            tables = [_read_part(part, schema) for part in parts]
            kept = set(_winners(pa.concat_tables(tables)).values())
            position = 0
            for part, rows in zip(parts, tables, strict=True):
                ids = rows["run_id"].to_pylist()
                gone = {run_id for i, run_id in enumerate(ids, position) if i not in kept}
                position += len(ids)
                if gone:
                    _without(self.curves / part.name, gone)
                    _without(self.predictions / part.name, gone)
                    _without(part, gone)


ORDERING = ("run_id", "status", "finished_at")


def _plain(column: pa.ChunkedArray) -> list[Any]:
    """Python values; moments as microseconds, because converting those imports pandas."""
    return list((column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist())


def _winners(table: pa.Table) -> dict[str, int]:
    """Row that counts for each run: the newest that has not failed, else the newest."""
    best: dict[str, tuple[bool, Any, int]] = {}
    columns = (_plain(table[name]) for name in ORDERING)
    for i, (run_id, status, finished_at) in enumerate(zip(*columns, strict=True)):
        rank = (status != "failed", finished_at, i)
        if run_id not in best or rank > best[run_id]:
            best[run_id] = rank
    return {run_id: rank[2] for run_id, rank in best.items()}


def _read_part(part: Path, schema: pa.Schema) -> pa.Table:
    """Read one part in the given schema, absent columns as nulls."""
    with pq.ParquetFile(part) as file:
        held = set(file.schema_arrow.names)
        table = file.read(columns=[name for name in schema.names if name in held])
    arrays = [table[f.name].cast(f.type) if f.name in held else pa.nulls(table.num_rows, f.type) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an advisory lock, where the system has them."""
    with path.open("w") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except ImportError:
            pass
        yield


def _without(part: Path, run_ids: set[str]) -> None:
    """Rewrite a part without some runs; an emptied part goes."""
    if not part.exists():
        return
    with pq.ParquetFile(part) as file:
        table = file.read()
    table = table.filter(pa.array([i not in run_ids for i in table["run_id"].to_pylist()], pa.bool_()))
    if table.num_rows:
        _write(part, table)
    else:
        part.unlink()


def _table(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    known = set(schema.names)
    for row in rows:
        if unknown := row.keys() - known:
            raise KeyError(f"columns {sorted(unknown)} are not in the schema")
    # by way of JSON: pyarrow's own conversion of Python values imports pandas, half a second in a short run
    infinite = {key for row in rows for key, value in row.items() if isinstance(value, float) and math.isinf(value)}
    plain = [{k: v for k, v in row.items() if k not in infinite} for row in rows]
    lines = "\n".join(json.dumps(row, allow_nan=False, default=datetime.isoformat) for row in plain)
    options = pyarrow.json.ParseOptions(explicit_schema=schema.remove_metadata(), unexpected_field_behavior="error")
    table = pyarrow.json.read_json(pa.BufferReader(lines.encode()), parse_options=options).cast(
        schema.remove_metadata()
    )
    for key in infinite:  # JSON has no infinity
        column = _floats([row.get(key) for row in rows])
        table = table.set_column(schema.get_field_index(key), schema.field(key), column)
    return table.replace_schema_metadata(schema.metadata)


def _floats(values: Sequence[float | None]) -> pa.Array:
    """A column of numbers, null where None."""
    present = np.array([value is not None for value in values])
    numbers = np.array([0.0 if value is None else value for value in values])
    buffers = [pa.py_buffer(np.packbits(present, bitorder="little").tobytes()), pa.py_buffer(numbers.tobytes())]
    return pa.Array.from_buffers(pa.float64(), len(values), buffers)


def _write(path: Path, table: pa.Table) -> None:
    """Write under a name that no reader picks up, then rename."""
    temporary = path.with_name(f"_{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(exist_ok=True)
        pq.write_table(table, temporary, compression="zstd")
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def rows_of(store: Store, run_ids: Iterable[str]) -> list[dict[str, Any]]:
    """Rows of the given runs, in the table's order, without ``finished_at``."""
    wanted = set(run_ids)
    columns = [name for name in runs_schema().names if name != "finished_at"]
    return [row for row in store.read(columns).to_pylist() if row["run_id"] in wanted]
