"""Shared by the tests of training: runs brought to their start, and trained as a pack trains them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch

from dd.closed.design import Design
from dd.measure.solution import CurvePoint, Solution
from dd.numerics import reproducible
from dd.packs.prepare import Job
from dd.packs.schedule import train_jobs
from dd.packs.shared import Shared
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.trainers.base import Task, Trainer
from dd.trainers.table import trainer_for


def tasks_of(runs: Sequence[Run], device: str = "cpu") -> list[Task]:
    """Runs at their start, with inputs shared as in a pack; step sizes are absolute."""
    assert all(run.lr_unit != "sharpness" for run in runs), "lr_unit=absolute"
    shared = Shared(Settings(device=device), runs)
    return [Task(run, shared.network(run), run.lr) for run in runs]


def task_of(run: Run, device: str = "cpu") -> Task:
    """One run at its start."""
    return tasks_of([run], device)[0]


def jobs_of(runs: Sequence[Run], trainer: str = "auto", device: str = "cpu") -> list[Job]:
    """Runs ready to be trained, without what is measured at their start."""
    jobs = [Job(task, trainer_for(task.run, torch.device(device), trainer), {}) for task in tasks_of(runs, device)]
    designs: dict[object, Design] = {}
    for job in jobs:
        if job.trainer.decomposes and job.network.linear:
            if job.run.design_key not in designs:
                designs[job.run.design_key] = Design(job.network)
            job.task.design = designs[job.run.design_key]
    return jobs


def groups_of(runs: Sequence[Run], device: str) -> list[tuple[type[Trainer], list[Task]]]:
    """What is trained together on a device, and by what."""
    found: dict[object, list[Job]] = {}
    for job in jobs_of(runs, device=device):
        found.setdefault((job.trainer, job.trainer.group_key(job.run, torch.device(device))), []).append(job)
    return [
        (members[0].trainer, part)
        for members in found.values()
        for part in members[0].trainer.parts([job.task for job in members])
    ]


def solutions(runs: Sequence[Run], trainer: str = "auto", device: str = "cpu") -> dict[str, Solution]:
    """Solutions of runs trained as one pack, by run id.

    Args:
        runs: with absolute step sizes.
        trainer: ``auto``, or what all are to be trained by.
        device: where.
    """
    found = {}
    with reproducible(torch.device(device)):
        for job in train_jobs(jobs_of(runs, trainer, device)):
            if not isinstance(job.result, Solution):
                raise job.result or AssertionError("no result")
            found[job.run.run_id] = job.result
    return found


def solution(run: Run, trainer: str = "auto", device: str = "cpu") -> Solution:
    """The solution of one run alone."""
    return solutions([run], trainer, device)[run.run_id]


def same_bits(a: Solution, b: Solution) -> bool:
    """Whether weights and curves agree to the last bit."""
    curves = [[vars(point) for point in solution.curve] for solution in (a, b)]
    return torch.equal(a.theta, b.theta) and curves[0] == curves[1]


def numbers(point: CurvePoint) -> dict[str, float]:
    """What a point of a curve holds, without what it has not."""
    return {name: value for name, value in vars(point).items() if value is not None}


def assert_close(a: Solution, b: Solution, *, rel: float = 1e-9, scale: float = 1e-11) -> None:
    """Two solutions of one run agree: ends, curves, weights, memory and preconditioners; ``scale`` is absolute."""
    assert (a.status, a.steps_done) == (b.status, b.steps_done)
    assert [p.step for p in a.curve] == [p.step for p in b.curve]
    for p, q in zip(a.curve, b.curve, strict=True):
        assert numbers(p) == pytest.approx(numbers(q), rel=rel, abs=1e-14)
    torch.testing.assert_close(a.theta.cpu(), b.theta.cpu(), rtol=rel, atol=scale)
    assert a.buffers.keys() == b.buffers.keys()
    for key, buffer in a.buffers.items():
        torch.testing.assert_close(buffer.cpu(), b.buffers[key].cpu(), rtol=rel, atol=scale)
    assert (a.preconditioner is None) == (b.preconditioner is None)
    if a.preconditioner is not None and b.preconditioner is not None:
        torch.testing.assert_close(a.preconditioner.cpu(), b.preconditioner.cpu(), rtol=10 * rel, atol=scale)


def torch_scheduler(run: Run, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """What torch has for a run's schedule; it is stepped after each step, or each epoch."""
    lr_scheduler, schedule, axes = torch.optim.lr_scheduler, run.schedule, run.schedule.values()
    units = schedule.units(run) - schedule.warmup
    make: dict[str, Callable[[], torch.optim.lr_scheduler.LRScheduler]] = {
        "constant": lambda: lr_scheduler.LambdaLR(optimizer, lambda t: 1.0),
        "inverse_sqrt": lambda: lr_scheduler.LambdaLR(optimizer, lambda t: 1 / math.sqrt(1 + t / axes["scale"])),  # type: ignore[operator]
        "cosine": lambda: lr_scheduler.CosineAnnealingLR(optimizer, units, run.lr * axes["final"]),  # type: ignore[operator]
        "linear": lambda: lr_scheduler.LinearLR(optimizer, 1.0, axes["final"], units),  # type: ignore[arg-type]
        "step": lambda: lr_scheduler.StepLR(optimizer, axes["every"], axes["gamma"]),  # type: ignore[arg-type]
    }
    if not schedule.warmup:
        return make[schedule.name]()
    rising = lr_scheduler.LinearLR(optimizer, 1 / (schedule.warmup + 1), 1.0, schedule.warmup)
    return lr_scheduler.SequentialLR(optimizer, [rising, make[schedule.name]()], [schedule.warmup])
