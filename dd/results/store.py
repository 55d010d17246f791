"""The table of a sweep: one row a run at any time, parts that change whole, resume by ``run_id``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dd.arrow import are, booleans, integers, is_one_of, mask, numbers, single, strings
from dd.errors import StoreError
from dd.results import parts
from dd.results.commit import Change, change, leftovers
from dd.results.compaction import MANY, MEDIUM, SMALL, compact, small_parts
from dd.results.footers import footer_of, merged, with_footer
from dd.results.holdings import distinct, holders, holdings
from dd.results.lock import sweep_up
from dd.results.order import ORDERING, fixes, winners
from dd.results.patience import patiently
from dd.results.predictions import PREDICTIONS_SCHEMA, Prediction, predictions_table, targets_tables
from dd.results.schema import CURVES_SCHEMA, empty, runs_schema, table_of, unite
from dd.runs.axis import Value
from dd.runs.settings import MEASURES
from dd.temporary import temporary_name


class Store:
    """The table ``<results_dir>/<name>/``.

    A run has one row at any time: a row that is computed again takes the old one's place, in the part that holds it.

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
        """Make the folders, try to write, and bring the table to order.

        What a killed process left is completed or removed; doubled rows and points, which earlier versions could leave,
        go.

        Raises:
            StoreError: the folder cannot be written, or a part is damaged.
        """
        try:
            for folder in (self.runs, self.curves):
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder, prefix="_probe", suffix=temporary_name()):
                    pass
        except OSError as error:
            raise StoreError(
                f"results_dir={self.folder.parent}: cannot write to {self.folder} ({error.strerror or error}); "
                "set results_dir to a folder that you may write to"
            ) from error
        with change(self.folder) as made:
            sweep_up(self.folder)
            for path in leftovers(self.folder):
                made.remove(path)
            for fix in fixes(self.folder):
                fix.stage(made)

    def tidy(self) -> None:
        """Merge small parts once there are many: what reads the table pays for each file.

        Raises:
            StoreError: something cannot be written, or a part is damaged.
        """
        if len(patiently(self.folder, lambda: small_parts(self.folder))) > MANY:
            compact(self.folder, below=SMALL, most=MEDIUM)

    def parts(self) -> list[Path]:
        """Parts of ``runs`` by name."""
        return parts.parts_of(self.runs)

    def check(self) -> None:
        """Make sure that every part of every table can be opened: the quick look before a sweep.

        ``python -m dd.results check`` verifies every byte.

        Raises:
            StoreError: naming the first that cannot.
        """
        points = (self.curves, self.predictions, self.targets)

        def look() -> None:
            holdings(self.runs)
            for part in (part for folder in points for part in parts.parts_of(folder)):
                parts.metadata(part)

        patiently(self.folder, look)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read ``runs`` as one table in the declared schema, one row a run.

        Columns of components that have gone are dropped, columns that an old part lacks are null.

        Raises:
            StoreError: a part is damaged.
        """
        return patiently(self.folder, lambda: self._gather(columns, None))

    def rows(self, run_ids: Iterable[str], columns: Sequence[str] | None = None) -> pa.Table:
        """Read the rows of some runs, as :meth:`read` does; others are left out part by part.

        Raises:
            StoreError: a part is damaged.
        """
        wanted = strings(list(run_ids))
        return patiently(self.folder, lambda: self._gather(columns, wanted))

    def _gather(self, columns: Sequence[str] | None, wanted: pa.Array | None) -> pa.Table:
        asked = list(columns or runs_schema().names)
        schema = pa.schema([runs_schema().field(c) for c in [*ORDERING, *(c for c in asked if c not in ORDERING)]])
        tables = [empty(schema)]
        for part in self.parts() if wanted is None else self._parts_with(wanted):
            table = parts.read_as(part, schema)
            tables.append(table if wanted is None else table.filter(is_one_of(table["run_id"], wanted)))
        table = pa.concat_tables(tables)
        winning = winners(table)
        if len(winning) < table.num_rows:
            table = table.take(numbers(winning, pa.int64()))
        return table.select(asked)

    def _parts_with(self, wanted: pa.Array) -> list[Path]:
        """Parts that hold one of some runs."""
        return [holding.part for holding in holders(holdings(self.runs), wanted)]

    def finished(self, measure: str, *, predictions: bool = False) -> set[str]:
        """``run_id`` of every run that has not failed and has been measured.

        Args:
            measure: what the run must have been measured with at least, one of :data:`dd.runs.settings.MEASURES`.
            predictions: whether its test outputs must be there too.
        """
        done = set(self._measured(measure).to_pylist())
        return done & set(self._predicted().to_pylist()) if predictions else done

    def holds(self, run_ids: Iterable[str]) -> tuple[str, bool]:
        """The most that any of some finished runs has been measured with, and whether any has its test outputs."""
        wanted = strings(list(run_ids))

        def any_of(held: pa.ChunkedArray) -> bool:
            return pc.any(is_one_of(held, wanted)).as_py() is True

        most = [measure for measure in MEASURES if any_of(self._measured(measure))]
        return most[-1] if most else MEASURES[0], any_of(self._predicted())

    def stamps(self, run_ids: Iterable[str]) -> dict[str, int]:
        """When each of some runs was finished, in microseconds since 1970; of those that have a row."""
        table = self.rows(run_ids, ["run_id", "finished_at"])
        return dict(zip(table["run_id"].to_pylist(), integers(table["finished_at"]).tolist(), strict=True))

    def distinct(self, columns: Iterable[str]) -> list[dict[str, Value]]:
        """The different rows of some columns."""
        names = tuple(columns)
        found = patiently(self.folder, lambda: distinct(self.runs, names))
        return [dict(zip(names, values, strict=True)) for values in found]

    def _measured(self, measure: str) -> pa.ChunkedArray:
        """``run_id`` of every run that has not failed and has been measured so, or with more."""
        held = patiently(self.folder, lambda: holdings(self.runs))
        return pa.chunked_array([one.measured[measure] for one in held], pa.string())

    def _predicted(self) -> pa.ChunkedArray:
        """``run_id`` of every run with test outputs; those of a part whose rows were never written do not count."""

        def look() -> pa.ChunkedArray:
            found = [pa.chunked_array([], pa.string())]
            for part in (self.predictions / part.name for part in self.parts()):
                if part.exists():
                    found.append(parts.read(part, ["run_id"], whole=False)["run_id"])
            return pa.chunked_array([chunk for column in found for chunk in column.chunks], pa.string())

        return patiently(self.folder, look)

    def append(
        self,
        pack_id: str,
        rows: Sequence[Mapping[str, object]],
        curves: Sequence[Mapping[str, object]],
        provenance: Mapping[str, object],
        metadata: Mapping[str, object],
        predictions: Sequence[Prediction] = (),
    ) -> Path:
        """Write a pack's rows, curves and test outputs, all of them or none.

        A run that has a row keeps its place: the new row, curve and test outputs replace the old ones, in the part that
        holds them. Where the new computation brings no curve or no outputs, the old ones go. A failed row never
        replaces one that has not failed; it is dropped then, with its points. Other runs make the part ``pack_id``.

        Args:
            pack_id: names the part of runs that have no row yet.
            rows: one mapping a run; keys outside the schema are an error, absent ones null.
            curves: one mapping a logged step.
            provenance: columns that all rows share.
            metadata: goes into the file's footer as JSON under the key ``dd``.
            predictions: test outputs; their targets are written once a test set.

        Returns:
            Path of the part of ``runs`` that the first row is in.

        Raises:
            StoreError: something cannot be written (disk full, for example), or the part to change is damaged; the
                table is as before.
        """
        stamped = [{"name": self.name, "finished_at": datetime.now(UTC), **provenance, **row} for row in rows]
        new_rows, new_points = table_of(stamped, runs_schema()), table_of(curves, CURVES_SCHEMA)
        outputs = predictions_table(predictions) if predictions else empty(PREDICTIONS_SCHEMA)
        with change(self.folder) as made:
            return self.put(
                made, f"{pack_id}.parquet", new_rows, new_points, outputs, metadata, targets_tables(predictions)
            )

    def put(
        self,
        made: Change,
        name: str,
        rows: pa.Table,
        curves: pa.Table,
        predictions: pa.Table,
        metadata: Mapping[str, object],
        targets: Mapping[str, pa.Table],
    ) -> Path:
        """Stage rows with their points, in the places of their runs; see :meth:`append`.

        Returns:
            Path of the part of ``runs`` that the first row is in.
        """
        for targets_id, table in targets.items():
            if not (path := self.targets / f"{targets_id}.parquet").exists():
                made.write(path, parts.encode(table))
        homes, dropped = self._homes(rows)
        last = {run_id: i for i, run_id in enumerate(rows["run_id"].to_pylist()) if run_id not in dropped}
        by_part: dict[Path, list[int]] = {}
        for run_id, i in last.items():
            by_part.setdefault(homes.get(run_id, self.runs / name), []).append(i)
        for part, positions in by_part.items():
            own = rows.take(numbers(np.array(positions, np.int64), pa.int64()))
            ids = single(own["run_id"])
            for folder, table in ((self.predictions, predictions), (self.curves, curves)):
                _replace_points(made, folder / part.name, ids, table.filter(is_one_of(table["run_id"], ids)))
            _replace_rows(made, part, own, metadata)
        return next(iter(by_part), self.runs / name)

    def _homes(self, rows: pa.Table) -> tuple[dict[str, Path], set[str]]:
        """Parts that hold rows of the same runs; and the runs whose row fails where the one there has not."""
        ids = single(rows["run_id"])
        failed = ids.filter(single(are(rows["status"], "failed")))
        homes: dict[str, Path] = {}
        dropped: set[str] = set()
        for holding in holders(holdings(self.runs), ids):
            there = holding.ids.filter(is_one_of(holding.ids, ids)).to_pylist()
            homes |= {run_id: holding.part for run_id in there if run_id not in homes}
            if len(failed):
                dropped.update(holding.good.filter(is_one_of(holding.good, failed)).to_pylist())
        return homes, dropped


def _replace_rows(made: Change, part: Path, rows: pa.Table, metadata: Mapping[str, object]) -> None:
    """Stage a part of ``runs`` with some rows in the places of the old ones, and further ones at the end."""
    if not part.exists():
        made.write(part, parts.encode(with_footer(rows, metadata)))
        return
    old = parts.read(part)
    ids = old["run_id"].to_pylist()
    held = set(ids)
    fresh = {run_id: len(ids) + i for i, run_id in enumerate(rows["run_id"].to_pylist())}
    added = [i for run_id, i in fresh.items() if run_id not in held]
    order = [fresh.get(run_id, i) for i, run_id in enumerate(ids)] + added
    table = unite([old, rows], runs_schema()).take(numbers(np.array(order, np.int64), pa.int64()))
    # the axes of replaced runs are in the footer already
    further = metadata if added else {key: value for key, value in metadata.items() if key != "runs"}
    made.write(part, parts.encode(with_footer(table, merged([footer_of(old), further]))))


def _replace_points(made: Change, part: Path, ids: pa.Array, points: pa.Table) -> None:
    """Stage a part of ``curves`` or ``predictions`` with the points of some runs replaced."""
    there = part.exists()
    if there:
        old = parts.read(part)
        rest = old.filter(mask(~booleans(is_one_of(old["run_id"].cast(pa.string()), ids))))
        if not len(points) and len(rest) == len(old):
            return
        points = unite([rest, points], points.schema)
    if len(points):
        made.write(part, parts.encode(points))
    elif there:
        made.remove(part)
