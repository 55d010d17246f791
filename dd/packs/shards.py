"""A sweep cut into parts of about equal work: shards, elements of a job array."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from dd.garbage import uncollected
from dd.packs.place import ON_CPU, Place
from dd.packs.plan import Pack, packed, weighed
from dd.runs.run import Run
from dd.runs.shard import Shard

EACH = 4
"""Packs of a part at least, where there are so many runs."""


def plan_for(parts: int, runs: Sequence[Run], place: Place) -> list[Pack]:
    """Plan packs small enough that each of several parts gets several, where there are so many runs."""
    needs, each = weighed(runs, place), EACH * parts
    packs = packed(needs, place)
    if len(packs) >= each:
        return packs
    seconds, count, limits = sum(pack.seconds for pack in packs), sum(len(pack.runs) for pack in packs), place.limits
    small = replace(limits, runs=min(limits.runs, -(-count // each)), seconds=min(limits.seconds, seconds / each))
    return packed(needs, replace(place, limits=small))


class Work(Protocol):
    """What takes time, as a pack does."""

    @property
    def seconds(self) -> float:
        """Estimated."""


W = TypeVar("W", bound=Work)


def dealt(packs: Sequence[W], parts: int) -> list[list[W]]:
    """Deal packs, in their order, each to the part that has the least work so far.

    Args:
        packs: largest first.
        parts: how many; some stay empty where there are fewer packs.
    """
    hands: list[list[W]] = [[] for _ in range(parts)]
    work = [(0.0, number) for number in range(parts)]  # a heap: the part with the least work first
    for pack in packs:
        load, number = work[0]
        heapq.heapreplace(work, (load + pack.seconds, number))
        hands[number].append(pack)
    return hands


def runs_of(shard: Shard, runs: Sequence[Run], place: Place) -> list[Run]:
    """A shard's runs of a sweep.

    The plan is the one for a CPU whatever the machine, and does not look at what the table has: all commands cut a
    sweep alike.

    Args:
        shard: which one.
        runs: the whole sweep, each run once.
        place: what is measured, for the estimates.
    """
    with uncollected():
        whole = plan_for(shard.count, sorted(runs, key=lambda run: run.run_id), Place(ON_CPU, place.measure))
    return [run for pack in dealt(whole, shard.count)[shard.number - 1] for run in pack.runs]
