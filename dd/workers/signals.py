"""SIGINT, SIGTERM and SIGHUP end a sweep in one orderly way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

ENDING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2")
"""Signals by which a person, a batch system (SIGUSR2: before a time limit) or a closed terminal ends a program."""


CHILDREN: list[subprocess.Popen[bytes]] = []
"""Processes that end with this one when it leaves at once."""


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end; like Ctrl-C it passes through ``except Exception``.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """What a shell calls the end by a signal: 128 and its number."""
    return 128 + int(getattr(interrupt, "number", signal.SIGINT))


def leave(code: int) -> NoReturn:
    """End this program and its children; taking ten thousand runs apart first would take half a second."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    _end(code)


def _end(code: int) -> NoReturn:
    for child in CHILDREN:
        child.kill()
    os._exit(code)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    """End this process and its children."""
    _end(128 + number)


def leave_at_once() -> None:
    """From now on these signals end the program without a word, but for what :func:`orderly` guards.

    While modules are imported and a sweep is planned there is nothing to bring to order, and an exception in the middle
    of an import may be swallowed, or told in fifty lines. For programs of dd alone: their callers' handlers stay.
    """
    for number in _numbers():
        if signal.getsignal(number) in USUAL:
            signal.signal(number, _leave)


USUAL = (signal.SIG_DFL, signal.default_int_handler, _leave)
"""Handlers that nobody has chosen."""


def _numbers() -> list[int]:
    return [getattr(signal, name) for name in ENDING if hasattr(signal, name)]


@contextmanager
def held_back() -> Iterator[None]:
    """What is started here hears none of these signals until :func:`ignore_all`; this process hears them afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _numbers())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_all() -> None:
    """A message to the whole group is the business of the process that started this one."""
    for number in _numbers():
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _numbers())


@contextmanager
def orderly() -> Iterator[None]:
    """Raise :class:`Interrupted` at the first of these signals; further ones wait for the end of the clean-up.

    A signal that somebody else has taken, or that is ignored (as under ``nohup``), is left as it is. Only the main
    thread can take signals; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _numbers() if signal.getsignal(number) in USUAL}

    def end(number: int, frame: FrameType | None) -> NoReturn:
        for taken in before:
            signal.signal(taken, signal.SIG_IGN)
        raise Interrupted(number)

    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
