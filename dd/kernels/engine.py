"""Runs that share data and batch order, trained together by the compiled engine."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dd.config import RunConfig
from dd.kernels.library import library
from dd.kernels.rules import RULES, hyper
from dd.network import Network, Samples
from dd.optim._base import UpdateRule
from dd.solvers._solution import CurvePoint, Snapshot
from dd.solvers.batches import Orders
from dd.solvers.kernel import Kernels

PADDING = 16
"""Columns of the data are padded to a multiple of this, the widest vector's lanes."""

CALL_OPERATIONS, STEP_OPERATIONS = 3e10, 2e5
"""Floating-point operations of one call, about: half a second; and what a step costs besides, in the same unit."""


class Data(ctypes.Structure):
    """``Data`` of ``src/engine.h``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("samples", "columns", "outputs", "batch")),
        ("x", ctypes.c_void_p),
        ("ldx", ctypes.c_int64),
        ("y", ctypes.c_void_p),
    )


class Run(ctypes.Structure):
    """``Run`` of ``src/engine.h``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("width", "bias", "two_layer", "tanh", "cross_entropy", "rule")),
        *((name, ctypes.c_void_p) for name in ("theta", "first", "second", "start")),
        ("hyper", ctypes.c_double * 8),
    )


def padding_is_exact(run: RunConfig, network: Network) -> bool:
    """Whether zero padding leaves a run alone: design fixed, or two layers without normalisation.

    A rule whose eps is zero in the precision of training would divide zero by zero in the padding.
    """
    return (network.linear or (run.model == "two_layer" and run.normalization == "none")) and (
        run.group_options("optimizer").get("eps", 1.0) > torch.finfo(network.dtype).tiny
    )


def suits(run: RunConfig, network: Network) -> bool:
    """Whether the engine trains a run, decided by its own axes."""
    return (
        network.theta.device.type == "cpu"
        and run.optimizer in RULES
        and padding_is_exact(run, network)
        and library() is not None
    )


def stream_key(run: RunConfig, network: Network) -> Hashable:
    """Runs with the same key see the same batches at the same steps and are trained in one call."""
    # in function space the kernel matrix takes the place of the inputs
    own = (
        run.feature_key
        if run.solver == "dual"
        else None
        if network.prefix
        else (run.width, run.normalization, run.group_options("normalization").items())
    )
    return (
        run.data_key, run.seed, run.dtype, run.batch_size, run.steps, run.stop_loss is None, run.model,
        tuple(run.group_options("model").items()), repr(own),
    )  # fmt: skip


class _Side:
    """Training or test samples as the engine reads them; keeps the memory alive."""

    def __init__(self, inputs: Tensor, targets: Tensor, classes: Tensor | None, batch: int) -> None:
        columns = inputs.shape[1]
        self.x = torch.zeros(len(inputs), padded(columns, PADDING), dtype=inputs.dtype)
        self.x[:, :columns] = inputs
        if not torch.isfinite(self.x).all():  # zero weights of a narrow run would meet a wide run's infinities
            raise ValueError(f"inputs or features are not finite in {inputs.dtype}".replace("torch.", ""))
        self.y = targets.to(inputs.dtype).contiguous()
        self.classes = None if classes is None else classes.contiguous()
        self.data = Data(
            len(inputs), columns, self.y.shape[1], batch, self.x.data_ptr(), self.x.shape[1], self.y.data_ptr()
        )

    @classmethod
    def of(cls, samples: Samples, batch: int, *, ones: bool) -> _Side:
        """Inputs of samples, without their column of ones if ``ones``."""
        inputs = samples.inputs[0]
        return cls(inputs[:, :-1] if ones else inputs, samples.targets, samples.classes, batch)

    def with_inputs(self, inputs: Tensor) -> _Side:
        """The same samples, [samples, other columns]."""
        return _Side(inputs.to(self.x.dtype), self.y, self.classes, self.data.batch)


def padded(n: int, lanes: int) -> int:
    """The next multiple of ``lanes``."""
    return math.ceil(n / lanes) * lanes


class Layout:
    """Where the parameters of one run lie in its part of the engine's memory: rows are padded to whole vectors."""

    def __init__(self, network: Network, columns: int, lanes: int) -> None:
        self.width, self.bias = network.run.width, network.bias
        run, outputs = network.run, network.problem.outputs
        self.matrices: list[tuple[int, int, int]] = []  # rows, columns in the flat parameters, columns in memory
        if not network.linear:
            self.matrices.append((run.width, columns, padded(columns, lanes)))
        self.hidden_size = sum(rows * ld for rows, _, ld in self.matrices)
        self.bias_apart = network.linear and network.bias
        width = run.width + int(network.bias)
        self.matrices.append((outputs, width, padded(run.width if self.bias_apart else width, lanes)))
        rows, _, ld = self.matrices[-1]
        self.size = self.hidden_size + rows * ld + (padded(outputs, lanes) if self.bias_apart else 0)

    def copy(self, flat: Tensor, memory: Tensor, *, out: bool) -> None:
        """Copy between flat parameters, [parameters], and memory, [size]; ``out`` of the memory, or into it."""
        a = b = 0
        for rows, width, ld in self.matrices:
            outer = flat[a : a + rows * width].view(rows, width)
            inner = memory[b : b + rows * ld].view(rows, ld)
            shared = width - 1 if self.bias_apart else width
            pairs = [(outer[:, :shared], inner[:, :shared])]
            a, b = a + rows * width, b + rows * ld
            if self.bias_apart:
                pairs.append((outer[:, -1], memory[b : b + rows]))
            for x, y in pairs:
                if out:
                    x.copy_(y)
                else:
                    y.copy_(x)


class DualLayout:
    """The same of a run in function space: coefficients of the training samples, and the share left of the start."""

    bias = False

    def __init__(self, network: Network, kernels: Kernels, lanes: int) -> None:
        self.network, self.kernels = network, kernels
        self.width = len(kernels.train)
        self.outputs = network.problem.outputs
        self.ld = padded(self.width, lanes)
        self.size = self.outputs * self.ld + lanes
        self.starts = [side.to(network.dtype).contiguous() for side in kernels.initial_outputs(network)]

    def copy(self, flat: Tensor, memory: Tensor, *, out: bool) -> None:
        """Write the start into memory, or read weights out of it."""
        share = memory[self.outputs * self.ld]
        if out:
            coefficients = memory[: self.outputs * self.ld].view(self.outputs, self.ld)[:, : self.width]
            flat.copy_(self.kernels.weights(self.network, coefficients, float(share)))
        else:
            share.fill_(1.0)


class Engine:
    """State of the runs of one stream that are still training; see :class:`dd.solvers.train.Trainer`.

    Args:
        networks: one a run; all with the same :func:`stream_key`.
        lrs: absolute step size of each run.
    """

    _states = 2
    """State tensors that there is room for."""

    def __init__(self, networks: Sequence[Network], lrs: Sequence[float]) -> None:
        self.networks = list(networks)
        self.runs = [network.run for network in networks]
        widest = max(networks, key=lambda network: network.run.width)
        run, ones = widest.run, widest.linear and widest.bias and widest.run.solver != "dual"
        assert run.batch_size is not None
        suffix = "_f32" if widest.dtype == torch.float32 else "_f64"
        functions: Any = library()
        self._advance = getattr(functions, "dd_advance" + suffix)
        self._evaluate = getattr(functions, "dd_evaluate" + suffix)
        lanes = getattr(functions, "dd_lanes" + suffix)()
        kernels = Kernels(widest) if run.solver == "dual" else None
        samples = (widest.train, widest.test) if kernels is None else kernels.samples(widest)
        self._sides = [_Side.of(side, run.batch_size, ones=ones) for side in samples]
        self._orders = Orders(run)
        columns = self._sides[0].data.columns
        self._layouts: list[Layout | DualLayout] = [
            Layout(n, columns, lanes) if kernels is None else DualLayout(n, kernels, lanes) for n in self.networks
        ]
        self._starts = np.cumsum([0] + [layout.size for layout in self._layouts]).tolist()
        # parameters and state tensors of all runs, one after the other
        self._memory = torch.zeros(1 + self._states, self._starts[-1], dtype=widest.dtype)
        self._saved = self._memory[0]
        self._structs = [[self._struct(i, lr, side) for i, lr in enumerate(lrs)] for side in range(2)]
        self._index = list(range(len(self.networks)))
        self._lrs = list(lrs)
        for i, network in enumerate(self.networks):
            self._layouts[i].copy(network.theta[0], self._part(0, i), out=False)
        self._start_states()
        self._refresh()

    def _start_states(self) -> None:
        """Fill the state tensors, each with one number, as :meth:`UpdateRule.init_state` says."""
        for name in sorted({run.optimizer for run in self.runs}):
            if not RULES[name].state:
                continue
            members = [i for i, run in enumerate(self.runs) if run.optimizer == name]
            rule: UpdateRule = self.runs[members[0]].component("optimizer")
            one = torch.zeros(len(members), 1, dtype=self._memory.dtype)
            state = rule.init_state(one, rule.hyper([self.runs[i] for i in members], one[:, 0]))
            for k, key in enumerate(RULES[name].state, start=1):
                for i, value in zip(members, state[key][:, 0].tolist(), strict=True):
                    if value:
                        self._part(k, i).fill_(value)

    def _part(self, k: int, i: int) -> Tensor:
        """Parameters (k = 0) or state tensor k of run i, [padded parameters]."""
        return self._memory[k, self._starts[i] : self._starts[i + 1]]

    def _struct(self, i: int, lr: float, side: int) -> Run:
        """Run i as it meets training (side 0) or test samples (1)."""
        network, layout = self.networks[i], self._layouts[i]
        run = network.run
        rule = RULES[run.optimizer]
        here = min(len(rule.state), self._states)
        pointers = [self._part(k, i).data_ptr() if k <= here else None for k in range(3)]
        tanh = not network.linear and run.group_options("model")["activation"] == "tanh"
        start = layout.starts[side].data_ptr() if isinstance(layout, DualLayout) else None
        values = (ctypes.c_double * 8)(*hyper(run, lr))
        return Run(
            layout.width, layout.bias, not network.linear, tanh, run.loss == "cross_entropy", rule.number, *pointers,
            start, values,
        )  # fmt: skip

    def _refresh(self) -> None:
        """Arrays of the runs still training, for both sides."""
        self._arrays = [(Run * len(self._index))(*(structs[i] for i in self._index)) for structs in self._structs]

    def advance(self, first: int, last: int) -> None:
        """Take steps ``first`` + 1 ... ``last`` of every run."""
        self._steps(self._sides[0].data, self._arrays[0], sum(self._layouts[i].size for i in self._index), first, last)

    def _steps(self, data: Data, runs: ctypes.Array[Run], parameters: int, first: int, last: int) -> None:
        """Take steps of runs with so many ``parameters`` on ``data``."""
        operations = 6 * data.batch * parameters + STEP_OPERATIONS
        # Ctrl-C and a stopped worker wait for the end of a call
        at_once = max(int(CALL_OPERATIONS / operations), 1)
        for start in range(first, last, at_once):
            stop = min(start + at_once, last)
            orders = self._orders.between(start, stop)
            failed = self._advance(
                ctypes.byref(data), runs, ctypes.c_int64(len(runs)),
                orders.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(start), ctypes.c_int64(stop),
            )  # fmt: skip
            if failed:
                raise MemoryError("no memory for the batches of a pack")

    def norms(self) -> list[float]:
        """Squared norm of every run's parameters."""
        return [float(self._part(0, i).double().square().sum()) for i in self._index]

    def evaluate(self) -> list[CurvePoint]:
        """Losses and errors of every run, summed in float64."""
        count = len(self._index)
        columns: list[list[Any]] = []
        for side, array in zip(self._sides, self._arrays, strict=True):
            loss, wrong = np.empty(count), np.empty(count)
            classes = None if side.classes is None else ctypes.c_void_p(side.classes.data_ptr())
            failed = self._evaluate(
                ctypes.byref(side.data), array, ctypes.c_int64(count), classes,
                loss.ctypes.data_as(ctypes.c_void_p), wrong.ctypes.data_as(ctypes.c_void_p),
            )  # fmt: skip
            if failed:
                raise MemoryError("no memory to evaluate a pack")
            loss[loss > torch.finfo(side.x.dtype).max] = np.inf  # as a sum in the precision of training would be
            columns.append(loss.tolist())
            columns.append([None] * count if classes is None else wrong.tolist())
        train, train_error, test, test_error = columns
        return [CurvePoint(0, *p) for p in zip(train, test, train_error, test_error, strict=True)]

    def save(self) -> None:
        """Remember the parameters as the last finite ones."""
        self._saved = self._memory[0].clone()

    def state(self, position: int, step: int, *, saved: bool) -> Snapshot:
        """Parameters of a run now, or as they were saved."""
        i = self._index[position]
        network, layout, rule = self.networks[i], self._layouts[i], RULES[self.runs[i].optimizer]
        part = slice(self._starts[i], self._starts[i + 1])
        theta = torch.empty_like(network.theta[0])
        layout.copy(theta, self._saved[part] if saved else self._memory[0, part], out=True)
        optimizer: UpdateRule = network.run.component("optimizer")
        if saved or step == 0 or not optimizer.adaptive:
            return Snapshot(theta, {}, None)
        state = {}
        for k, name in enumerate(rule.state, start=1):
            state[name] = torch.empty_like(network.theta[:1])
            layout.copy(state[name][0], self._memory[k, part], out=True)
        values = optimizer.hyper([network.run], torch.tensor([self._lrs[i]], dtype=network.dtype))
        diagonal = optimizer.preconditioner(state, values, step)
        return Snapshot(theta, {}, None if diagonal is None else diagonal[0])

    def drop(self, gone: Sequence[int]) -> None:
        """Let runs go; the others do not notice."""
        self._index = [i for position, i in enumerate(self._index) if position not in gone]
        self._refresh()
