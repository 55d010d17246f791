"""The stack with a network's own compiled gradients, for deep networks on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dd.components.module import ModuleModel
from dd.components.optimizer import UpdateRule
from dd.runs.run import Run
from dd.trainers.base import Task
from dd.trainers.course import logged_passes
from dd.trainers.stack import Stack

STEP, RATE = 8e-4, 1.4e10
"""Seconds of a step, and multiply-adds a second."""

LOSSES = ("mse", "cross_entropy")


class Compiled(Stack):
    """A run that is still training."""

    name = "compiled"

    @classmethod
    def objection(cls, run: Run, device: torch.device) -> str | None:
        """See :meth:`Trainer.objection`."""
        if device.type != "cpu":
            return "it runs on a CPU only"
        if not isinstance(run.model, ModuleModel) or not run.model.has_compiled(run):
            return f"model={run.model.name} with these options has no compiled gradient on this machine"
        if run.dtype not in ("float32", "float64") or run.loss not in LOSSES:
            return f"dtype={run.dtype} with loss={run.loss} is not compiled"
        if not isinstance(run.optimizer, UpdateRule):
            return f"optimizer={run.optimizer.name} asks for more than gradients"
        return super().objection(run, device)

    @classmethod
    def seconds(cls, run: Run) -> float:
        """See :meth:`Trainer.seconds`."""
        passes = 3.0 * (run.steps or 0) * (run.batch_size or 0) + logged_passes(run)
        return (run.steps or 0) * STEP + passes * run.model.multiply_adds(run) / RATE

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__(tasks)
        code = self.network.code(self.theta)
        assert code is not None
        self._code, self._out = code, torch.empty_like(self.theta)

    def objective(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor | None, Tensor]:
        """See :meth:`Stack.objective`; the loss is not computed."""
        self._code.gradient(theta[0], self.buffers, x[0], y[0], self._out[0], loss=self.network.run.loss)
        return None, self._out
