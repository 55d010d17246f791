"""``python -m dd.reproduce``: whether the same runs give the same numbers, what ``make reproduce`` does."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dd import registry
from dd.config import RunConfig, Settings, core_axes
from dd.errors import ConfigError, DDError
from dd.run import FAILED, INTERRUPTED, USAGE

HELP = """\
python -m dd.reproduce [key=value ...]

Run a small sweep of every kind of run twice, in two processes at once and one by one in another order after a stop, and
compare all rows and curves bit for bit (on a GPU to 1e-6); then compare its float64 runs with the numbers that come
with dd, to 1e-6.
    python -m dd.reproduce                              this installation
    python -m dd.reproduce device=cuda                  the same on a GPU
    python -m dd.reproduce table=default                runs of results/default, computed again
    python -m dd.reproduce table=default runs=20 results_dir=elsewhere

Exit code 0 where all numbers are the same, 1 where one is not, 2 for bad input.
"""

SAMPLES = ("data.n_train=60", "data.n_test=50")
SWEEPS: tuple[tuple[str, ...], ...] = (
    ("width=10,60,150", "optimizer=min_norm,ridge,truncated_svd"),
    ("width=10,60,150", "optimizer=gd,momentum,nesterov,conjugate_gradient", "batch_size=full", "steps=100000"),
    ("width=10,60,150", "optimizer=sgd,adam", "seed=0,1", "epochs=20", "dtype=float64"),
    ("width=5,60", "model=two_layer", "optimizer=sgd,momentum,adam", "epochs=40", "dtype=float32,float64"),
    ("width=20", "model=two_layer", "normalization=batch_norm,layer_norm", "epochs=5", "dtype=float64"),
    ("width=2", "model=rmt", "optimizer=adam", "lr=0.003", "epochs=1,2", "dtype=float32,float64"),
)
"""Closed forms, exact dynamics, function space, the engine, PyTorch's path, deep networks."""

PROVENANCE = frozenset({"name", "device", "torch_version", "git_commit", "seconds", "finished_at"})
"""Columns that say how a run was computed, not what came out."""

REFERENCE = Path(__file__).with_name("reproduce.csv")
CLOSE = 1e-6
"""Relative difference that is allowed to other machines, whose arithmetic adds in other orders."""

COMPARED = ("train_loss", "test_loss", "feature_condition", "hessian_condition", "weight_norm")
"""Columns of the reference."""

MOST = 10
"""Differences that are printed."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Difference:
    """Two values that should have been one."""

    run: str
    column: str
    values: tuple[Any, Any]

    def __str__(self) -> str:
        return f"{self.run}: {self.column} {self.values[0]!r} and {self.values[1]!r}"


def same(a: Any, b: Any, close: float) -> bool:
    """Whether two values are equal, numbers up to a relative difference of ``close`` (0: bit for bit)."""
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or a == b or math.isclose(a, b, rel_tol=close, abs_tol=close * 1e-6)
    return bool(a == b)


def label(row: Row) -> str:
    """A run in a few words."""
    keys = ("model", "width", "normalization", "optimizer", "steps", "dtype", "seed")
    return " ".join(str(row[key]) for key in keys if row.get(key) not in (None, "none"))


def differences(first: Iterable[Row], second: Iterable[Row], columns: Iterable[str], close: float) -> list[Difference]:
    """Differences between two lists of rows in the same order."""
    return [
        Difference(label(a), column, (a[column], b[column]))
        for a, b in zip(first, second, strict=True)
        for column in columns
        if not same(a[column], b[column], close)
    ]


def rows_and_curves(folder: Path, runs: Sequence[RunConfig]) -> tuple[list[Row], list[Row]]:
    """Rows in the order of ``runs``, and all points of their curves."""
    import pyarrow.parquet as pq

    from dd.results import Store

    store = Store(folder, "reproduce")
    rows = {row["run_id"]: row for row in store.read().to_pylist()}
    points = [point for part in sorted(store.curves.glob("*.parquet")) for point in pq.read_table(part).to_pylist()]
    return [rows[run.run_id] for run in runs], sorted(points, key=lambda point: (point["run_id"], point["step"]))


def check_arrangements(
    runs: Sequence[RunConfig], settings: Settings, close: float
) -> tuple[list[Difference], list[Row]]:
    """Compute runs in two arrangements and compare.

    Returns:
        The differences, and the rows of the first.
    """
    found = []
    backwards = runs[::-1]
    # at once in two processes; the other way round, after a stop, one by one
    arrangements: tuple[tuple[str, tuple[Sequence[RunConfig], ...]], ...] = (
        ("2", (runs,)),
        ("1", (backwards[::2], backwards)),
    )
    for n_jobs, sweeps in arrangements:
        with tempfile.TemporaryDirectory() as folder:
            own = replace(settings, results_dir=folder, name="reproduce", n_jobs=n_jobs)
            for part in sweeps:
                compute(part, own)
            found.append(rows_and_curves(Path(folder), runs))
    (rows, points), (other_rows, other_points) = found
    columns = [c for c in rows[0] if c not in PROVENANCE]
    wrong = differences(rows, other_rows, columns, close)
    if [p["run_id"] for p in points] != [p["run_id"] for p in other_points]:
        wrong.append(Difference("curves", "points", (len(points), len(other_points))))
    else:
        wrong += differences(points, other_points, points[0], close)
    say(f"{len(rows)} runs in two arrangements, {len(columns)} columns and {len(points)} points of curves each", wrong)
    return wrong, rows


def compute(runs: Sequence[RunConfig], settings: Settings) -> None:
    """Run a sweep without its report.

    Raises:
        DDError: it could not start, or a run failed.
    """
    from dd.sweeps import run_sweep

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        outcome = run_sweep(runs, settings)
    if failed := [row for row in outcome.rows if row["status"] == "failed"]:
        raise DDError(f"{len(failed)} runs failed; the first ({label(failed[0])}): {failed[0]['error']}")


def check_reference(rows: Sequence[Row]) -> list[Difference]:
    """Compare float64 rows with the numbers that come with dd."""
    with REFERENCE.open(newline="") as file:
        known = {line["run_id"]: line for line in csv.DictReader(file)}
    ours = [row for row in rows if row["run_id"] in known]
    if len(ours) < len(known):
        raise DDError(f"{len(known) - len(ours)} of {len(known)} runs of {REFERENCE.name} are not in the sweep")
    theirs = [{c: _number(known[row["run_id"]][c]) for c in COMPARED} for row in ours]
    wrong = differences(ours, theirs, COMPARED, CLOSE)
    say(f"{len(ours)} float64 runs beside the numbers that come with dd, to {CLOSE:g}", wrong)
    return wrong


def _number(text: str) -> float | None:
    return float(text) if text else None


def write_reference(rows: Iterable[Row]) -> None:
    """Write the numbers that come with dd."""
    with REFERENCE.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["run_id", "run", *COMPARED])
        writer.writeheader()
        for row in rows:
            if row["dtype"] == "float64":
                values = {c: "" if row[c] is None else repr(row[c]) for c in COMPARED}
                writer.writerow({"run_id": row["run_id"], "run": label(row)} | values)


def run_of(row: Row) -> RunConfig:
    """The run of a row of a table."""
    options = {
        f"{group}.{axis.key}": row[f"{group}_{axis.key}"]
        for group in registry.ROOMS
        if row[group] is not None
        for axis in registry.get(group, row[group]).options
    }
    return RunConfig(**{name: row[name] for name in core_axes()}, options=tuple(sorted(options.items())))


def check_table(name: str, count: int, settings: Settings, close: float) -> list[Difference]:
    """Compute some runs of a table again, evenly spread over it, and compare.

    Raises:
        DDError: there is no such table, or none of its runs can be computed by this version.
    """
    from dd.results import Store

    store = Store(settings.results_dir, name)
    rows = [row for row in store.read().to_pylist() if row["status"] != "failed"]
    if not rows:
        raise ConfigError("table", name, f"{store.runs} has no finished run", "the command line")
    chosen = [rows[i * len(rows) // count] for i in range(count)] if count < len(rows) else rows
    known = [row for row in chosen if run_of(row).run_id == row["run_id"]]
    if len(known) < len(chosen):
        print(f"{len(chosen) - len(known)} runs have axes that this version of dd does not know; left out")
    if not known:
        raise ConfigError("table", name, "none of the chosen runs is known to this version of dd", "the command line")
    runs = [run_of(row) for row in known]
    measured = "full" if any(row["measure"] == "full" for row in known) else "basic"
    with tempfile.TemporaryDirectory() as folder:
        compute(runs, replace(settings, results_dir=folder, name="reproduce", measure_name=measured))
        again, _ = rows_and_curves(Path(folder), runs)
    # what only full measurement knows is not in every row
    skipped = PROVENANCE | {"measure"}
    wrong = [
        difference
        for a, b in zip(known, again, strict=True)
        for difference in differences(
            [a], [b], [c for c in a if c not in skipped and (a["measure"] == measured or a[c] is not None)], close
        )
    ]
    say(f"{len(known)} of {len(rows)} runs of {store.runs}, computed again", wrong)
    for key, ours in (("torch_version", again[0]["torch_version"]), ("git_commit", again[0]["git_commit"])):
        theirs = sorted({str(row[key]) for row in known})
        if wrong and theirs != [str(ours)]:
            print(f"    {key}: {', '.join(theirs)} in the table, {ours} here")
    return wrong


def say(what: str, wrong: Sequence[Difference]) -> None:
    """Print the result of a comparison."""
    print(f"{what}: " + (f"{len(wrong)} values differ" if wrong else "the same"), flush=True)
    for difference in wrong[:MOST]:
        print(f"    {difference}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0; 1 if numbers differ; 2 for bad input; 130 after Ctrl-C.
    """
    from dd.api import compose_jobs

    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    writes = "--write" in arguments
    own = dict(a.split("=", 1) for a in arguments if a.startswith(("table=", "runs=")))
    overrides = [a for a in arguments if not a.startswith(("table=", "runs=")) and a != "--write"]
    try:
        count = own.get("runs", "10")
        if not count.isdigit() or int(count) < 1:
            raise ConfigError("runs", count, "must be an integer >= 1", "the command line")
        if "table" not in own and "runs" in own:
            raise ConfigError("runs", count, "needs table=<name>", "the command line")
        from dd.solve import device_of

        composed = [compose_jobs([*line, *SAMPLES, *overrides]) for line in SWEEPS]
        runs, settings = [run for found, _ in composed for run in found], composed[0][1]
        close = 0.0 if device_of(settings).type == "cpu" else CLOSE
        if "table" in own:
            wrong = check_table(own["table"], int(count), settings, close)
        else:
            wrong, rows = check_arrangements(runs, settings, close)
            if writes:
                write_reference(rows)
            wrong += check_reference(rows)
    except DDError as error:
        print(f"dd: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    return FAILED if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
