"""Function space: a read-out's steps as coefficients of the training samples.

Steps of SGD, with or without momentum and weight decay, leave the read-out of fixed features at

    W = share · W(0) + A Z,

with Z the training design matrix, [n, columns], and one coefficient a sample and output, A [outputs, n]. A batch's
gradient in A has entries for its own samples only, its outputs are rows of the kernel matrix K = Z Zᵀ times Aᵀ, and
columns are met once, in K: a step costs n, not columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dd import losses
from dd.network import Network, Samples
from dd.optim._base import Number, UpdateRule
from dd.solvers._solution import CurvePoint, Snapshot
from dd.solvers.batches import Orders, indices
from dd.solvers.replay import Replay


class Kernels:
    """Kernel matrices of one design matrix, float64.

    Args:
        network: a linear network on it.

    Attributes:
        train: training with training samples, [n_train, n_train].
        test: test with training samples, [n_test, n_train].
    """

    def __init__(self, network: Network) -> None:
        self.design = network.exact_train.inputs[0]
        self.train = self.design @ self.design.T
        self.test = network.exact_test.inputs[0] @ self.design.T

    def samples(self, network: Network) -> tuple[Samples, Samples]:
        """Training and test samples with kernel rows for inputs, in the precision of training."""
        sides = ((self.train, network.exact_train), (self.test, network.exact_test))
        train, test = (Samples(k[None], exact.targets, exact.classes).to(network.dtype) for k, exact in sides)
        return train, test

    def initial_outputs(self, network: Network) -> tuple[Tensor, Tensor]:
        """Outputs of a run's initial weights on training and test samples, each [samples, outputs], float64."""
        readout = network.named(network.theta.double()).named["readout"][0]
        return self.design @ readout.T, network.exact_test.inputs[0] @ readout.T

    def weights(self, network: Network, coefficients: Tensor, share: float) -> Tensor:
        """Flat parameters of a run, [parameters], float64, from coefficients [outputs, n_train]."""
        readout = network.named(network.theta.double()).named["readout"][0]
        return (share * readout + coefficients.double() @ self.design).flatten()


class KernelStack:
    """Runs in function space in PyTorch's own operations; see :class:`dd.solvers.train.Trainer`.

    Args:
        networks: runs on one design matrix that share optimizer, budget and batches.
        lr: absolute step size of each run, [runs].
    """

    def __init__(self, networks: Sequence[Network], lr: Tensor) -> None:
        first = networks[0]
        self.networks = list(networks)
        self.runs = [network.run for network in networks]
        self.rule: UpdateRule = first.run.component("optimizer")
        self.kernels = Kernels(first)
        self.sides = self.kernels.samples(first)
        both = [self.kernels.initial_outputs(network) for network in networks]
        self.starts = [torch.stack([pair[side] for pair in both]).to(first.dtype) for side in range(2)]
        self.outputs, self.samples = first.problem.outputs, first.run.n_train
        self.hyper = self.rule.hyper(self.runs, lr.to(first.dtype))
        # coefficients, and the share that is left of the start
        self.theta = torch.zeros(len(networks), self.outputs * self.samples + 1, dtype=first.dtype, device=lr.device)
        self.theta[:, -1] = 1
        self.optimizer_state = self.rule.init_state(self.theta, self.hyper)
        self.orders = Orders(first.run)
        self.index = list(range(len(networks)))
        self._replay = Replay(first.run.steps or 0, lr.device)
        self.save()

    def _coefficients(self, flat: Tensor) -> Tensor:
        return flat[:, :-1].view(-1, self.outputs, self.samples)

    def _predicted(self, kernel: Tensor, start: Tensor) -> Tensor:
        """Outputs, [runs, samples, outputs], for kernel rows [samples, n_train]."""
        return (self._coefficients(self.theta) @ kernel.T).mT + self.theta[:, -1, None, None] * start

    def advance(self, first: int, last: int) -> None:
        """See :meth:`Trainer.advance`."""
        size = self.runs[0].batch_size
        assert size is not None
        batches = [(index,) for (index,) in indices([self.orders], size, first, last, self.theta.device)]
        self._replay.run(self._step, self._changed, first, batches)

    def _changed(self) -> list[Tensor]:
        return [self.theta, *self.optimizer_state.values()]

    def _step(self, number: Number, batch: Tensor) -> None:
        """One step on samples, [batch]."""
        train = self.sides[0]
        predicted = self._predicted(train.inputs[0, batch], self.starts[0][:, batch])
        grad = torch.zeros_like(self.theta)
        self._coefficients(grad)[:, :, batch] = losses.gradient("mse", predicted, train.targets[batch]).mT
        self.rule.update(self.theta, grad, self.optimizer_state, self.hyper, number)

    def norms(self) -> list[float]:
        """See :meth:`Trainer.norms`; of the coefficients."""
        norms: list[float] = self.theta.square().sum(dim=1).tolist()
        return norms

    def evaluate(self) -> list[CurvePoint]:
        """See :meth:`Trainer.evaluate`."""
        columns: list[list[float] | list[None]] = []
        for samples, start in zip(self.sides, self.starts, strict=True):
            predicted = self._predicted(samples.inputs[0], start)
            columns.append(losses.value("mse", predicted, samples.targets).tolist())
            blank: list[None] = [None] * len(self.index)
            columns.append(blank if samples.classes is None else losses.error(predicted, samples.classes).tolist())
        train, train_error, test, test_error = columns
        return [CurvePoint(0, *p) for p in zip(train, test, train_error, test_error, strict=True)]  # type: ignore[arg-type]

    def save(self) -> None:
        """See :meth:`Trainer.save`."""
        self.saved = self.theta.clone()

    def state(self, position: int, step: int, *, saved: bool) -> Snapshot:
        """See :meth:`Trainer.state`."""
        flat = (self.saved if saved else self.theta)[position : position + 1]
        network = self.networks[self.index[position]]
        weights = self.kernels.weights(network, self._coefficients(flat)[0], float(flat[0, -1]))
        return Snapshot(weights.to(network.dtype), {}, None)

    def drop(self, gone: Sequence[int]) -> None:
        """See :meth:`Trainer.drop`."""
        stay = [i for i in range(len(self.index)) if i not in gone]
        if not stay or not gone:
            return
        self._replay.forget()
        rows = torch.tensor(stay, device=self.theta.device)
        self.index = [self.index[i] for i in stay]
        self.theta = self.theta[rows]
        self.starts = [start[rows] for start in self.starts]
        self.optimizer_state = {k: v[rows] for k, v in self.optimizer_state.items()}
        self.hyper = {k: v[rows] if v.ndim else v for k, v in self.hyper.items()}
