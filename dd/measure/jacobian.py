"""The Jacobian of a network's outputs in its parameters, whole or as an operator, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property

import torch
from torch import Tensor

from dd.components.model import Tensors
from dd.network import Network


class Jacobian:
    """J = d outputs / d parameters on the training set: rows sample by sample, within a sample output by output.

    Outputs are those that training sees: with batch statistics of the whole training set where the normalisation uses
    them. Rows can carry the square root of the loss's curvature in the outputs, so that the generalised Gauss-Newton
    matrix is Fᵀ F (Schraudolph 2002): for the mean squared error F = sqrt(2/(n C)) J; for the mean cross-entropy with
    probabilities q, row (i, c) of F is sqrt(q_ic / n) (J_ic - sum_k q_ik J_ik).

    Args:
        network: a stack of one run.
        flat: parameters, [parameters].
        buffers: the normalisation's memory, each [1, 1, features].
        samples: of a deep network: the first so many training samples alone, with statistics held at ``buffers``.
    """

    def __init__(self, network: Network, flat: Tensor, buffers: Tensors, samples: int | None = None) -> None:
        self.network = network
        self.flat = flat.detach().double()
        batches = network.batch_dependent and not network.model.frozen_features
        self.coupled = batches and samples is None
        self.inputs = network.exact_train.inputs[:, :samples]
        self.buffers = {k: v.double() for k, v in buffers.items()}
        if network.deep:
            self.buffers = {} if self.coupled else self.buffers
        elif network.batch_dependent:
            # frozen features have fixed statistics of the whole training set; others get theirs in each forward pass
            self.buffers = {} if self.coupled else {
                "mean": self.inputs.mean(1, keepdim=True),
                "variance": self.inputs.var(1, keepdim=True, unbiased=False),
            }  # fmt: skip
        self.samples, self.outputs = self.inputs.shape[1], network.problem.outputs
        self.shape = (self.samples * self.outputs, self.flat.numel())

    def predict(self, flat: Tensor) -> Tensor:
        """Outputs, [samples, outputs], as a function of flat parameters."""
        theta = self.network.named(flat[None])
        return self.network.outputs(theta, self.inputs, dict(self.buffers), training=self.coupled)[0]

    def blocks(self, budget: int) -> Iterator[Tensor]:
        """Rows of J in blocks of samples, [samples, outputs, parameters], each of ``budget`` bytes at most, about."""
        if self.coupled:
            raise ValueError("batch statistics tie all samples together: there are no blocks of samples")
        size = max(budget // (8 * self.outputs * self.shape[1]), 1)
        deep = self.network.deep
        if deep and not deep.vectorizes(self.network.run):
            size = 1
        for part in self.inputs[0].split(size):
            # each sample is a run of its own, with its own copy of the parameters to differentiate by
            leaf = self.flat.expand(len(part), -1).clone().requires_grad_(True)
            buffers = {k: v.expand(len(part), -1, -1) for k, v in self.buffers.items()}
            with torch.enable_grad():
                predicted = self.network.outputs(self.network.named(leaf), part[:, None], buffers)[:, 0]
                rows = [torch.autograd.grad(total, leaf, retain_graph=True)[0] for total in predicted.sum(dim=0)]
            yield torch.stack(rows, dim=1)

    def dense(self) -> Tensor:
        """J, [samples · outputs, parameters]."""
        if self.coupled:
            # forward mode: one direction of parameters after the other, through the batch statistics
            directions = torch.eye(self.shape[1], dtype=self.flat.dtype, device=self.flat.device)
            columns = torch.func.vmap(lambda v: self._directional(v).flatten(), chunk_size=64)(directions)
            return columns.T.contiguous()
        return torch.cat([block.reshape(-1, self.shape[1]) for block in self.blocks(1 << 26)])

    def curved(self, rows: Tensor, first: int = 0) -> Tensor:
        """From rows of J (or of J v) to those of F, [samples · outputs, ...], the samples from ``first`` on."""
        if self.network.run.loss == "mse":
            return rows * (2.0 / self.shape[0]) ** 0.5
        shaped = rows.reshape(-1, self.outputs, *rows.shape[1:])
        q = self._probabilities[first : first + len(shaped)].reshape(*shaped.shape[:2], *[1] * (rows.ndim - 1))
        mean = (q * shaped).sum(dim=1, keepdim=True)
        return ((q / self.samples).sqrt() * (shaped - mean)).reshape(rows.shape)

    def curved_transposed(self, vector: Tensor) -> Tensor:
        """Transpose of :meth:`curved` applied to [samples · outputs]."""
        if self.network.run.loss == "mse":
            return vector * (2.0 / self.shape[0]) ** 0.5
        q = self._probabilities
        weighted = vector.reshape(self.samples, self.outputs) * (q / self.samples).sqrt()
        return (weighted - q * weighted.sum(dim=1, keepdim=True)).flatten()

    @cached_property
    def _probabilities(self) -> Tensor:
        return self.predict(self.flat).softmax(dim=1)

    def _directional(self, vector: Tensor) -> Tensor:
        """Derivative of the outputs along a direction of parameters, [samples, outputs]."""
        found: Tensor = torch.func.jvp(self.predict, (self.flat,), (vector,))[1]
        return found

    def products(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """V -> J v and u -> Jᵀ u, on [parameters] and [samples · outputs]."""

        def forward(vector: Tensor) -> Tensor:
            return self._directional(vector).flatten()

        pull = torch.func.vjp(self.predict, self.flat)[1]

        def backward(vector: Tensor) -> Tensor:
            found: Tensor = pull(vector.view(self.samples, self.outputs))[0]
            return found

        return forward, backward
