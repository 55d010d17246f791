"""Runs that share data and batch order, trained together by the compiled engine."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dd.components.schedule import Factors, Schedule
from dd.kernels.library import library
from dd.measure.solution import CurvePoint, Snapshot
from dd.models.two_layer import TwoLayer
from dd.network import SIDES, Network, Samples
from dd.numerics import all_finite
from dd.runs.run import Run
from dd.trainers.base import Task
from dd.trainers.batches import Orders
from dd.trainers.course import Stepper, logged_passes
from dd.trainers.padding import MIXED, not_padded
from dd.trainers.rules import RULES, hyper_of, not_compiled
from dd.trainers.updates import hyper, rule_of

PADDING = 16
"""Columns of the data are padded to a multiple of this, the widest vector's lanes."""

STEP, PRODUCTS = 1.5e-6, 5e10
"""Estimated seconds of a step, and floating-point operations a second."""

CALL_OPERATIONS, STEP_OPERATIONS = 3e10, 2e5
"""Floating-point operations of one call, about: half a second; and what a step costs besides, in the same unit."""


class EngineData(ctypes.Structure):
    """``Data`` of ``src/engine.h``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("samples", "columns", "outputs", "batch")),
        ("x", ctypes.c_void_p),
        ("ldx", ctypes.c_int64),
        ("y", ctypes.c_void_p),
    )


class EngineRun(ctypes.Structure):
    """``Run`` of ``src/engine.h``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("width", "bias", "two_layer", "tanh", "cross_entropy", "rule")),
        *((name, ctypes.c_void_p) for name in ("theta", "first", "second", "start")),
        ("hyper", ctypes.c_double * 8),
        ("factors", ctypes.c_void_p),
        ("taken", ctypes.c_int64),
    )


class Side:
    """Samples of one part of the data as the engine reads them; keeps the memory alive.

    Args:
        samples: one set of inputs, with targets.
        batch: size of a batch.
        dtype: precision of training.
        whole: whether all of them count where others are evaluated on their first samples.
    """

    def __init__(self, samples: Samples, batch: int, dtype: torch.dtype, *, whole: bool) -> None:
        inputs, targets, classes = samples.inputs[0], samples.targets, samples.classes
        columns = inputs.shape[1]
        self.whole = whole
        self.x = torch.zeros(len(inputs), padded(columns, PADDING), dtype=dtype)
        self.x[:, :columns] = inputs
        if not all_finite(self.x):  # zero weights of a narrow run would meet a wide run's infinities
            raise ValueError(f"inputs or features are not finite in {dtype}".replace("torch.", ""))
        self.y = targets.to(dtype).contiguous()
        self.classes = None if classes is None else classes.contiguous()
        self.data = EngineData(
            len(inputs), columns, self.y.shape[1], batch, self.x.data_ptr(), self.x.shape[1], self.y.data_ptr()
        )

    @classmethod
    def each(cls, every: Mapping[str, Samples], batch: int, dtype: torch.dtype) -> list[Side]:
        """Of each part of the data by its name, training first."""
        return [cls(samples, batch, dtype, whole=name == "validation") for name, samples in every.items()]

    def count(self, samples: int | None) -> int:
        """How many samples the first so many are; None: all."""
        return len(self.y) if samples is None or self.whole else min(len(self.y), samples)

    def with_inputs(self, inputs: Tensor) -> Side:
        """The same samples, [samples, other columns]."""
        samples = Samples(inputs[None], self.y, self.classes)
        return Side(samples, self.data.batch, self.x.dtype, whole=self.whole)


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

    def start(self, side: int) -> int | None:
        """Address of what the run's start gives on the samples of a side, where it stays apart."""
        return None

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


def uncompiled(run: Run, device: torch.device) -> str | None:
    """What of a run the compiled engine does not know; None if it knows all."""
    if device.type != "cpu":
        return "it runs on a CPU only"
    if library() is None:
        return "there is no compiled engine for this machine"
    return not_compiled(run.optimizer) or not_padded(run)


class Engine(Stepper):
    """Runs on the same data and batches, of any widths, rules and step sizes, that are still training."""

    name = "engine"
    follows_schedules = validates = True

    _states = 2
    """State tensors that there is room for."""

    @classmethod
    def objection(cls, run: Run, device: torch.device) -> str | None:
        """See :meth:`Trainer.objection`."""
        if run.solver != "iterative":
            return f"solver={run.solver} is not plain iteration"
        return uncompiled(run, device)

    @classmethod
    def group_key(cls, run: Run, device: torch.device) -> Hashable:
        """See :meth:`Trainer.group_key`: runs that see the same batches at the same steps, and inputs of one kind."""
        # inputs of a narrow run are the first columns of a wide one's, but where each width is scaled by itself
        prefix = not run.model.frozen_features or (run.model.nested and not run.normalization.fitted)
        return (*run.but(*MIXED, "schedule", *(("width",) if prefix else ())), run.stop_loss is None)

    @classmethod
    def seconds(cls, run: Run) -> float:
        """See :meth:`Trainer.seconds`."""
        operations = 2.0 * run.model.parameter_count(run) * (2 * (run.batch_size or 0) * (run.steps or 0))
        operations += 2.0 * run.model.parameter_count(run) * logged_passes(run)
        return (run.steps or 0) * STEP + operations / PRODUCTS

    def __init__(self, tasks: Sequence[Task]) -> None:
        networks, lrs = [task.network for task in tasks], [task.lr or 0.0 for task in tasks]
        self.networks = list(networks)
        self.runs = [network.run for network in networks]
        self._rules = [rule_of(run) for run in self.runs]
        widest = max(networks, key=lambda network: network.run.width)
        run = widest.run
        assert run.batch_size is not None
        suffix = "_f32" if widest.dtype == torch.float32 else "_f64"
        functions: Any = library()
        self._advance = getattr(functions, "dd_advance" + suffix)
        self._evaluate = getattr(functions, "dd_evaluate" + suffix)
        lanes = getattr(functions, "dd_lanes" + suffix)()
        self._sides, self._layouts = self._laid_out(widest, run.batch_size, lanes)
        self._orders = Orders(run)
        self._starts = np.cumsum([0] + [layout.size for layout in self._layouts]).tolist()
        # parameters and state tensors of all runs, one after the other
        self._memory = torch.zeros(1 + self._states, self._starts[-1], dtype=widest.dtype)
        self._saved = self._memory[0]
        self._structs = [[self._struct(i, lr, side) for i, lr in enumerate(lrs)] for side in range(len(self._sides))]
        self._index = list(range(len(self.networks)))
        self._lrs = list(lrs)
        for i, network in enumerate(self.networks):
            self._layouts[i].copy(network.theta[0], self._part(0, i), out=False)
        self._start_states()
        self._refresh()

    def _laid_out(self, widest: Network, batch: int, lanes: int) -> tuple[list[Side], Sequence[Layout]]:
        """Samples of each part of the data, training first, and where the parameters of each run lie."""
        every = {side: widest.exact(side) for side in widest.sides}
        if widest.linear and widest.bias:  # the column of ones is the engine's own
            every = {side: replace(samples, inputs=samples.inputs[..., :-1]) for side, samples in every.items()}
        sides = Side.each(every, batch, widest.dtype)
        return sides, [Layout(network, sides[0].data.columns, lanes) for network in self.networks]

    def _start_states(self) -> None:
        """Fill the state tensors, each with one number, as :meth:`UpdateRule.init_state` says."""
        for kind in dict.fromkeys(map(type, self._rules)):
            if not RULES[kind].state:
                continue
            members = [i for i, rule in enumerate(self._rules) if type(rule) is kind]
            rules = [self._rules[i] for i in members]
            one = torch.zeros(len(members), 1, dtype=self._memory.dtype)
            state = rules[0].init_state(one, hyper(rules, one[:, 0]))
            for k, key in enumerate(RULES[kind].state, start=1):
                for i, value in zip(members, state[key][:, 0].tolist(), strict=True):
                    if value:
                        self._part(k, i).fill_(value)

    def _part(self, k: int, i: int) -> Tensor:
        """Parameters (k = 0) or state tensor k of run i, [padded parameters]."""
        return self._memory[k, self._starts[i] : self._starts[i + 1]]

    def _struct(self, i: int, lr: float, side: int) -> EngineRun:
        """Run i as it meets the samples of a side, training (0), test (1) or validation (2)."""
        network, layout = self.networks[i], self._layouts[i]
        run = network.run
        rule = RULES[type(self._rules[i])]
        here = min(len(rule.state), self._states)
        pointers = [self._part(k, i).data_ptr() if k <= here else None for k in range(3)]
        tanh = isinstance(run.model, TwoLayer) and run.model.activation == "tanh"
        values = (ctypes.c_double * 8)(*hyper_of(self._rules[i], lr))
        return EngineRun(
            layout.width, layout.bias, not network.linear, tanh, run.loss == "cross_entropy", rule.number, *pointers,
            layout.start(side), values, None, 0,
        )  # fmt: skip

    def _refresh(self) -> None:
        """Arrays of the runs still training, for each side."""
        self._arrays = [(EngineRun * len(self._index))(*(structs[i] for i in self._index)) for structs in self._structs]

    def advance(self, first: int, last: int) -> None:
        """Take steps ``first`` + 1 ... ``last`` of every run."""
        self._steps(self._sides[0].data, self._arrays[0], sum(self._layouts[i].size for i in self._index), first, last)

    def _steps(self, data: EngineData, runs: ctypes.Array[EngineRun], parameters: int, first: int, last: int) -> None:
        """Take steps of runs with so many ``parameters`` on ``data``."""
        operations = 6 * data.batch * parameters + STEP_OPERATIONS
        # Ctrl-C and a stopped worker wait for the end of a call
        at_once = max(int(CALL_OPERATIONS / operations), 1)
        for start in range(first, last, at_once):
            stop = min(start + at_once, last)
            orders = self._orders.between(start, stop)
            kept = self._scheduled(runs, start, stop)
            failed = self._advance(
                ctypes.byref(data), runs, ctypes.c_int64(len(runs)),
                orders.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(start), ctypes.c_int64(stop),
            )  # fmt: skip
            if failed:
                raise MemoryError("no memory for the batches of a pack")
            del kept

    def _scheduled(self, runs: ctypes.Array[EngineRun], first: int, last: int) -> list[Factors]:
        """Point runs with a schedule to their factors of steps ``first`` + 1 ... ``last``, which the caller keeps."""
        made: dict[Schedule, Factors] = {}
        for struct, i in zip(runs, self._index, strict=True):
            schedule = self.runs[i].schedule
            if not schedule.flat:
                if schedule not in made:
                    made[schedule] = schedule.factors(self.runs[i], first, last)
                struct.factors, struct.taken = made[schedule].ctypes.data, first
        return list(made.values())

    def norms(self) -> list[float]:
        """Squared norm of every run's parameters."""
        return [float(torch.dot(part, part)) for part in (self._part(0, i) for i in self._index)]

    def evaluate(self, samples: int | None = None) -> list[CurvePoint]:
        """See :meth:`Stepper.evaluate`; summed in float64."""
        count = len(self._index)
        columns: list[list[Any]] = []
        for side, array in zip(self._sides, self._arrays, strict=True):
            loss, wrong = np.empty(count), np.empty(count)
            classes = None if side.classes is None else ctypes.c_void_p(side.classes.data_ptr())
            failed = self._evaluate(
                ctypes.byref(side.data), array, ctypes.c_int64(count), ctypes.c_int64(side.count(samples)), classes,
                loss.ctypes.data_as(ctypes.c_void_p), wrong.ctypes.data_as(ctypes.c_void_p),
            )  # fmt: skip
            if failed:
                raise MemoryError("no memory to evaluate a pack")
            loss[loss > torch.finfo(side.x.dtype).max] = np.inf  # as a sum in the precision of training would be
            columns.append(loss.tolist())
            columns.append([None] * count if classes is None else wrong.tolist())
        names = [f"{side}_{what}" for side in SIDES for what in ("loss", "error")]
        return [CurvePoint(step=0, **dict(zip(names, p, strict=False))) for p in zip(*columns, strict=True)]

    def save(self) -> None:
        """Remember the parameters as the last finite ones."""
        self._saved = self._memory[0].clone()

    def state(self, position: int, step: int, *, saved: bool) -> Snapshot:
        """Parameters of a run now, or as they were saved."""
        i = self._index[position]
        network, layout, rule = self.networks[i], self._layouts[i], RULES[type(self._rules[i])]
        part = slice(self._starts[i], self._starts[i + 1])
        theta = torch.empty_like(network.theta[0])
        layout.copy(theta, self._saved[part] if saved else self._memory[0, part], out=True)
        optimizer = self._rules[i]
        if saved or step == 0 or not optimizer.adaptive:
            return Snapshot(theta, {}, None)
        state = {}
        for k, name in enumerate(rule.state, start=1):
            state[name] = torch.empty_like(network.theta[:1])
            layout.copy(state[name][0], self._memory[k, part], out=True)
        values = hyper([optimizer], torch.tensor([self._lrs[i]], dtype=network.dtype))
        diagonal = optimizer.preconditioner(state, values, step)
        return Snapshot(theta, {}, None if diagonal is None else diagonal[0])

    def drop(self, gone: Sequence[int]) -> None:
        """Let runs go; the others do not notice."""
        self._index = [i for position, i in enumerate(self._index) if position not in gone]
        self._refresh()
