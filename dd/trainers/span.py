"""Two-layer nets whose first layer steps in the span of the training inputs.

A gradient of the first layer is a combination of the batch's inputs. Steps of SGD, with or without momentum, therefore
leave its weights at

    W = W(0) + A X,

with X the training inputs, [n, inputs], and one coefficient a unit and sample, A [width, n]. A step meets the inputs in
their Gram matrix alone: hidden pre-activations of a batch are columns of W(0) Xᵀ + A X Xᵀ, and the gradient in A has
entries for the batch's own samples, without a product: n multiply-adds a unit and sample, not twice the inputs.

In float32 coefficients that grow would cost digits; so every ``EPOCHS`` epochs they are added to the weights, and start
again at zero: rounding is then that of the steps since, which fall with the residuals.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dd.kernels.library import library
from dd.measure.solution import CurvePoint, Snapshot
from dd.network import Network
from dd.runs.run import Run
from dd.trainers.base import Task
from dd.trainers.course import logged_passes
from dd.trainers.engine import PRODUCTS, Engine, EngineRun, Layout, padded
from dd.trainers.rules import RULES

EPOCHS = 32
"""Between two times at which coefficients are added to the weights."""

UPDATE, GATHER = 10, 40
"""Multiply-adds that are worth the update of one number, and putting one sample's gradient where it belongs; about."""

BLOCK = 1024
"""What the weights give on test samples is computed in blocks of so many, a multiple of the engine's own."""

SHARING = 8
"""Runs among which the cost of products of samples is counted as shared."""


def pays(run: Run) -> bool:
    """Whether steps of a two-layer net are cheaper so, counting multiply-adds a unit; by its own axes alone."""
    if run.batch_size is None or run.steps is None:
        return False
    n, inputs = run.n_train, run.data.input_count + 1
    step = run.batch_size * (2 * inputs - n - 2 * inputs / EPOCHS - GATHER) + UPDATE * (inputs - n)
    # what the start gives on all samples, and their products with the training samples, which others often share
    once = (n + run.n_test) * inputs * (1 + n / (SHARING * run.width))
    return step * run.steps > once


def products_fit(network: Network) -> bool:
    """Whether products of samples, and sums of many of them, stay within the numbers of training."""
    inputs = (network.samples(side).inputs[0] for side in network.sides)
    largest = max(float(x.double().square().sum(dim=1).max()) for x in inputs)
    return largest < torch.finfo(network.dtype).max ** 0.5


class Span(Engine):
    """Two-layer nets without weight decay that are still training.

    Its memory holds the weights as they were when coefficients were zero. Beside it ``_span`` holds coefficients and
    read-out, and their velocities; ``_given`` what the weights in memory give on the samples of each side, [width,
    padded samples], on other than training samples for so many as have been asked for since (``_fresh``).
    """

    name = "span"

    _states = 0

    @classmethod
    def objection(cls, run: Run, device: torch.device) -> str | None:
        """See :meth:`Trainer.objection`."""
        if reason := super().objection(run, device):
            return reason
        if run.linear:
            return f"model={run.model.name} trains no first layer"
        if not run.optimizer.dual:
            return f"optimizer={run.optimizer.name} is not known to stay in the span of the inputs"
        if run.optimizer.weight_decay > 0:
            return "weight decay shrinks the start, too, which coefficients cannot say"
        return None if pays(run) else "steps on the weights themselves are cheaper"

    @classmethod
    def seconds(cls, run: Run) -> float:
        """See :meth:`Trainer.seconds`."""
        n, inputs = run.n_train, run.data.input_count + 1
        more = 2.0 * run.width * (n - 2 * inputs) * (run.batch_size or 0) * (run.steps or 0)
        more += 2.0 * run.width * (n - inputs) * logged_passes(run)
        return super().seconds(run) + more / PRODUCTS

    @classmethod
    def bytes(cls, run: Run) -> int:
        """See :meth:`Trainer.bytes`; coefficients, too, and what the weights give on all samples."""
        more = run.width * (3 * run.n_train + run.n_drawn + run.n_test) * (8 if run.dtype == "float64" else 4)
        return super().bytes(run) + more

    @classmethod
    def begun(cls, tasks: Sequence[Task]) -> Engine:
        """See :meth:`Stepper.begun`; by plain steps where products of samples would overflow."""
        return (cls if products_fit(tasks[0].network) else Engine)(tasks)

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__(tasks)
        dtype, n = self._memory.dtype, self.runs[0].n_train
        suffix = "_f32" if dtype == torch.float32 else "_f64"
        functions: Any = library()
        self._unfold = getattr(functions, "dd_unfold" + suffix)
        self._preactivations = getattr(functions, "dd_preactivations" + suffix)
        lanes = getattr(functions, "dd_lanes" + suffix)()
        self._interval = EPOCHS * self._orders.per_epoch
        # what the inputs were is what the products with the training samples are now
        self._inputs, exact = self._sides, self._sides[0].x.double()
        products = exact @ exact.T, *(side.x @ self._sides[0].x.T for side in self._sides[1:])
        self._sides = [side.with_inputs(x) for side, x in zip(self._inputs, products, strict=True)]
        self._span_layouts = [Layout(network, n, lanes) for network in self.networks]
        sizes = [layout.size for layout in self._span_layouts]
        self._span = list(zip(*(row.split(sizes) for row in torch.zeros(2, sum(sizes), dtype=dtype)), strict=True))
        self._given = [
            [torch.zeros(run.width, padded(len(side.x), lanes), dtype=dtype) for run in self.runs]
            for side in self._sides
        ]
        self._structs = [
            [self._span_struct(i, side) for i in range(len(self.networks))] for side in range(len(self._sides))
        ]
        for i in self._index:
            self._readout(i, self._span[i][0]).copy_(self._part(0, i)[self._hidden_size(i) :])
        self._refresh()
        self._rebase()
        self.save()

    def _span_struct(self, i: int, side: int) -> EngineRun:
        """EngineRun i as it meets the samples of a side."""
        struct = EngineRun.from_buffer_copy(self._structs[side][i])
        theta, velocity = self._span[i]
        struct.theta, struct.start = theta.data_ptr(), self._given[side][i].data_ptr()
        struct.first = velocity.data_ptr() if RULES[type(self._rules[i])].state else None
        return struct

    def _hidden_size(self, i: int) -> int:
        """Where the read-out of run i begins in its memory."""
        return self._layouts[i].hidden_size

    def _readout(self, i: int, span: Tensor) -> Tensor:
        """Read-out of run i among its coefficients and read-out."""
        return span[self._span_layouts[i].hidden_size :]

    def advance(self, first: int, last: int) -> None:
        """See :meth:`Stepper.advance`."""
        parameters = sum(self._span_layouts[i].size for i in self._index)
        while first < last:
            stop = min(last, (first // self._interval + 1) * self._interval)
            self._steps(self._sides[0].data, self._arrays[0], parameters, first, stop)
            first = stop
            if stop % self._interval == 0:
                for i in self._index:
                    self._add(i, self._structs[0][i], self._part(0, i))
                    self._span[i][0][: self._span_layouts[i].hidden_size].zero_()
                self._rebase()

    def _add(self, i: int, struct: EngineRun, weights: Tensor) -> None:
        """Add the coefficients of run i to its weights, [padded parameters]."""
        pointer = ctypes.c_void_p(weights.data_ptr())
        if self._unfold(ctypes.byref(self._inputs[0].data), ctypes.byref(struct), pointer):
            raise MemoryError("no memory for the weights of a run")

    def _rebase(self) -> None:
        """Start from the weights in memory."""
        self._give(0, self._inputs[0].count(None))
        self._fresh = [0] * len(self._sides)

    def _give(self, side: int, samples: int) -> None:
        """What the weights in memory give on the first samples of a side."""
        for i in self._index:
            self._preactivations(
                ctypes.byref(self._inputs[side].data), ctypes.c_int64(samples), ctypes.c_int64(self.runs[i].width),
                ctypes.c_void_p(self._part(0, i).data_ptr()), ctypes.c_void_p(self._given[side][i].data_ptr()),
            )  # fmt: skip

    def norms(self) -> list[float]:
        """See :meth:`Stepper.norms`; of what is held."""
        weights = zip(self._index, super().norms(), strict=True)
        return [norm + float(torch.dot(self._span[i][0], self._span[i][0])) for i, norm in weights]

    def evaluate(self, samples: int | None = None) -> list[CurvePoint]:
        """See :meth:`Stepper.evaluate`."""
        # whole blocks: what one sample's products are does not depend on how many were asked for
        asked = None if samples is None else padded(samples, BLOCK)
        for i, side in enumerate(self._inputs[1:], start=1):
            needed = side.count(asked)
            if self._fresh[i] < needed:
                self._give(i, needed)
                self._fresh[i] = needed
        return super().evaluate(samples)

    def save(self) -> None:
        """See :meth:`Stepper.save`."""
        super().save()
        self._saved_span = [theta.clone() for theta, _ in self._span]

    def state(self, position: int, step: int, *, saved: bool) -> Snapshot:
        """See :meth:`Stepper.state`."""
        i = self._index[position]
        span = self._saved_span[i] if saved else self._span[i][0]
        weights = (self._saved if saved else self._memory[0])[self._starts[i] : self._starts[i + 1]].clone()
        struct = EngineRun.from_buffer_copy(self._structs[0][i])
        struct.theta = span.data_ptr()
        self._add(i, struct, weights)
        weights[self._hidden_size(i) :] = self._readout(i, span)
        theta = torch.empty_like(self.networks[i].theta[0])
        self._layouts[i].copy(theta, weights, out=True)
        return Snapshot(theta, {}, None)
