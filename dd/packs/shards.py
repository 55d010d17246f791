"""Shards: a sweep cut into parts of about equal work, each computed by a command of its own."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace

from dd.packs.place import ON_CPU, Place
from dd.packs.plan import plan
from dd.runs.run import Run
from dd.runs.shard import Shard

EACH = 4
"""Packs of a shard at least, where there are so many runs."""


def runs_of(shard: Shard, runs: Sequence[Run], place: Place) -> list[Run]:
    """A shard's runs of a sweep.

    The sweep is planned, in packs small enough that each shard gets several. They are dealt, largest first, to the
    shard that has the least work so far. The plan is the one for a CPU whatever the machine, and does not look at what
    the table has: all commands cut a sweep alike.

    Args:
        shard: which one.
        runs: the whole sweep, each run once.
        place: what is measured, for the estimates.
    """
    work = [(0.0, number) for number in range(1, shard.count + 1)]  # a heap: the shard with the least work first
    mine: list[Run] = []
    whole, runs = Place(ON_CPU, place.measure), sorted(runs, key=lambda run: run.run_id)
    packs = plan(runs, whole)
    if len(packs) < EACH * shard.count:
        each = EACH * shard.count
        seconds, count = sum(pack.seconds for pack in packs), sum(len(pack.runs) for pack in packs)
        small = replace(ON_CPU, runs=min(ON_CPU.runs, -(-count // each)), seconds=min(ON_CPU.seconds, seconds / each))
        packs = plan(runs, replace(whole, limits=small))
    for pack in packs:
        load, number = work[0]
        heapq.heapreplace(work, (load + pack.seconds, number))
        if number == shard.number:
            mine += pack.runs
    return mine
