"""Training the runs of a pack: which are trained together, in which order, and what happens when one raises."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator

from dd.packs.plan import families
from dd.packs.prepare import Job
from dd.packs.rows import without_memory
from dd.trainers.table import TRAINERS


def train_jobs(jobs: list[Job]) -> Iterator[Job]:
    """Train runs, those with the same trainer and group key together.

    A group that raises is split, until the run to blame is alone, or memory suffices. A group's time is shared out by
    the runs' estimates.

    Yields:
        Jobs as they end, each with its result.
    """
    followers: dict[int, list[Job]] = {}
    groups = _groups(_leaders(jobs, followers))
    while groups:
        members = groups.pop(0)
        everybody = [job for leader in members for job in (leader, *followers[id(leader)])]
        start = time.perf_counter()
        error = _train(members, followers)
        _share_out(time.perf_counter() - start, everybody)
        if error is None or len(everybody) == 1:
            if error:
                members[0].result = error
            yield from everybody
        elif len(members) > 1:  # memory may be short, or one run to blame: halves get their chance
            middle = len(members) // 2
            groups = _groups(members[:middle]) + _groups(members[middle:]) + groups
        else:  # the budgets before the error may have gone well
            members[0].result = error
            yield members[0]
            groups = _groups(_leaders(followers[id(members[0])], followers)) + groups


def _leaders(jobs: Iterable[Job], followers: dict[int, list[Job]]) -> list[Job]:
    """Of runs that differ in their budgets alone the one with the largest; the others are noted as its followers."""
    by_run = {job.run: job for job in jobs}
    leaders = []
    for first, *rest in families(by_run):
        leader = by_run[first]
        leader.task.shorter = tuple(rest)
        followers[id(leader)] = [by_run[run] for run in rest]
        leaders.append(leader)
    return leaders


def _groups(jobs: list[Job]) -> list[list[Job]]:
    """Jobs that are trained together; closed forms first, as they hold decompositions."""
    found: dict[Hashable, list[Job]] = {}
    for job in sorted(jobs, key=lambda job: TRAINERS.index(job.trainer)):
        key = (job.trainer.name, job.trainer.group_key(job.run, job.network.theta.device))
        found.setdefault(key, []).append(job)
    out = []
    for members in found.values():
        by_task = {id(job.task): job for job in members}
        parts = members[0].trainer.parts([job.task for job in members])
        out += [[by_task[id(task)] for task in part] for part in parts]
    return out


def _train(members: list[Job], followers: dict[int, list[Job]]) -> Exception | None:
    """Train the jobs of one group, whose trainer is gone when this returns.

    Returns:
        The error that it raised.
    """
    try:
        found = members[0].trainer.train([job.task for job in members])
        for leader, solutions in zip(members, found, strict=True):
            for job, solution in zip((leader, *followers[id(leader)]), solutions, strict=True):
                job.result = solution
    except Exception as error:
        return without_memory(error)
    return None


def _share_out(seconds: float, jobs: list[Job]) -> None:
    estimates = [job.trainer.seconds(job.run) + 1e-9 for job in jobs]
    for job, estimate in zip(jobs, estimates, strict=True):
        job.task.design = None
        job.network.release()
        job.seconds += seconds * estimate / sum(estimates)
