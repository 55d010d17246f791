"""One live bar for the whole sweep on a terminal, plain lines off it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LINES = 10
"""Off a terminal, about so many lines are printed for a sweep ..."""

SILENCE = 60.0
"""... and one after so many seconds without."""


def _in_notebook() -> bool:
    """Whether a notebook can show a bar: that of rich is a widget there."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell" and find_spec("ipywidgets") is not None


class Progress:
    """Counts finished, failed and diverged runs. Use as a context manager; writes to standard error.

    Args:
        total: runs to do.
        work: what they cost together, in any unit; the time left goes by it.
    """

    def __init__(self, total: int, work: float) -> None:
        self.total, self.work = total, max(work, 1e-9)
        self.done = self.failed = self.diverged = 0
        self.worked = 0.0
        self.start = time.perf_counter()
        self._bar: Bar | None = None
        self._next_line = 0.0
        self._last_line = self.start

    def __enter__(self) -> Progress:
        if sys.stderr.isatty() or _in_notebook():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                TextColumn("runs"),
                BarColumn(),
                TextColumn("{task.fields[runs]}"),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task("runs", total=self.work, runs=f"0/{self.total}", note="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def note(self) -> str:
        """Failures and divergences so far, empty if there are none."""
        parts = [f"{n} {what}" for n, what in ((self.failed, "failed"), (self.diverged, "diverged")) if n]
        return ", ".join(parts)

    def forget(self, statuses: Sequence[str], work: float) -> None:
        """Take runs back that were counted but will be computed again, each of the same cost."""
        self.done -= len(statuses)
        self.worked -= work * len(statuses)
        self.failed -= sum(s == "failed" for s in statuses)
        self.diverged -= sum(s == "diverged" for s in statuses)

    def update(self, status: str, work: float) -> None:
        """Count one finished run and what it cost."""
        self.done += 1
        self.worked += work
        now = time.perf_counter()
        self.failed += status == "failed"
        self.diverged += status == "diverged"
        if self._bar:
            runs = f"{self.done}/{self.total}"
            self._bar.update(self._task, completed=self.worked, runs=runs, note=self.note())
        elif self.done == self.total or self.done >= self._next_line or now - self._last_line >= SILENCE:
            elapsed = now - self.start
            left = 0.0 if self.done == self.total else elapsed * max(self.work / max(self.worked, 1e-9) - 1, 0.0)
            note = f", {self.note()}" if self.note() else ""
            print(
                f"dd: {self.done}/{self.total} runs{note}, {elapsed:.0f} s, {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
            self._next_line = self.done + max(1.0, self.total / LINES)
            self._last_line = now
