"""This process where one worker is enough, else worker processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from dd.executors import Event, Executor
from dd.executors.inline import Inline
from dd.executors.processes import Processes
from dd.packs.place import device_of
from dd.packs.plan import Pack
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.workers import machine
from dd.workers.count import worker_count
from dd.workers.server import can_start_workers

CAREFUL = 0.5
"""Share of the available memory that a pack may be estimated at to be solved in the process that keeps the table."""


@dataclass(frozen=True)
class Auto(Executor):
    """Processes where there is more than one core, GPU or pack; else inline.

    One worker is enough for this process, unless a pack may not fit into the memory or has a time limit: what the
    kernel kills, or a run that hangs, must not take the table's keeper with it. A daemonic process has no children.
    """

    def plan(self, runs: Sequence[Run], settings: Settings) -> list[Pack]:
        """As worker processes want it."""
        return Processes().plan(runs, settings)

    def execute(self, packs: Sequence[Pack], settings: Settings) -> Generator[Event]:
        """Solve packs where it suits."""
        alone = multiprocessing.current_process().daemon or not can_start_workers()
        roomy = device_of(settings).type != "cpu" or all(fits(pack) for pack in packs)
        inline = alone or (worker_count(settings, len(packs)) == 1 and settings.timeout is None and roomy)
        return (Inline() if inline else Processes()).execute(packs, settings)


def fits(pack: Pack) -> bool:
    """Whether a pack is far from filling the memory."""
    room = machine.available()
    return room is None or pack.bytes <= CAREFUL * room
