"""Faults at the steps of a write: every call that changes the file system is counted, and one of them fails or kills.

Nothing in dd knows of this: the calls are replaced in the process that is to suffer.
"""

from __future__ import annotations

import builtins
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

CALLS = ("replace", "fsync", "unlink", "mkdir", "ftruncate")


class HalfWritten:
    """A file whose writes are two steps, so that a fault meets it half written."""

    def __init__(self, file: Any, step: Callable[[], None]) -> None:
        self._file, self._step = file, step

    def write(self, data: bytes) -> int:
        self._file.write(data[: len(data) // 2])
        self._file.flush()
        self._step()
        self._file.write(data[len(data) // 2 :])
        return len(data)

    def __enter__(self) -> HalfWritten:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def faults(at: int | None, fault: Callable[[], None], *, lasting: bool = False) -> Iterator[list[int]]:
    """Have step ``at`` (from 1) meet a fault, and all that follow if it is lasting.

    Yields:
        A list whose only element counts the steps.
    """
    count = [0]

    def step() -> None:
        count[0] += 1
        if at is not None and (count[0] == at or (lasting and count[0] > at)):
            fault()

    plain: dict[str, Any] = {name: getattr(os, name) for name in CALLS}
    plain_open = builtins.open

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            step()
            return call(*arguments, **options)

        return wrapped

    def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not set("wax+") & set(mode):
            return plain_open(file, mode, *arguments, **options)
        step()
        return HalfWritten(plain_open(file, mode, *arguments, **options), step)

    for name, call in plain.items():
        setattr(os, name, counted(call))
    builtins.open = opened  # type: ignore[assignment]
    try:
        yield count
    finally:
        builtins.open = plain_open
        for name, call in plain.items():
            setattr(os, name, call)


def kill() -> None:
    """End this process as the kernel does, without any clean-up."""
    os.kill(os.getpid(), signal.SIGKILL)
