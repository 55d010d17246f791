"""How many worker processes there are, and which GPU each one has."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable

from dd.packs.place import gpu_count
from dd.runs.settings import Settings
from dd.workers import machine
from dd.workers.server import VISIBLE


def worker_count(settings: Settings, packs: int) -> int:
    """Processes to use: one a core on a CPU, one a GPU, never more than packs."""
    count = int(settings.n_jobs) if settings.n_jobs != "auto" else gpu_count(settings) or machine.cores()
    return min(count, max(packs, 1))


def gpus(settings: Settings) -> tuple[str, ...]:
    """What ``CUDA_VISIBLE_DEVICES`` calls each GPU of this process; none where runs are solved on a CPU.

    One GPU needs no name: every process sees it anyway.
    """
    count = gpu_count(settings)
    if count < 2:
        return ()
    named = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return tuple(named[:count] if len(named) >= count else map(str, range(count)))


def free_one(names: Iterable[str], taken: Iterable[str | None]) -> str | None:
    """The GPU that the fewest workers have; None where there is none to choose.

    >>> free_one(["0", "1"], ["0", None]), free_one([], [])
    ('1', None)
    """
    load = Counter(taken)
    return min(names, key=lambda name: load[name], default=None)
