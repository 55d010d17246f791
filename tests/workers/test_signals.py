"""Signals before, during and after a sweep; dd.workers.signals."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from dd.workers.signals import Interrupted, exit_code, orderly
from tests.faults.surroundings import LONG, alive, descendants, start, wait_for

MOMENTS = [0.2, 0.5, 0.8, 1.1, 1.4, 1.7, 2.0] if LONG else [0.3, 1.0]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_program_that_starts_ends_without_a_word(tmp_path: Path, moment: float, name: str) -> None:
    """While modules are imported and a sweep is composed."""
    process = start(["-m", "width=range(20,200,20)", "optimizer=sgd", "steps=200000", "n_jobs=2"], tmp_path)
    time.sleep(moment)
    below = descendants(process.pid)
    os.killpg(process.pid, getattr(signal, name))
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + getattr(signal, name), errors
    assert "Traceback" not in errors
    wait_for(lambda: not any(map(alive, below)), 8)


def signalled(number: int, later: list[int]) -> None:
    """Work that a signal meets, and whose clean-up meets more."""
    with orderly(), ExitStack() as cleaning:
        for other in later:
            cleaning.callback(signal.raise_signal, other)
        signal.raise_signal(number)


def test_the_first_signal_raises_and_the_others_wait() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(Interrupted) as caught:
            signalled(signal.SIGTERM, [*before])
        assert exit_code(caught.value) == 143
        assert exit_code(KeyboardInterrupt()) == 130
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_somebody_elses_handler_stays() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with orderly():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
