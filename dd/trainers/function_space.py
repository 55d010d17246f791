"""Function space: a read-out's steps as coefficients of the training samples.

Steps of SGD, with or without momentum and weight decay, leave the read-out of fixed features at

    W = share · W(0) + A Z,

with Z the training design matrix, [n, columns], and one coefficient a sample and output, A [outputs, n]. A batch's
gradient in A has entries for its own samples only, its outputs are rows of the Gram matrix K = Z Zᵀ times Aᵀ, and
columns are met once, in K: a step costs n, not columns.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from dd.network import Network, Samples
from dd.runs.run import Run
from dd.trainers.course import logged_passes
from dd.trainers.engine import PRODUCTS, STEP, Engine, Layout, Side, padded, uncompiled
from dd.trainers.padding import MIXED
from dd.trainers.quadratic import lacking, not_quadratic


class Gram:
    """Gram matrices of one design matrix, float64.

    Args:
        network: a linear network on it.

    Attributes:
        sides: samples of each part of the data with training samples, [samples, n_train], training first.
    """

    def __init__(self, network: Network) -> None:
        self.design = network.exact_train.inputs[0]
        self.sides = {side: network.exact(side).inputs[0] @ self.design.T for side in network.sides}

    def samples(self, network: Network) -> dict[str, Samples]:
        """Samples of each part of the data with rows of Gram matrices for inputs, in the precision of training."""
        every = ((side, k, network.exact(side)) for side, k in self.sides.items())
        return {side: Samples(k[None], own.targets, own.classes).to(network.dtype) for side, k, own in every}

    def initial_outputs(self, network: Network) -> list[Tensor]:
        """Outputs of a run's initial weights on the samples of each part, [samples, outputs], float64."""
        readout = network.named(network.theta.double()).named["readout"][0]
        return [network.exact(side).inputs[0] @ readout.T for side in self.sides]

    def weights(self, network: Network, coefficients: Tensor, share: float) -> Tensor:
        """Flat parameters of a run, [parameters], float64, from coefficients [outputs, n_train]."""
        readout = network.named(network.theta.double()).named["readout"][0]
        return (share * readout + coefficients.double() @ self.design).flatten()


class FunctionSpaceLayout(Layout):
    """Where coefficients of the training samples lie, and the share that is left of the start."""

    bias = False

    def __init__(self, network: Network, gram: Gram, lanes: int) -> None:
        self.network, self.gram = network, gram
        self.width = len(gram.design)
        self.outputs = network.problem.outputs
        self.ld = padded(self.width, lanes)
        self.size = self.outputs * self.ld + lanes
        self.starts = [side.to(network.dtype).contiguous() for side in gram.initial_outputs(network)]

    def start(self, side: int) -> int | None:
        """See :meth:`Layout.start`."""
        return self.starts[side].data_ptr()

    def copy(self, flat: Tensor, memory: Tensor, *, out: bool) -> None:
        """Write the start into memory, or read weights out of it."""
        share = memory[self.outputs * self.ld]
        if out:
            coefficients = memory[: self.outputs * self.ld].view(self.outputs, self.ld)[:, : self.width]
            flat.copy_(self.gram.weights(self.network, coefficients, float(share)))
        else:
            share.fill_(1.0)


class FunctionSpace(Engine):
    """Runs on one design matrix that are still training."""

    name = "function_space"

    @classmethod
    def objection(cls, run: Run, device: torch.device) -> str | None:
        """See :meth:`Trainer.objection`."""
        asked = None if run.solver == "dual" else f"solver={run.solver} is not solver=dual"
        return not_dual(run) or asked or uncompiled(run, device)

    @classmethod
    def group_key(cls, run: Run, device: torch.device) -> Hashable:
        """See :meth:`Trainer.group_key`."""
        return (*run.but(*MIXED, "schedule"), run.stop_loss is None)

    @classmethod
    def seconds(cls, run: Run) -> float:
        """See :meth:`Trainer.seconds`."""
        n, samples, outputs = run.n_train, run.n_drawn + run.n_test, run.outputs
        operations = 2.0 * outputs * n * ((run.batch_size or 0) * (run.steps or 0) + logged_passes(run))
        return (run.steps or 0) * STEP + (operations + 2.0 * n * samples * run.columns) / PRODUCTS

    @classmethod
    def shared_bytes(cls, run: Run) -> int:
        """See :meth:`Trainer.shared_bytes`: Gram matrices in both precisions."""
        return 2 * 8 * run.n_train * (run.n_drawn + run.n_test)

    def _laid_out(self, widest: Network, batch: int, lanes: int) -> tuple[list[Side], Sequence[Layout]]:
        gram = Gram(widest)
        sides = Side.each(gram.samples(widest), batch, widest.dtype)
        return sides, [FunctionSpaceLayout(network, gram, lanes) for network in self.networks]


def not_dual(run: Run) -> str | None:
    """Why a run cannot step in function space; None if it can."""
    return lacking(run, "dual", "function-space form") or not_quadratic(run)


def pays(run: Run) -> bool:
    """Whether steps in function space save more than forming the Gram matrices costs.

    A step costs 4 · batch · columns flop per output in weight space and 2 · batch · n_train in function space; the
    Gram matrices of training and test samples cost 2 · n_train · (n_train + n_test) · columns once. Function space is
    always float64 (in float32, coefficients of directions that are learned late would drown the others), whose
    operations count twice.
    """
    assert run.batch_size is not None
    assert run.steps is not None
    if run.columns <= run.n_train:
        return False
    weight_space = (2 if run.dtype == "float64" else 1) * 4 * run.columns
    saved = run.steps * run.outputs * run.batch_size * (weight_space - 2 * 2 * run.n_train)
    return saved > 2 * 2 * run.n_train * (run.n_train + run.n_test) * run.columns
