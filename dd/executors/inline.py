"""Packs one after the other in this process."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from dd.errors import DDError, in_one_line
from dd.executors.solving import Lost, PackLost, lost, solve_and_store
from dd.packs.plan import Pack
from dd.packs.rows import Row
from dd.runs.settings import Settings


def execute_inline(packs: Sequence[Pack], settings: Settings) -> Generator[tuple[Pack, Row | Lost]]:
    """Solve packs; yields (pack, row) for each run when its pack is written, or what was lost with a pack.

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
