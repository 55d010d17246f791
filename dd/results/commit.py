"""Changes of several files of a table that happen together or not at all, and one process at a time.

Files are staged under names that no reader picks up, brought to disk, and listed in a journal. Once the journal is
there the change counts: whoever takes the lock next completes what a killed process left. The journal can be carried
out any number of times.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from dd.errors import StoreError
from dd.results.parts import is_part, repair_command

LOCK, JOURNAL = "_lock", "_journal.json"
KINDS = ("predictions", "curves", "targets", "runs")
"""Folders of a table's parts."""

WAIT = 60.0
"""Seconds to wait for another process that changes the table."""

NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
"""What file systems without locks answer: there, one process at a time is the user's business."""


class Change:
    """Files of one table that are written and removed together.

    Args:
        folder: the table.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._renames: list[tuple[str, str]] = []
        self._moves: list[tuple[str, str]] = []
        self._removals: list[str] = []
        self._decided = False

    def write(self, path: Path, data: bytes) -> None:
        """Stage the new content of a file."""
        staged = path.with_name(f"_{path.name}.{os.getpid()}.tmp")
        self._renames.append((self._inside(staged), self._inside(path)))
        with _reported(path):
            if path.parent != self.folder:
                path.parent.mkdir(exist_ok=True)
            _write(staged, data)

    def remove(self, path: Path) -> None:
        """Let a file go, if it is there."""
        self._removals.append(self._inside(path))

    def move(self, path: Path, folder: Path) -> None:
        """Move a file to another folder of the table, under a name that is free there."""
        with _reported(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._moves.append((self._inside(path), self._inside(_free(folder / path.name))))

    def commit(self) -> None:
        """Make everything staged so far count.

        Raises:
            StoreError: something cannot be written. What was staged has gone, unless the journal counts already; then
                the next who takes the lock completes the change.
        """
        renames = [*self._renames, *self._moves]
        steps = len(renames) + len(self._removals)
        if not steps:
            return
        with _reported(self.folder):
            if steps > 1:  # one alone needs no journal
                _sync({(self.folder / staged).parent for staged, _ in self._renames})
                self._decide(json.dumps({"renames": renames, "removals": self._removals}).encode())
            _carry_out(self.folder, renames, self._removals)
        self._renames, self._moves, self._removals, self._decided = [], [], [], False

    def _decide(self, text: bytes) -> None:
        """Write the journal: from here on the change counts."""
        staged = self.folder / f"_{JOURNAL}.{os.getpid()}.tmp"
        try:
            _write(staged, text)
            self._decided = True
            os.replace(staged, self.folder / JOURNAL)
        except OSError:
            self._decided = False
            with suppress(OSError):
                os.unlink(staged)
            raise
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
    with locked(folder):
        complete(folder)
        made = Change(folder)
        try:
            yield made
            made.commit()
        except FileNotFoundError as error:
            made.abandon()
            raise StoreError(f"{error.filename} has gone while the table was changed; start again") from error
        except BaseException:
            made.abandon()
            raise


def complete(folder: Path) -> bool:
    """Carry out the journal of a killed process, under the lock.

    Returns:
        Whether there was one.

    Raises:
        StoreError: it is damaged, or something cannot be written.
    """
    with _reported(folder):
        found = read_journal(folder)
        if found is None:
            return False
        _carry_out(folder, *found, again=True)
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
    with _reported(folder):
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


@contextmanager
def locked(folder: Path, wait: float | None = None) -> Iterator[None]:
    """Hold the lock of a table, where the file system has locks.

    Raises:
        StoreError: another process holds it for longer than ``wait`` seconds, or it cannot be written.
    """
    path = folder / LOCK
    with _reported(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        with _reported(path):
            _acquire(descriptor, folder, WAIT if wait is None else wait)
        with suppress(OSError):  # only for the message of those who wait
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, folder: Path, wait: float) -> None:
    try:
        import fcntl
    except ImportError:
        return
    until, pause = time.monotonic() + wait, 0.001
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                return
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EINTR):
                raise
        else:
            return
        if time.monotonic() >= until:
            holder = " ".join(os.pread(descriptor, 200, 0).decode(errors="replace").split()) or "another process"
            raise StoreError(
                f"results_dir={folder.parent}: {holder} has been changing the table {folder.name} for more than "
                f"{wait:g} s; wait until it ends, or end it"
            )
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else path
        raise StoreError(f"cannot write {where}: {error.strerror or error}") from error


def _free(path: Path) -> Path:
    """The path, numbered if it is taken."""
    for number in count(1):
        free = path if number == 1 else path.with_name(f"{path.name}.{number}")
        if not free.exists():
            return free
    raise AssertionError


def _write(path: Path, data: bytes) -> None:
    """Write a file and bring it to disk."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _carry_out(
    folder: Path, renames: Sequence[tuple[str, str]], removals: Sequence[str], *, again: bool = False
) -> None:
    """Do what a journal says; what has been done already is passed over."""
    for staged, final in renames:
        try:
            os.replace(folder / staged, folder / final)
        except FileNotFoundError:
            # done before, or, on a file system without locks, by another process at this moment
            if not again and not (folder / final).exists():
                raise
    for path in removals:
        with suppress(FileNotFoundError):
            os.unlink(folder / path)
    _sync({(folder / path).parent for path in [*removals, *(path for rename in renames for path in rename)]})
    if again or len(renames) + len(removals) > 1:
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
