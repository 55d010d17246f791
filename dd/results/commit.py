"""Changes of several files of a table that happen together or not at all, and one process at a time.

Files are staged under names that no reader picks up, brought to disk, and listed in a journal. The journal is written
to the file that goes with the lock, and renamed. Once the journal is there the change counts: whoever takes the lock
next completes what a killed process left. The journal can be carried out any number of times.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from dd.errors import StoreError
from dd.results.lock import NO_LOCKS, Lock, locked, reported
from dd.results.parts import KINDS, has_gone, is_part, repair_command
from dd.temporary import temporary_name

JOURNAL = "_journal.json"


class Change:
    """Files of one table that are written and removed together.

    Args:
        folder: the table.
        lock: its lock.
    """

    def __init__(self, folder: Path, lock: Lock) -> None:
        self.folder, self._lock = folder, lock
        self._renames: list[tuple[str, str]] = []
        self._moves: list[tuple[str, str]] = []
        self._removals: list[str] = []
        self._decided = False

    def write(self, path: Path, data: bytes) -> None:
        """Stage the new content of a file."""
        staged = path.with_name(temporary_name())
        self._renames.append((self._inside(staged), self._inside(path)))
        with reported(path):
            if path.parent != self.folder:
                path.parent.mkdir(exist_ok=True)
            _write(staged, data)

    def remove(self, path: Path) -> None:
        """Let a file go, if it is there."""
        self._removals.append(self._inside(path))

    def move(self, path: Path, folder: Path) -> None:
        """Move a file to another folder of the table, under a name that is free there."""
        with reported(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._moves.append((self._inside(path), self._inside(_free(folder / path.name))))

    def commit(self) -> None:
        """Make everything staged so far count.

        Raises:
            StoreError: something cannot be written. What was staged has gone, unless the journal counts already; then
                the next who takes the lock completes the change.
        """
        renames = [*self._renames, *self._moves]
        if not renames and not self._removals:
            return
        with reported(self.folder):
            _sync({(self.folder / staged).parent for staged, _ in self._renames})
            self._decide(json.dumps({"renames": renames, "removals": self._removals}).encode())
            _carry_out(self.folder, renames, self._removals, self._lock)
        self._renames, self._moves, self._removals, self._decided = [], [], [], False

    def _decide(self, text: bytes) -> None:
        """Write the journal: from here on the change counts."""
        journal = self.folder / JOURNAL
        try:
            _write(self._lock.journal, text, "r+b")
            try:
                os.replace(self._lock.journal, journal)
            except OSError:  # a network file system may have done what it could not confirm
                self._decided = _may_hold(journal, text)
                raise
        except FileNotFoundError as error:
            raise StoreError(
                f"results_dir={self.folder.parent}: this process stood still while it changed the table "
                f"{self.folder.name}, and another machine has gone on; start again"
            ) from error
        self._decided = True
        _sync({self.folder})

    def abandon(self) -> None:
        """Remove what was staged, unless it counts already; never raises, so that the reason is told."""
        if not self._decided:
            for staged, _ in self._renames:
                with suppress(OSError):
                    os.unlink(self.folder / staged)

    def _inside(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


@contextmanager
def change(folder: Path) -> Iterator[Change]:
    """Change a table: under its lock, after what a killed process left has been completed.

    Raises:
        StoreError: something cannot be written, or another process keeps the lock.
    """
    with locked(folder) as lock:
        complete(folder, lock)
        made = Change(folder, lock)
        try:
            yield made
            made.commit()
        except FileNotFoundError as error:
            made.abandon()
            raise StoreError(f"{error.filename} has gone while the table was changed; start again") from error
        except BaseException:
            made.abandon()
            raise


def complete(folder: Path, lock: Lock) -> bool:
    """Carry out the journal of a killed process, under the lock.

    Returns:
        Whether there was one.

    Raises:
        StoreError: it is damaged, or something cannot be written.
    """
    with reported(folder):
        found = read_journal(folder)
        if found is None:
            return False
        _carry_out(folder, *found, lock, again=True)
    return True


def read_journal(folder: Path) -> tuple[list[tuple[str, str]], list[str]] | None:
    """Renames and removals of the journal that a killed process has left; None if there is none.

    Raises:
        StoreError: it is not a journal.
        OSError: it cannot be read.
    """
    journal = folder / JOURNAL
    try:
        content = json.loads(journal.read_bytes())
        renames, removals = [(str(a), str(b)) for a, b in content["renames"]], [str(a) for a in content["removals"]]
        if any(Path(p).is_absolute() or ".." in Path(p).parts for p in [*removals, *(p for r in renames for p in r)]):
            raise ValueError("it leads out of the table")
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        mends = repair_command(folder.parent, folder.name)
        raise StoreError(f"results_dir={folder.parent}: {journal} is damaged; {mends} mends the table") from error
    return renames, removals


def move_now(path: Path, folder: Path) -> None:
    """Move a file of a table to another folder, under the lock.

    Raises:
        StoreError: it cannot be done.
    """
    with reported(folder):
        folder.mkdir(exist_ok=True)
        os.replace(path, _free(folder / path.name))
        _sync({path.parent, folder})


def leftovers(folder: Path) -> list[Path]:
    """Staged files and probes in a table's folders; under the lock, those are of processes that were killed."""
    found = []
    for place in (folder, *(folder / kind for kind in KINDS)):
        with suppress(FileNotFoundError, NotADirectoryError):
            names = sorted(os.listdir(place))
            found += [place / n for n in names if n.startswith("_") and (n.endswith(".tmp") or n.startswith("_probe"))]
    return [path for path in found if path.is_file() and not is_part(path.name)]


def _free(path: Path) -> Path:
    """The path, numbered if it is taken."""
    for number in count(1):
        free = path if number == 1 else path.with_name(f"{path.name}.{number}")
        if not free.exists():
            return free
    raise AssertionError


def _write(path: Path, data: bytes, mode: str = "xb") -> None:
    """Write a file and bring it to disk."""
    with open(path, mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _may_hold(path: Path, data: bytes) -> bool:
    """Whether a file may have this content."""
    try:
        return path.read_bytes() == data
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _carry_out(
    folder: Path, renames: Sequence[tuple[str, str]], removals: Sequence[str], lock: Lock, *, again: bool = False
) -> None:
    """Do what a journal says; what has been done already is passed over."""
    lost: OSError | None = None
    for staged, final in renames:
        try:
            os.replace(folder / staged, folder / final)
        except OSError as error:
            if not has_gone(error):
                raise
            if not (folder / final).exists():
                lost = error
    if not lock.mine():
        return  # who has taken the lock away completes the change
    if lost and not again:
        raise lost
    # a copy of a table may have a journal without the files that it names: nothing goes that has no heir
    gone = [] if lost else removals
    for path in gone:
        with suppress(FileNotFoundError):
            os.unlink(folder / path)
    _sync({(folder / path).parent for path in [*gone, *(path for rename in renames for path in rename)]})
    with suppress(FileNotFoundError):
        os.unlink(folder / JOURNAL)
    _sync({folder})


def _sync(folders: set[Path]) -> None:
    """Bring names to disk, where the system can."""
    for folder in sorted(folders):
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except PermissionError:  # Windows opens no folder
            continue
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in NO_LOCKS | {errno.EBADF, errno.EACCES}:
                raise
        finally:
            os.close(descriptor)
