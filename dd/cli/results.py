"""``python -m dd.results``: verify, mend, compact and merge tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from dd.cli.terminal import ended, steady
from dd.errors import FAILED, ConfigError, StoreError
from dd.packs.content import mixture
from dd.results.compaction import compact
from dd.results.merging import merge
from dd.results.repair import faults, repair
from dd.results.store import Store
from dd.runs.settings import name_fault

HELP = """\
python -m dd.results check|repair|compact [name ...] [results_dir=results]
python -m dd.results merge <name or folder> <name or folder> ... [into=<name>] [results_dir=results]

    check      verify every byte of the named tables (of all, if none is named): damaged parts, doubled rows, points
               without a row, two contents of one data set, files left by killed processes; changes nothing
    repair     mend that: complete what a killed process left, move damaged parts to <table>/_damaged/, remove what is
               doubled or left over; the sweep's own command then computes what is missing
    compact    merge the parts of a table into few, which are faster to read
    merge      copy the rows of the other tables into the first one; with into=, the rows of all into that table, which
               need not be there yet. A folder names a table that was copied from elsewhere: merge default
               copied/default. Of two rows of one run, the one that has not failed counts, then the one with
               measure=full, then the one that the table has already, then that of the table named first

Exit code 0, 1 where check found something, 2 for bad input or a table that cannot be read or written.
"""

COMMANDS = ("check", "repair", "compact", "merge")
KEYS = ("results_dir", "into")
MOST = 10
"""Faults of one table that are printed."""


def parse(arguments: Sequence[str]) -> tuple[str, list[str], dict[str, str]]:
    """Command, names and keys.

    Raises:
        ConfigError: they do not go together.
    """
    origin = "the command line"
    command, *rest = arguments or [""]
    if command not in COMMANDS:
        raise ConfigError("command", command or None, f"must be one of {', '.join(COMMANDS)}", origin)
    keys: dict[str, str] = {}
    names: list[str] = []
    for argument in rest:
        key, equals, value = argument.partition("=")
        if equals and key in KEYS:
            keys[key] = value
        elif argument.startswith("-") or (equals and key.isidentifier()):
            raise ConfigError(key, value, f"no such key; there are {', '.join(KEYS)}", origin)
        else:
            names.append(argument)
    if "into" in keys and command != "merge":
        raise ConfigError("into", keys["into"], "goes with merge only", origin)
    if command == "merge" and len(names) < (1 if "into" in keys else 2):
        raise ConfigError("merge", " ".join(names) or None, "needs two tables, or one and into=<name>", origin)
    if "into" in keys and (fault := name_fault(keys["into"])):
        raise ConfigError("into", keys["into"], f"must be a plain folder name: {fault}", origin)
    return command, names, keys


def table(name: str, results_dir: Path) -> Store:
    """The table of a name, or of a folder.

    Raises:
        StoreError: there is none.
    """
    for folder in (results_dir / name, Path(name)):
        if (folder / "runs").is_dir():
            folder = folder if folder.name.strip(".") else folder.resolve()
            return Store(folder.parent, folder.name)
    raise StoreError(f"no table {results_dir / name}: it has no folder runs")


def all_tables(results_dir: Path) -> list[Store]:
    """Every table of a folder, by name.

    Raises:
        StoreError: there is none.
    """
    found = sorted(path.parent for path in results_dir.glob("*/runs") if not path.parent.name.startswith((".", "_")))
    if not found:
        raise StoreError(f"results_dir={results_dir}: there is no table")
    return [Store(results_dir, folder.name) for folder in found]


def check_one(store: Store) -> bool:
    """Print what is wrong with a table; whether all is in order."""
    found = faults(store.folder)
    if not found and (mixed := mixture([store])):
        found = [f"{mixed}; keep one of them by its column data_content"]
    count = f"{len(store.parts())} parts"
    print(f"{store.folder}: " + (f"{len(found)} faults in {count}" if found else f"in order ({count})"), flush=True)
    for fault in found[:MOST]:
        print(f"    {fault}")
    if len(found) > MOST:
        print(f"    and {len(found) - MOST} more")
    return not found


def repair_one(store: Store) -> None:
    """Mend a table and print what was done."""
    done = repair(store.folder)
    print(f"{store.folder}: " + (f"{len(done)} things mended" if done else "nothing to mend"), flush=True)
    for line in done:
        print(f"    {line}")
    if any(line.startswith("moved") or "took out" in line for line in done):
        print("    the sweep's own command computes the runs that are missing now")


def compact_one(store: Store) -> None:
    """Merge the parts of a table and print how many there are."""
    before = len(store.parts())
    store.open()
    compact(store.folder)
    print(f"{store.folder}: {before} parts before, {len(store.parts())} now", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0; 1 if check found something; 2 for bad input or a table that cannot be read or written; 130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if {"-h", "--help"} & set(arguments):
        print(HELP)
        return 0
    return ended(lambda: _run(arguments))


def _run(arguments: Sequence[str]) -> int:
    """Do what the arguments ask for; returns the exit code."""
    command, names, keys = parse(arguments)
    results_dir = Path(keys.get("results_dir", "results"))
    if command == "merge":
        named = [table(name, results_dir) for name in names]
        into, sources = (Store(results_dir, keys["into"]), named) if "into" in keys else (named[0], named[1:])
        if mixed := mixture([*sources, *([into] if into.parts() else [])]):
            raise StoreError(f"into={into.name}: {mixed}; one table holds one content of a data set")
        copied = merge(sources, into)
        origin = ", ".join(str(source.folder) for source in sources)
        print(f"{into.folder}: {copied} rows copied from {origin}, {into.read(['run_id']).num_rows} there now")
        return 0
    stores = [table(name, results_dir) for name in names] or all_tables(results_dir)
    if command == "check":
        good = [check_one(store) for store in stores]
        return 0 if all(good) else FAILED
    for store in stores:
        repair_one(store) if command == "repair" else compact_one(store)
    return 0


def program() -> NoReturn:
    """What ``python -m dd.results`` does."""
    steady()
    sys.exit(main())
