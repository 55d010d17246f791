"""Least squares in the read-out: minimum norm, ridge, truncated singular value decomposition."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dd.components.optimizer import ClosedForm
from dd.measure.factors import factorize, least_squares
from dd.measure.smoother import effective_parameters, mode_power
from dd.measure.solution import Solution
from dd.runs.run import Run
from dd.trainers.base import Task, Trainer


class LeastSquares(Trainer):
    """One run at a time; those on the same design matrix share its decomposition."""

    name = "closed_form"
    decomposes = True

    @classmethod
    def objection(cls, run: Run, device: torch.device) -> str | None:
        """See :meth:`Trainer.objection`."""
        return None if run.optimizer.closed_form else f"optimizer={run.optimizer.name} is iterated, no closed form"

    @classmethod
    def seconds(cls, run: Run) -> float:
        """See :meth:`Trainer.seconds`: nothing beside the decomposition."""
        return 0.0

    @classmethod
    def train(cls, tasks: Sequence[Task]) -> list[list[Solution]]:
        """See :meth:`Trainer.train`."""
        return [[_solved(task)] for task in tasks]


def _solved(task: Task) -> Solution:
    """Solve for the read-out; batch statistics are those of the whole training set."""
    network, optimizer = task.network, task.run.optimizer
    assert isinstance(optimizer, ClosedForm)
    buffers = {k: v.double() for k, v in network.buffers.items()}
    if task.design is not None:
        factors, test_power = task.design.factors, task.design.test_power
    else:
        theta, inputs = network.named(network.theta.double()), network.exact_train.inputs
        buffers = network.normalization.settled(inputs)
        factors = factorize(network.design(theta, inputs, buffers)[0])
        test_power = mode_power(network.design(theta, network.exact_test.inputs, buffers)[0] @ factors.kept().vh.T)
    readout = least_squares(factors, network.exact_train.targets, optimizer.inverse)
    solved = network.named(network.theta.double().clone())
    solved.named["readout"].copy_(readout.T)
    solution = Solution(solved.flat[0], {k: v[0] for k, v in buffers.items()}, LeastSquares.name)
    solution.factors = None if task.design else factors
    s = factors.kept().s
    solution.effective_parameters = effective_parameters(optimizer.inverse(s), s, test_power, task.run.n_train)
    return solution
