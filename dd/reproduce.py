"""``python -m dd.reproduce``: whether the same runs give the same numbers, what ``make reproduce`` does."""

from __future__ import annotations

import csv
import math
import struct
import sys
import tempfile
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dd.environment import described
from dd.errors import FAILED, USAGE, ConfigError, DDError, say
from dd.packs.plan import Pack, plan
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.workers.signals import exit_code

HELP = """\
python -m dd.reproduce [device=...] [table=... [runs=...] [results_dir=...]]

Run a small sweep of every kind of run twice, in packs on two processes and each run by itself in another order, and
compare all rows and curves bit for bit (on a GPU to 1e-6, runs that train in less than float64 to 1e-3). Then compare
its float64 runs with the numbers that come with dd, to 1e-6, or 1e-12 absolutely.
    python -m dd.reproduce                              this installation
    python -m dd.reproduce device=cuda                  the same on a GPU
    python -m dd.reproduce table=default                ten runs of results/default, computed again
    python -m dd.reproduce table=default runs=20 results_dir=elsewhere
    python -m dd.reproduce --write                      for those who change dd: write the numbers that come with it

Exit code 0 where all numbers are the same, 1 where one is not, 2 for bad input.
"""

KEYS = ("device", "table", "runs", "results_dir")

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

PROVENANCE = frozenset({"name", "trainer", "device", "torch_version", "git_commit", "seconds", "finished_at"})
"""Columns that say how a run was computed, not what came out."""

REFERENCE = Path(__file__).with_name("reproduce.csv")
CLOSE = 1e-6
"""Relative difference that is allowed to other machines, whose arithmetic adds in other orders."""

CLOSE_ROUNDED = 1e-3
"""Of runs that train in less than float64, whose rounding grows along the way; where bits may differ at all."""

COMPARED = ("train_loss", "test_loss", "feature_condition", "hessian_condition", "weight_norm")
"""Columns of the reference."""

MOST = 10
"""Differences that are printed."""

PROCESSES, TOGETHER = 2, 8
"""Of the first arrangement: processes, and runs in a pack at most."""

Row = Mapping[str, object]


@dataclass(frozen=True)
class Difference:
    """Two values that should have been one."""

    run: str
    column: str
    values: tuple[object, object]

    def __str__(self) -> str:
        return f"{self.run}: {self.column} {self.values[0]!r} and {self.values[1]!r}"


def same(a: object, b: object, close: float) -> bool:
    """Whether two values are equal, numbers up to a relative difference of ``close`` (0: bit for bit)."""
    if isinstance(a, float) and isinstance(b, float):
        if close:
            return math.isclose(a, b, rel_tol=close, abs_tol=close * 1e-6)
        return struct.pack("d", a) == struct.pack("d", b)
    return bool(a == b)


def label(row: Row) -> str:
    """A run in a few words."""
    keys = ("model", "width", "normalization", "optimizer", "steps", "dtype", "seed")
    return " ".join(str(row[key]) for key in keys if row.get(key) not in (None, "none"))


def differences(
    first: Iterable[Row], second: Iterable[Row], columns: Iterable[str], close: float, rounded: Container[str] = ()
) -> list[Difference]:
    """Differences between two lists of rows in the same order; ``rounded`` are ids of runs in less than float64."""
    return [
        Difference(label(a), column, (a[column], b[column]))
        for a, b in zip(first, second, strict=True)
        for column in columns
        if not same(a[column], b[column], CLOSE_ROUNDED if close and a["run_id"] in rounded else close)
    ]


def rows_and_curves(folder: Path, runs: Sequence[Run]) -> tuple[list[Row], list[Row]]:
    """Rows in the order of ``runs``, and all points of their curves."""
    import pyarrow.parquet as pq

    from dd.results import Store

    store = Store(folder, "reproduce")
    rows = {row["run_id"]: row for row in store.read().to_pylist()}
    points = [point for part in sorted(store.curves.glob("*.parquet")) for point in pq.read_table(part).to_pylist()]
    return [rows[run.run_id] for run in runs], sorted(points, key=lambda point: (point["run_id"], point["step"]))


def check_arrangements(runs: Sequence[Run], settings: Settings, close: float) -> tuple[list[Difference], list[Row]]:
    """Compute runs in two arrangements and compare.

    Returns:
        The differences, and the rows of the first.
    """
    from dd.packs.place import place_of

    place = place_of(settings)
    packs = plan(runs, replace(place, limits=replace(place.limits, runs=TOGETHER)))
    arrangements = (packs, [Pack((run,), place) for run in reversed(runs)])
    # two processes beside each other on a GPU would share its memory
    processes = PROCESSES if close == 0 else 1
    found = []
    for arrangement, count in zip(arrangements, (processes, 1), strict=True):
        with tempfile.TemporaryDirectory() as folder:
            compute(arrangement, replace(settings, results_dir=folder, name="reproduce"), count)
            found.append(rows_and_curves(Path(folder), runs))
    (rows, points), (other_rows, other_points) = found
    columns = [c for c in rows[0] if c not in PROVENANCE]
    rounded = {run.run_id for run in runs if run.dtype != "float64"}
    wrong = differences(rows, other_rows, columns, close, rounded)
    if [(p["run_id"], p["step"]) for p in points] != [(p["run_id"], p["step"]) for p in other_points]:
        wrong.append(Difference("curves", "points", (len(points), len(other_points))))
    else:
        wrong += differences(points, other_points, points[0], close, rounded)
    report(
        f"{len(rows)} runs in {len(packs)} packs on {processes} processes and one by one, "
        f"{len(columns)} columns and {len(points)} points of curves",
        wrong,
    )
    return wrong, rows


def compute(packs: Sequence[Pack], settings: Settings, processes: int) -> None:
    """Solve packs and write the table.

    Raises:
        DDError: it could not start, or a run failed.
    """
    from dd.cli.sweeps import check_settings
    from dd.executors.inline import Inline
    from dd.executors.processes import Processes
    from dd.results import Store
    from dd.workers.solving import Lost

    check_settings([run for pack in packs for run in pack.runs], settings)
    Store(settings.results_dir, settings.name).open()
    executor = Inline() if processes == 1 else Processes()
    for _, row in executor.execute(packs, replace(settings, n_jobs=processes)):
        if isinstance(row, Lost):
            raise DDError(f"a run could not be computed: {row.error}")
        if row["status"] == "failed":
            raise DDError(f"a run failed ({label(row)}): {row['error']}")


def check_reference(rows: Sequence[Row]) -> list[Difference]:
    """Compare float64 rows with the numbers that come with dd."""
    with REFERENCE.open(newline="") as file:
        known = {line["run_id"]: line for line in csv.DictReader(file)}
    ours = [row for row in rows if row["run_id"] in known]
    if len(ours) < len(known):
        raise DDError(f"{len(known) - len(ours)} of {len(known)} runs of {REFERENCE.name} are not in the sweep")
    theirs = [{c: _number(known[row["run_id"]][c]) for c in COMPARED} for row in ours]
    wrong = differences(ours, theirs, COMPARED, CLOSE)
    report(f"{len(ours)} float64 runs beside the numbers that come with dd, to {CLOSE:g}", wrong)
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


def check_table(name: str, count: int, settings: Settings) -> list[Difference]:
    """Compute some runs of a table again, evenly spread over it, and compare.

    Raises:
        DDError: there is no such table, or none of its runs can be computed by this version.
    """
    from dd.packs.place import place_of
    from dd.results import Store
    from dd.results.rebuilt import run_of

    store = Store(settings.results_dir, name)
    rows = [row for row in store.read().to_pylist() if row["status"] != "failed"]
    if not rows:
        raise ConfigError("table", name, f"{store.runs} has no finished run", "the command line")
    chosen = [rows[i * len(rows) // count] for i in range(count)] if count < len(rows) else rows
    known = [row for row in chosen if run_of(row).run_id == row["run_id"]]
    if len(known) < len(chosen):
        print(f"{len(chosen) - len(known)} runs are of a version of dd with other axes; left out")
    if not known:
        raise ConfigError("table", name, "its runs are of a version of dd with other axes", "the command line")
    runs = [run_of(row) for row in known]
    measured = "full" if any(row["measure"] == "full" for row in known) else "basic"
    # only a CPU computes the same bits as another one
    here = place_of(settings).device.type
    close = 0.0 if {here, *(row["device"] for row in known)} == {"cpu"} else CLOSE
    with tempfile.TemporaryDirectory() as folder:
        own = replace(settings, results_dir=folder, name="reproduce", measure_name=measured)
        for trainer in {str(row.get("trainer") or "auto") for row in known}:
            place = replace(place_of(own), trainer=trainer)
            mine = [run for run, row in zip(runs, known, strict=True) if (row.get("trainer") or "auto") == trainer]
            compute([Pack((run,), place) for run in mine], replace(own, trainer=trainer), 1)
        again, _ = rows_and_curves(Path(folder), runs)
    # an older table lacks columns, and what only full measurement knows is not in every row
    rounded = {run.run_id for run in runs if run.dtype != "float64"}
    wrong = [
        difference
        for a, b in zip(known, again, strict=True)
        for difference in differences(
            [a], [b], [c for c in a if c not in PROVENANCE | {"measure"} and a[c] is not None], close, rounded
        )
    ]
    exactly = "" if close == 0 else f" to {close:g} ({CLOSE_ROUNDED:g} in less than float64)"
    report(f"{len(known)} of {len(rows)} runs of {store.runs}, computed again{exactly}", wrong)
    for key in ("torch_version", "git_commit", "device"):
        theirs = sorted({str(row[key]) for row in known})
        if wrong and theirs != [str(again[0][key])]:
            print(f"    {key}: {', '.join(theirs)} in the table, {again[0][key]} here")
    return wrong


def report(what: str, wrong: Sequence[Difference]) -> None:
    """Print the result of a comparison."""
    print(f"{what}: " + (f"{len(wrong)} values differ" if wrong else "the same"), flush=True)
    for difference in wrong[:MOST]:
        print(f"    {difference}")


def options_of(arguments: Sequence[str]) -> dict[str, str]:
    """Values of the keys on the command line.

    Raises:
        ConfigError: another key, or keys that do not go together.
    """
    own: dict[str, str] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if argument != "--write" and (key not in KEYS or not equals):
            raise ConfigError(key, value or None, f"no such key; there are {', '.join(KEYS)}", "the command line")
        own[key] = value
    for key in ("runs", "results_dir"):
        if key in own and "table" not in own:
            raise ConfigError(key, own[key], "needs table=<name>", "the command line")
    if "--write" in own and "table" in own:
        raise ConfigError("table", own["table"], "does not go with --write", "the command line")
    count = own.get("runs", "10")
    if not (count.isascii() and count.isdigit() and int(count) >= 1):
        raise ConfigError("runs", count, "must be an integer >= 1", "the command line")
    return own


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0; 1 if numbers differ; 2 for bad input; 130 after Ctrl-C.
    """
    from dd.cli.compose import compose_jobs

    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    try:
        own = options_of(arguments)
        _, settings = compose_jobs([f"{key}={own[key]}" for key in ("device", "results_dir") if key in own])
        from dd.packs.place import check_device

        check_device(settings)
        print(described(), flush=True)
        if "table" in own:
            return FAILED if check_table(own["table"], int(own.get("runs", "10")), settings) else 0
        from dd.packs.place import device_of

        runs = [run for line in SWEEPS for run in compose_jobs([*line, *SAMPLES])[0]]
        wrong, rows = check_arrangements(runs, settings, 0.0 if device_of(settings).type == "cpu" else CLOSE)
        if "--write" in own:
            write_reference(rows)
        wrong += check_reference(rows)
    except DDError as error:
        say(str(error))
        return USAGE
    except KeyboardInterrupt as interrupt:
        return exit_code(interrupt)
    return FAILED if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
