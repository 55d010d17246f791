"""Packs one after the other in this process."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from dd.errors import DDError, in_one_line
from dd.executors import Event, Executor
from dd.packs.plan import Pack
from dd.packs.rows import Row
from dd.runs.settings import Settings
from dd.workers.solving import PackLost, lost, solve_and_store


@dataclass(frozen=True)
class Inline(Executor):
    """Packs one after the other in this process: what a debugger or a profiler sees."""

    def execute(self, packs: Sequence[Pack], settings: Settings) -> Generator[Event]:
        """Solve packs; the events of a pack come when it is written.

        Raises:
            DDError: a part could not be written, or data are no longer there.
        """
        waiting = list(reversed(packs))
        while waiting:
            pack = waiting.pop()
            rows: list[Row] = []
            try:
                solve_and_store(pack, settings, rows.append)
            except DDError:
                raise
            except Exception as error:
                what, again = lost(pack, PackLost(in_one_line(error)), set())
                waiting += reversed(again)
                yield pack, what
                continue
            for row in rows:
                yield pack, row
