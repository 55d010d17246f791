"""What was made of files, kept while they stay as they are."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

SETTLED = 2e9
"""Nanoseconds after which a file's times tell one version from the next (some file systems count in seconds)."""

V = TypeVar("V")


@dataclass(frozen=True)
class _Held(Generic[V]):
    """A value and the state of its files when it was made.

    Attributes:
        paths: the files.
        stamps: of the files.
        settled: whether another version of the files would have another stamp.
        value: what was made of them.
    """

    paths: tuple[Path, ...]
    stamps: tuple[Hashable, ...]
    settled: bool
    value: V


class Kept(Generic[V]):
    """Values made of files, the last ones used.

    Args:
        most: values in memory at most.
        early: whether they are asked for while a command is composed, before its runs are identified.
    """

    def __init__(self, most: int, *, early: bool = False) -> None:
        self._most, self.early = most, early
        self._held: OrderedDict[Hashable, _Held[V]] = OrderedDict()
        self._lock = threading.RLock()
        _everything.append(self)

    def peek(self, key: Hashable) -> V | None:
        """The value of a key if it is there, without a look at its files."""
        held = self._held.get(key)
        return None if held is None else held.value

    def get(self, key: Hashable, paths: Sequence[Path], make: Callable[[], V]) -> V:
        """The value of a key, made anew where its files have changed.

        Args:
            key: what it is of.
            paths: the files that ``make`` reads.
            make: makes it.
        """
        with self._lock:
            stamps = tuple(_stamp(path) for path in paths)
            held = self._held.get(key)
            if held is None or held.stamps != stamps:
                start = time.time_ns()
                value = make()
                rest = bool(paths) and start - max(_changed(path) for path in paths) > SETTLED
                held = _Held(tuple(paths), stamps, rest, value)
            self._held[key] = held
            self._held.move_to_end(key)
            while len(self._held) > self._most:
                self._held.popitem(last=False)
            return held.value

    def look_again(self) -> None:
        """Forget what is of files that have changed, and of those that cannot tell whether they have."""
        with self._lock:
            for key, held in list(self._held.items()):
                if not held.settled or held.stamps != tuple(_stamp(path) for path in held.paths):
                    del self._held[key]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._held.clear()


_everything: list[Kept] = []


def look_again(*, early: bool = False) -> None:
    """Start a command: what is in memory of files that have changed, or may have, is forgotten.

    Args:
        early: only what is asked for while a command is composed.
    """
    for kept in _everything:
        if kept.early or not early:
            kept.look_again()


def _stamp(path: Path) -> Hashable:
    try:
        found = path.stat()
    except OSError:  # gone meanwhile: whoever reads it says so
        return (str(path),)
    return (str(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _changed(path: Path) -> float:
    """When a file was last touched; never settled where there is none."""
    try:
        found = path.stat()
    except OSError:
        return float("inf")
    return max(found.st_mtime_ns, found.st_ctime_ns)
