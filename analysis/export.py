"""``python -m analysis.export``: curves for experiment trackers, as CSV, and a table as a Hugging Face data set."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from analysis.curves import X_AXES, axis_columns, x_axis
from analysis.exports import csv, huggingface, mlflow, tensorboard, trackio, wandb
from analysis.exports.tracks import Track, of_curves, of_runs
from analysis.names import file_stem
from analysis.tables import UnreadableTable, load_curves, load_runs, table_names
from dd.errors import USAGE, ConfigError, DDError

HELP = f"""\
python -m analysis.export tensorboard|wandb|mlflow|trackio|csv [name=...] [unit=...] [x=...] [out=...] [results_dir=...]
python -m analysis.export huggingface [name=...] [license=...] [out=...] [results_dir=...]

    tensorboard    event files
    wandb          offline runs of Weights & Biases; wandb sync uploads them
    mlflow         an SQLite file
    trackio        an SQLite file
    csv            one file, which needs no package
    huggingface    the parquet files of the table with a data set card, ready to upload

    name           the table, default if left out
    unit           curve (if left out): one tracker run a curve, its points as steps, its seeds as median, 10 % and
                   90 % quantile; run: one tracker run a run of dd, with its logged steps
    x              what the points of a curve are: any axis of whole numbers, for csv of any numbers; left out, the
                   first of {", ".join(X_AXES)} that varies
    out            a folder, exports/<format> if left out; for csv also a file that ends in .csv
    license        the licence of the data set as the Hugging Face Hub spells it, for example cc-by-4.0
    results_dir    folder of the tables, results if left out

A tracker is a package of its own: pip install 'dd-lab[tensorboard]' and so on. Nothing is sent over the network. What
is exported again replaces what was exported before.

Exit code 0, 2 for bad input or a table that cannot be read.
"""

KEYS = ("name", "unit", "x", "out", "license", "results_dir")
UNITS = ("curve", "run")
ORIGIN = "the command line"

MOST = 500
"""Tracker runs of one export: the pages of trackers take seconds at hundreds of runs, and break at thousands."""


@dataclass(frozen=True)
class Format:
    """One kind of export of tracks.

    Attributes:
        write: writes the tracks of a table into a folder, and returns the command or expression that reads them.
        packages: to be imported.
    """

    write: Callable[[str, Sequence[Track], Path], str]
    packages: tuple[str, ...] = ()


FORMATS = {
    "tensorboard": Format(tensorboard.write, ("tensorboard",)),
    "wandb": Format(wandb.write, ("wandb",)),
    "mlflow": Format(mlflow.write, ("mlflow", "sqlalchemy")),
    "trackio": Format(trackio.write, ("trackio",)),
    "csv": Format(csv.write),
}
CARD = "huggingface"


def parse(arguments: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Format and keys.

    Raises:
        ConfigError: they do not go together.
    """
    to, *rest = arguments or [""]
    if to not in (*FORMATS, CARD):
        raise ConfigError("format", to or None, f"must be one of {', '.join((*FORMATS, CARD))}", ORIGIN)
    keys: dict[str, str] = {}
    for argument in rest:
        key, equals, value = argument.partition("=")
        if key not in KEYS or not equals or not value:
            raise ConfigError(key, value or None, f"takes {'=..., '.join(KEYS)}=..., each with a value", ORIGIN)
        if key in (("unit", "x") if to == CARD else ("license",)):
            raise ConfigError(key, value, f"does not go with {to}", ORIGIN)
        keys[key] = value
    if keys.get("unit", "curve") not in UNITS:
        raise ConfigError("unit", keys["unit"], f"must be one of {', '.join(UNITS)}", ORIGIN)
    if "x" in keys and keys.get("unit") == "run":
        raise ConfigError("x", keys["x"], "goes with unit=curve only: the steps of a run are its x", ORIGIN)
    return to, keys


def tracks(rows: pd.DataFrame, table: str, x: str, to: str) -> list[Track]:
    """Tracks of a table's curves.

    Raises:
        ConfigError: the format cannot take this x, or the rows have no curve along it.
    """
    known = [c for c in axis_columns(rows) if pd.api.types.is_numeric_dtype(rows[c]) and rows[c].notna().any()]
    if x not in known:
        raise ConfigError("x", x, f"must be an axis of numbers, in table {table}: {', '.join(known)}", ORIGIN)
    if FORMATS[to].packages and (rows[x].dropna() % 1 != 0).any():
        raise ConfigError("x", x, "steps of a tracker are whole numbers; export csv takes any", ORIGIN)
    found = of_curves(rows, table, x)
    if not found:
        raise ConfigError("x", x, f"no row of table {table} has a positive value", ORIGIN)
    return found


def export(to: str, keys: dict[str, str]) -> str:
    """Write, and say what was written.

    Raises:
        ConfigError: bad input; the message names the key.
        UnreadableTable: naming the file.
    """
    results, table = Path(keys.get("results_dir", "results")), keys.get("name", "default")
    out = Path(keys.get("out", Path("exports") / to))
    rows = load_runs(results, table)
    if rows.empty:
        there = ", ".join(table_names(results)) or "none"
        raise ConfigError("name", table, f"no such table in {results}/; there are: {there}", ORIGIN)
    if to == CARD:
        out = out if "out" in keys else out / file_stem(table, {})
        try:
            told = huggingface.write(table, results, out, keys.get("license"))
        except FileExistsError:
            raise ConfigError("out", out, "must be empty, or a data set that was exported before", ORIGIN) from None
        return f"table {table}, {len(rows)} runs, is in {out}\nnext: {told}"
    for package in FORMATS[to].packages:
        spec = find_spec(package)
        if spec is None or spec.origin is None:  # without an origin it is a folder of data that has the name
            raise DDError(f"{to} needs the package {package}, which is not installed: pip install 'dd-lab[{to}]'")
    unit = keys.get("unit", "curve")
    if unit == "curve":
        found = tracks(rows, table, keys.get("x") or x_axis(rows), to)
    else:
        found = of_runs(rows, load_curves(results, table), table)
    if FORMATS[to].packages and len(found) > MOST:
        instead = "unit=curve joins widths and seeds" if unit == "run" else "csv takes any number"
        raise ConfigError("unit", unit, f"table {table} has {len(found)} {unit}s, at most {MOST}; {instead}", ORIGIN)
    told = FORMATS[to].write(table, found, out)
    noun = unit if len(found) == 1 else f"{unit}s"
    return f"{len(found)} {noun} of table {table}, {len(rows)} runs, are in {out}\nnext: {told}"


def main() -> int:
    """Run a command and return its exit code."""
    arguments = sys.argv[1:]
    if not arguments or set(arguments) & {"-h", "--help"}:
        print(HELP, end="")
        return 0 if arguments else USAGE
    try:
        print(export(*parse(arguments)))
    except (DDError, UnreadableTable, OSError) as error:
        print(f"export: {error}", file=sys.stderr)
        return USAGE
    return 0


if __name__ == "__main__":
    sys.exit(main())
