"""The choice between this process and worker processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator, Sequence

from dd.executors import machine
from dd.executors.inline import execute_inline
from dd.executors.processes import Event, execute_processes
from dd.executors.server import can_start_workers
from dd.packs.place import device_of
from dd.packs.plan import Pack
from dd.runs.settings import Settings

CAREFUL = 0.5
"""Share of the available memory that a pack may be estimated at to be solved in the process that keeps the table."""


def execute(packs: Sequence[Pack], settings: Settings) -> Generator[Event]:
    """Solve packs where it suits; yields as :func:`dd.executors.processes.execute_processes`.

    One worker is enough for this process, unless a pack may not fit into the memory or has a time limit: what the
    kernel kills, or a run that hangs, must not take the table's keeper with it. A daemonic process has no children.
    """
    n_jobs = worker_count(settings, packs)
    alone = multiprocessing.current_process().daemon or not can_start_workers()
    roomy = device_of(settings).type != "cpu" or all(fits(pack) for pack in packs)
    if alone or (n_jobs == 1 and settings.timeout is None and roomy):
        return execute_inline(packs, settings)
    return execute_processes(packs, settings, n_jobs)


def worker_count(settings: Settings, packs: Sequence[Pack]) -> int:
    """Processes to use: as many as cores on a CPU, one on a GPU, never more than packs."""
    if settings.n_jobs != "auto":
        return min(int(settings.n_jobs), max(len(packs), 1))
    if device_of(settings).type != "cpu":
        return 1
    return min(machine.cores(), max(len(packs), 1))


def fits(pack: Pack) -> bool:
    """Whether a pack is far from filling the memory."""
    room = machine.available()
    return room is None or pack.bytes <= CAREFUL * room
