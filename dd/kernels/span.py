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

from dd.config import RunConfig
from dd.kernels.engine import PADDING, Data, Engine, Layout, Run, padded
from dd.kernels.library import library
from dd.kernels.rules import RULES
from dd.network import Network
from dd.solvers.logs import logged_steps

EPOCHS = 32
"""Between two times at which coefficients are added to the weights."""

UPDATE, GATHER = 10, 40
"""Multiply-adds that are worth the update of one number, and putting one sample's gradient where it belongs; about."""


def steps_in_span(run: RunConfig) -> bool:
    """Whether a two-layer net's steps are cheaper so, counting multiply-adds a unit; decided by its own axes.

    Weight decay shrinks the start, too, which coefficients cannot say.
    """
    options = run.group_options("optimizer")
    if run.model != "two_layer" or run.normalization != "none" or not run.component("optimizer").dual:
        return False
    if run.batch_size is None or run.steps is None or options["weight_decay"] > 0:
        return False
    n, inputs = run.n_train, run.component("data").inputs(run) + 1
    step = run.batch_size * (2 * inputs - n - 2 * inputs / EPOCHS - GATHER) + UPDATE * (inputs - n)
    # weights at every logged step, the Gram matrix in float64
    once = n * inputs * (1 + len(logged_steps(run))) + 4 * n * n * inputs / run.width
    return step * run.steps > once


class SpanEngine(Engine):
    """See :class:`dd.kernels.engine.Engine`; of two-layer nets without weight decay.

    Its memory holds the weights as they were looked at last. Between two looks ``_span`` holds coefficients with the
    read-out, and their velocities; ``_base`` the weights when coefficients were zero, and ``_given`` what these give on
    the training samples, [width, padded samples].
    """

    _states = 0

    def __init__(self, networks: Sequence[Network], lrs: Sequence[float]) -> None:
        super().__init__(networks, lrs)
        side, dtype, n = self._sides[0], self._memory.dtype, self.runs[0].n_train
        suffix = "_f32" if dtype == torch.float32 else "_f64"
        functions: Any = library()
        self._unfold = getattr(functions, "dd_unfold" + suffix)
        self._preactivations = getattr(functions, "dd_preactivations" + suffix)
        lanes = getattr(functions, "dd_lanes" + suffix)()
        self._interval = EPOCHS * self._orders.per_epoch
        self._gram = torch.zeros(n, padded(n, PADDING), dtype=dtype)
        exact = side.x.double()
        self._gram[:, :n] = exact @ exact.T
        shape = (n, n, side.data.outputs, side.data.batch)
        self._gram_data = Data(*shape, self._gram.data_ptr(), self._gram.shape[1], side.y.data_ptr())
        self._span_layouts = [Layout(network, n, lanes) for network in networks]
        sizes = [layout.size for layout in self._span_layouts]
        self._span = list(zip(*(row.split(sizes) for row in torch.zeros(2, sum(sizes), dtype=dtype)), strict=True))
        self._given = [torch.zeros(run.width, padded(n, lanes), dtype=dtype) for run in self.runs]
        self._span_structs = [self._span_struct(i) for i in range(len(networks))]
        self._base = torch.empty_like(self._memory[0])
        for i in self._index:
            span, whole = self._readout(i)
            span.copy_(whole)
        self._rebase()

    def _span_struct(self, i: int) -> Run:
        """Run i as it steps."""
        struct = Run.from_buffer_copy(self._structs[0][i])
        theta, velocity = self._span[i]
        struct.theta, struct.start = theta.data_ptr(), self._given[i].data_ptr()
        struct.first = velocity.data_ptr() if RULES[self.runs[i].optimizer].state else None
        return struct

    def _readout(self, i: int) -> tuple[Tensor, Tensor]:
        """Read-out of run i as it steps, and as it was looked at last."""
        span, whole = self._span_layouts[i], self._layouts[i]
        assert isinstance(whole, Layout)
        return self._span[i][0][span.hidden_size :], self._part(0, i)[whole.hidden_size :]

    def advance(self, first: int, last: int) -> None:
        """See :meth:`Trainer.advance`."""
        runs = (Run * len(self._index))(*(self._span_structs[i] for i in self._index))
        parameters = sum(self._span_layouts[i].size for i in self._index)
        while first < last:
            stop = min(last, (first // self._interval + 1) * self._interval)
            self._steps(self._gram_data, runs, parameters, first, stop)
            first = stop
            ends = stop % self._interval == 0
            if ends or stop == last:
                self._write_weights(runs)
            if ends:
                self._rebase()

    def _write_weights(self, runs: ctypes.Array[Run]) -> None:
        """Base and coefficients to weights."""
        pointers = ctypes.c_void_p * len(runs)
        size = self._base.element_size()
        base = pointers(*(self._base.data_ptr() + size * self._starts[i] for i in self._index))
        weights = pointers(*(self._part(0, i).data_ptr() for i in self._index))
        if self._unfold(ctypes.byref(self._sides[0].data), runs, ctypes.c_int64(len(runs)), base, weights):
            raise MemoryError("no memory for the weights of a pack")
        for i in self._index:
            span, whole = self._readout(i)
            whole.copy_(span)

    def _rebase(self) -> None:
        """Go on from the present weights with coefficients of zero; their velocities stay."""
        for i in self._index:
            self._span[i][0][: self._span_layouts[i].hidden_size].zero_()
            base = self._base[self._starts[i] : self._starts[i + 1]]
            base.copy_(self._part(0, i))
            self._preactivations(
                ctypes.byref(self._sides[0].data), ctypes.c_int64(self.runs[i].width),
                ctypes.c_void_p(base.data_ptr()), ctypes.c_void_p(self._given[i].data_ptr()),
            )  # fmt: skip
