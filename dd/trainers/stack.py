"""The reference: runs of one architecture in plain PyTorch operations, with gradients by autograd.

It takes every model, update rule, loss and normalization, and all other trainers are tested against it; modules that
cannot be stacked go to ``dd.trainers.single``. On a CPU each run is alone, so that its bits cannot depend on others.
On a GPU runs of one shape are stacked, [runs, parameters].
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from dd.components.module import ModuleModel
from dd.components.optimizer import MatrixRule, Number, UpdateRule
from dd.measure.outcome import outcome
from dd.measure.solution import CurvePoint, Snapshot
from dd.runs.run import Run
from dd.trainers.base import Task
from dd.trainers.batches import Batches
from dd.trainers.course import Stepper, logged_passes
from dd.trainers.quadratic import not_iterated
from dd.trainers.replay import Replay
from dd.trainers.updates import Batch, kind, update_of

STEP, PRODUCTS = 6e-4, 3e10
"""Seconds of a step's calls, and floating-point operations a second."""

MATRIX, MATRIX_OPERATIONS = 5e-4, 30
"""Of a rule of whole matrices: seconds of its calls a matrix, and operations a parameter and row of the short side."""

OWN = ("seed", "lr", "lr_unit", "init", "init_scale", "optimizer", "data_seed", "test_seed", "label_noise",
       "label_noise_over", "standardize", "data_content", "stop_loss")  # fmt: skip
"""Axes in which runs of one stack may differ: none of them changes a shape."""


def update_seconds(run: Run) -> float:
    """Estimated seconds of an update beyond those of a rule that moves each parameter by itself.

    A rule of whole matrices multiplies each of them with itself, about.
    """
    if not isinstance(run.optimizer, MatrixRule):
        return 0.0
    matrices, side = (1, run.outputs) if run.model.frozen_features else (2, run.data.input_count + 1)
    operations = MATRIX_OPERATIONS * run.model.parameter_count(run) * min(run.width, side)
    return matrices * MATRIX + operations / PRODUCTS


class Stack(Stepper):
    """Runs that are still training."""

    name = "stack"
    follows_schedules = augments = validates = True

    @classmethod
    def objection(cls, run: Run, device: torch.device) -> str | None:
        """See :meth:`Trainer.objection`."""
        model = run.model if isinstance(run.model, ModuleModel) else None
        if model and (model.draws(run) or (device.type != "cpu" and not model.vectorizes(run))):
            return f"model={model.name} draws random numbers, or torch.func.vmap does not take it"
        return not_iterated(run)

    @classmethod
    def group_key(cls, run: Run, device: torch.device) -> Hashable:
        """See :meth:`Trainer.group_key`."""
        if device.type == "cpu" or not isinstance(run.optimizer, UpdateRule):
            return run
        return (*run.but(*OWN), kind(run), run.stop_loss is None)

    @classmethod
    def seconds(cls, run: Run) -> float:
        """See :meth:`Trainer.seconds`."""
        steps, batch = run.steps or 0, run.batch_size or 0
        operations = run.model.multiply_adds(run) * (6.0 * steps * batch + 2.0 * logged_passes(run))
        return steps * (STEP + update_seconds(run)) + operations / PRODUCTS

    def __init__(self, tasks: Sequence[Task]) -> None:
        networks = [task.network for task in tasks]
        self.network, self.runs = networks[0], [task.run for task in tasks]
        self.theta = torch.cat([network.theta for network in networks])
        self.buffers = {k: torch.cat([n.buffers[k] for n in networks]) for k in self.network.buffers}
        self.update, self.batches = update_of(tasks, self.theta), Batches(networks)
        plain = not isinstance(self.runs[0].optimizer, UpdateRule)
        self.replay = Replay(self.runs[0].steps or 0, self.theta.device, plain=plain)
        self.save()

    def advance(self, first: int, last: int) -> None:
        """See :meth:`Stepper.advance`."""
        self.replay.run(self.step, self.changed, first, self.batches.between(first, last))

    def step(self, number: Number, x: Tensor, y: Tensor) -> None:
        """Take step ``number``, from 1, on a batch, in place."""
        self.update.step(self.theta, number, Batch(self, x, y))

    def changed(self) -> list[Tensor]:
        """The tensors that a step changes."""
        return [self.theta, *self.buffers.values(), *self.update.state.values()]

    def objective(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor | None, Tensor]:
        """Training loss of each run on a batch, [runs], and its gradient, [runs, parameters]."""
        return self.network.objective(theta, x, y, self.buffers)

    def norms(self) -> list[float]:
        """See :meth:`Stepper.norms`."""
        squares: list[float] = self.theta.square().sum(dim=1).tolist()
        return squares

    def evaluate(self, samples: int | None = None) -> list[CurvePoint]:
        """See :meth:`Stepper.evaluate`; in the precision of training."""
        train, test, *held = (self.batches.samples(side) for side in self.network.sides)
        sides = (train.first(samples), test.first(samples), *held)
        return outcome(self.network, self.network.named(self.theta), self.buffers, *sides).points()

    def save(self) -> None:
        """See :meth:`Stepper.save`."""
        self.saved = self.theta.clone(), {k: v.clone() for k, v in self.buffers.items()}

    def state(self, position: int, step: int, *, saved: bool) -> Snapshot:
        """See :meth:`Stepper.state`."""
        theta, buffers = self.saved if saved else (self.theta, self.buffers)
        diagonal = None if saved or step == 0 else self.update.preconditioner(step)
        return Snapshot(
            theta[position].clone(),
            {k: v[position].clone() for k, v in buffers.items()},
            None if diagonal is None else diagonal[position].clone(),
        )

    def drop(self, gone: Sequence[int]) -> None:
        """See :meth:`Stepper.drop`."""
        rows = torch.tensor([i for i in range(len(self.theta)) if i not in gone], device=self.theta.device)
        if len(rows):
            self.update.keep(rows)
            self.batches.keep(rows)
            self.replay.forget()
            self.theta, self.buffers = self.theta[rows], {k: v[rows] for k, v in self.buffers.items()}
