"""Exact dynamics: any number of full-batch steps on a quadratic, from one decomposition."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dd.closed.scheduled import LONGEST
from dd.measure.solution import Solution
from dd.optim.conjugate_gradient import ConjugateGradient
from dd.runs.run import Run
from dd.trainers.base import Task, Trainer
from dd.trainers.course import logged_passes
from dd.trainers.quadratic import lacking, not_quadratic

PRODUCTS, STEP = 5e10, 5e-9
"""Floating-point operations a second; seconds of a step of a schedule along one direction."""


def not_exact(run: Run) -> str | None:
    """Why a run has no exact dynamics; None if it has."""
    optimizer = run.optimizer
    if reason := lacking(run, "exact", "exact dynamics") or not_quadratic(run):
        return reason
    if run.n_validation:
        return f"validation={run.validation} looks at the losses of steps, which only iteration takes"
    if isinstance(optimizer, ConjugateGradient) and not optimizer.reorthogonalize:
        return "optimizer.reorthogonalize=false asks for rounding's effects, which only iteration has"
    if not run.schedule.flat:
        if reason := lacking(run, "memoryless", f"exact dynamics with schedule={run.schedule.name}"):
            return reason
        if (run.steps or 0) > LONGEST:
            return f"with schedule={run.schedule.name} steps are multiplied one by one, up to steps={LONGEST}"
        if run.stop_loss is not None:
            return f"with schedule={run.schedule.name} the first step at stop_loss is known by iteration only"
    if run.batch_size != run.n_train:
        return f"batch_size={run.batch_size} draws batches at random; exact dynamics need batch_size=full"
    if run.stop_loss is not None:
        if not optimizer.monotone:
            return f"with optimizer={optimizer.name} the first step at stop_loss is known by iteration only"
        if optimizer.weight_decay > 0:
            return "with weight decay the first step at stop_loss is known by iteration only"
    return None


class Exact(Trainer):
    """One run at a time; those on the same design matrix share its eigenbasis, and what they know of trajectories."""

    name = "exact"
    follows_schedules = True
    decomposes = True

    @classmethod
    def objection(cls, run: Run, device: torch.device) -> str | None:
        """See :meth:`Trainer.objection`."""
        return not_exact(run) or (None if run.solver == "exact" else f"solver={run.solver} is not solver=exact")

    @classmethod
    def seconds(cls, run: Run) -> float:
        """See :meth:`Trainer.seconds`."""
        rank = min(run.n_train, run.columns)
        multiplied = 0.0 if run.schedule.flat else STEP * (run.steps or 0) * rank
        return 2.0 * logged_passes(run) * run.outputs * rank / PRODUCTS + multiplied

    @classmethod
    def train(cls, tasks: Sequence[Task]) -> list[list[Solution]]:
        """See :meth:`Trainer.train`."""
        found = []
        for task in tasks:
            assert task.design is not None
            found.append([task.design.group.solve(task.network, task.lr)])
        return found
