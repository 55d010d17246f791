"""One process at a time changes a table, on one machine and on several.

Two things are held together:

- ``_lock``, a file locked by ``flock``. Between processes of one machine the kernel's lock works on any file system
  that has locks, and a killed process lets it go. Other machines may not see the lock (BeeGFS and Lustre as they are
  often mounted, NFS with ``nolock`` or ``local_lock``, FUSE), or the file system has no locks at all.
- ``_held``, a folder that names its holder. The holder prepares the folder under another name and renames it to
  ``_held``. The server of the file system renames a folder onto nothing or onto an empty folder only, so one process of
  all machines succeeds. The holder's file in it is named by a random token: taking it away can never hit another
  holder.

A process that is killed leaves its ``_held``. The next process of the same machine knows by ``flock`` that the holder
is dead. Processes of other machines watch the holder's file, which a living holder touches every :data:`BEAT` seconds,
and take it away after :data:`LEASE` seconds without a touch. No clocks of two machines are compared.

A holder that stood still for so long and goes on has lost the lock. Its change never counts: a change counts once its
journal has left ``_held`` by a rename (:mod:`dd.results.commit`), and who takes the lock away removes the journal
first.

Last, the folders of parts are touched. A client of a network file system that has kept an old listing or old
attributes drops them then, so whoever holds the lock sees the table as the last holder left it.
"""

from __future__ import annotations

import _thread
import errno
import hashlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dd.errors import StoreError
from dd.results.parts import KINDS, has_gone
from dd.temporary import host, temporary_name

LOCK, HELD = "_lock", "_held"

WAIT = 60.0
"""Seconds to wait for one other process that changes the table."""

LEASE, BEAT = 30.0, 5.0
"""Seconds without a touch after which a holder on another machine counts as dead, and seconds between two touches."""

NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
"""What file systems without locks answer."""

TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.EPERM, errno.EACCES, errno.EBUSY}
"""What file systems answer where a folder is to be renamed onto one that is not empty."""


class Lock:
    """The lock of a table, while a process holds it.

    Attributes:
        journal: an empty file that goes with the lock.

    Args:
        folder: the table.
        token: names the holder.
    """

    def __init__(self, folder: Path, token: str) -> None:
        self._held, self._token = folder / HELD, token
        self.journal = self._held / f"{token}.json"
        self._over = threading.Event()

    def start(self) -> None:
        """Begin to touch the holder's file."""
        # a Thread would be a weak reference in a set; a signal that ends this process is lost while one is cleared
        _thread.start_new_thread(self._beat, ())

    def mine(self) -> bool:
        """Whether no other machine has taken the lock away; the server is asked, whatever this machine remembers."""
        try:
            os.utime(self._held / self._token)
        except OSError as error:
            if not has_gone(error):
                raise
            return False
        return True

    def release(self) -> None:
        """Let the lock go."""
        self._over.set()
        with suppress(OSError):  # left behind, as a killed process does
            _end(self._held, self._token)

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            with suppress(OSError):
                self.mine()


@contextmanager
def locked(folder: Path, wait: float | None = None) -> Iterator[Lock]:
    """Hold the lock of a table.

    Args:
        folder: the table.
        wait: seconds to wait for one other process.

    Raises:
        StoreError: another process holds the lock for longer than that, or it cannot be written.
    """
    path, limit = folder / LOCK, WAIT if wait is None else wait
    with reported(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        with reported(path):
            alone = _flock(descriptor, folder, limit)
            with suppress(OSError):  # only for the message of those who wait
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            lock = _take(folder, domain(descriptor), alone, limit)
        try:
            lock.start()
            for kind in KINDS:
                with suppress(OSError):
                    os.utime(folder / kind)
            yield lock
        finally:
            lock.release()
    finally:
        os.close(descriptor)


def domain(descriptor: int) -> str:
    """Names where ``flock`` of an open file is seen by every process: one start of one kernel, and one mount."""
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        machine = socket.gethostname()
    return hashlib.sha256(f"{machine} {os.fstat(descriptor).st_dev}".encode()).hexdigest()[:12]


def sweep_up(folder: Path) -> None:
    """Remove what processes have left that were killed while they waited for the lock."""
    for path in folder.glob("_*.tmp"):
        if path.is_dir():
            aside = folder / temporary_name()
            with suppress(OSError):
                os.rename(path, aside)  # whole: a process that still waits makes its folder anew
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Tell errors of writing as one line.

    Raises:
        StoreError: something cannot be written.
    """
    try:
        yield
    except OSError as error:
        where = error.filename if isinstance(error.filename, str) else path
        raise StoreError(f"cannot write {where}: {error.strerror or error}") from error


def _flock(descriptor: int, folder: Path, wait: float) -> bool:
    """Lock a file for this machine; False where the file system has no locks."""
    try:
        import fcntl
    except ImportError:
        return False
    holder, until, pause = "", time.monotonic() + wait, 0.001
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in NO_LOCKS:
                return False
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EINTR):
                raise
        else:
            return True
        found = " ".join(os.pread(descriptor, 200, 0).decode(errors="replace").split())
        if found != holder:
            holder, until = found, time.monotonic() + wait
        if time.monotonic() >= until:
            raise _kept(folder, holder, wait)
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def _take(folder: Path, own: str, alone: bool, wait: float) -> Lock:
    """Take the lock between machines; ``alone`` says that no other process of ``own`` can hold it."""
    token = f"{own}.{os.getpid()}.{os.urandom(6).hex()}.{host()}"
    held, prepared = folder / HELD, _prepared(folder, token)
    seen: tuple[str, int] | None = None
    still, until, pause = 0.0, time.monotonic() + wait, 0.001
    try:
        while refusal := _renamed(prepared, held):
            if has_gone(refusal):  # another machine has swept up
                prepared = _prepared(folder, token)
                continue
            found = _holder(held)
            if found != seen:
                if (found and found[0]) != (seen and seen[0]):
                    until = time.monotonic() + wait
                seen, still = found, 0.0
            if found and ((alone and found[0].startswith(f"{own}.")) or still >= LEASE):
                _end(held, found[0])
                continue
            if time.monotonic() >= until:
                raise refusal if found is None else _kept(folder, _described(found[0]), wait)
            time.sleep(pause)
            # counted are looks, not the clock: while the server did not answer, nobody could touch anything
            still, pause = still + pause, min(2 * pause, 0.05)
    except BaseException:
        shutil.rmtree(prepared, ignore_errors=True)
        raise
    return Lock(folder, token)


def _prepared(folder: Path, token: str) -> Path:
    """A new folder that names a holder, under a name of its own: nothing is remembered of that name."""
    while True:
        prepared = folder / temporary_name()
        os.mkdir(prepared)
        try:
            for name in (token, f"{token}.json"):
                os.close(os.open(prepared / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        except OSError as error:
            if not has_gone(error):
                raise
        else:
            return prepared


def _renamed(prepared: Path, held: Path) -> OSError | None:
    """Rename a folder to ``held``, if that is free; what the file system says if it is not."""
    with suppress(OSError):
        os.rmdir(held)  # empty: a process was killed while it let the lock go
    try:
        os.rename(prepared, held)
    except OSError as error:
        if not has_gone(error) and error.errno not in TAKEN:
            raise
        return error
    return None


def _holder(held: Path) -> tuple[str, int] | None:
    """Who holds the lock, and when they have touched their file last; None if nobody does."""
    try:
        for token in os.listdir(held):
            if not token.startswith(".") and not token.endswith(".json"):
                with open(held / token, "rb") as file:  # opening asks the server
                    return token, os.fstat(file.fileno()).st_mtime_ns
    except OSError as error:
        if not has_gone(error):
            raise
    return None


def _end(held: Path, token: str) -> None:
    """Take the lock away from one holder, whoever holds it now."""
    for name in (f"{token}.json", token):
        try:
            os.unlink(held / name)
        except OSError as error:
            if not has_gone(error):
                raise
    with suppress(OSError):
        os.rmdir(held)


def _described(token: str) -> str:
    _, process, _, machine = token.split(".", 3)
    return f"process {process} on {machine}"


def _kept(folder: Path, holder: str, wait: float) -> StoreError:
    return StoreError(
        f"results_dir={folder.parent}: {holder or 'another process'} has been changing the table {folder.name} for "
        f"more than {wait:g} s; wait until it ends, or end it"
    )
