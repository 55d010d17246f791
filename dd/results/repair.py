"""Verifying a table byte by byte, and mending it."""

from __future__ import annotations

import errno
from pathlib import Path

from dd.arrow import booleans, is_one_of, mask, strings
from dd.errors import StoreError
from dd.results import parts
from dd.results.commit import JOURNAL, Change, change, complete, leftovers, move_now, read_journal
from dd.results.lock import locked, sweep_up
from dd.results.order import fixes

KINDS = ("runs", "curves", "predictions")
DAMAGED = "_damaged"
"""Folder of a table that damaged files are moved to."""


def faults(folder: Path) -> list[str]:
    """What is wrong with a table, one line each; every byte of every part is read.

    Raises:
        StoreError: another process keeps the lock.
    """
    try:
        with locked(folder):
            return _faults(folder)
    except StoreError as error:
        if getattr(error.__cause__, "errno", None) not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return _faults(folder)  # a table that may only be read


def _faults(folder: Path) -> list[str]:
    found = []
    if (folder / JOURNAL).exists():
        found.append(f"{folder / JOURNAL}: a change was not completed")
    found += [f"{path}: left over" for path in leftovers(folder)]
    damaged = {part: error for kind in (*KINDS, "targets") for part, error in _damaged(folder / kind)}
    found += [f"{part}: {error.__cause__ or error}".splitlines()[0] for part, error in damaged.items()]
    if not damaged:
        found += [f"{fix.part}: {fix.fault}" for fix in fixes(folder)]
    return found


def _damaged(folder: Path) -> list[tuple[Path, StoreError]]:
    found = []
    for part in parts.parts_of(folder):
        try:
            parts.read(part)
        except FileNotFoundError:  # an older dd takes parts away without asking
            continue
        except StoreError as error:
            found.append((part, error))
    return found


def repair(folder: Path) -> list[str]:
    """Mend a table: complete what a killed process left, move damaged parts away, take out what is doubled.

    Rows are moved away with their curves or outputs if those are damaged, so that the same sweep computes all of them
    again.

    Returns:
        What has been done, one line each; empty if all was in order.

    Raises:
        StoreError: something cannot be written, or another process keeps the lock.
    """
    done = []
    with locked(folder) as lock:
        sweep_up(folder)
        if _journal_is_damaged(folder):
            done.append(_say_moved(folder / JOURNAL))
            move_now(folder / JOURNAL, folder / DAMAGED)
        elif complete(folder, lock):
            done.append("completed a change that a killed process left")
    with change(folder) as made:
        for path in leftovers(folder):
            made.remove(path)
            done.append(f"removed {path}: left over")
        done += _move_damaged(made, folder)
    with change(folder) as made:
        for fix in fixes(folder):
            fix.stage(made)
            done.append(
                f"removed {fix.part}: {fix.fault}" if fix.table is None else f"{fix.part}: took out {fix.fault}"
            )
    return done


def _journal_is_damaged(folder: Path) -> bool:
    try:
        read_journal(folder)
    except StoreError:
        return True
    return False


def _move_damaged(made: Change, folder: Path) -> list[str]:
    """Stage that damaged parts go, with all that belongs to them."""
    names = sorted({part.name for kind in KINDS for part, _ in _damaged(folder / kind)})
    targets = [part for part, _ in _damaged(folder / "targets")]
    gone = [path for name in names for kind in KINDS if (path := folder / kind / name).exists()] + targets
    for path in gone:
        made.move(path, folder / DAMAGED / path.parent.name)
    done = [_say_moved(path) for path in gone]
    lost = strings([part.stem for part in targets])
    for part in parts.parts_of(folder / "predictions") if targets else []:
        if part in gone:
            continue
        table = parts.read(part)
        rest = table.filter(mask(~booleans(is_one_of(table["targets_id"], lost))))
        if len(rest) < len(table):
            done.append(f"{part}: took out {len(table) - len(rest)} outputs, whose targets are damaged")
            if len(rest):
                made.write(part, parts.encode(rest))
            else:
                made.remove(part)
    return done


def _say_moved(path: Path) -> str:
    return f"moved {path} to {DAMAGED}"
