"""SIGINT, SIGTERM and SIGHUP end a sweep in one orderly way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals by which a person, a batch system or a closed terminal ends a program."""


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


@contextmanager
def orderly() -> Iterator[None]:
    """Raise :class:`Interrupted` at the first of these signals; further ones wait for the end of the clean-up.

    A signal that somebody else has taken, or that is ignored (as under ``nohup``), is left as it is. Only the main
    thread can take signals; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = (signal.SIG_DFL, signal.default_int_handler)
    numbers = [getattr(signal, name) for name in ENDING if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) in usual}

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
