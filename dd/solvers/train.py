"""Iterative training of a stack: every optimizer, with full batches or mini-batches."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from dd.config import RunConfig
from dd.kernels._suits import suits
from dd.measure.outcome import outcome
from dd.models._base import Tensors
from dd.network import Network, Parameters
from dd.optim._base import State, UnpackedRule, UpdateRule
from dd.solvers._solution import CurvePoint, Solution
from dd.streams import stream

LOGS_PER_DECADE = 8

CHECK_STEPS = 250
"""Divergence is looked for at logged steps and after whole epochs of at least so many steps."""


def log_steps(steps: int) -> frozenset[int]:
    """Logarithmically spaced steps from 0 to the last, both included.

    >>> sorted(log_steps(5))
    [0, 1, 2, 3, 4, 5]
    """
    if steps == 0:
        return frozenset({0})
    count = 1 + math.ceil(LOGS_PER_DECADE * math.log10(max(steps, 2)))
    return frozenset({0} | {round(s) for s in np.geomspace(1, steps, count)})


def check_steps(run: RunConfig) -> frozenset[int]:
    """Steps besides the logged ones at which a run is looked at: every epoch if it may stop early, else rarely."""
    assert run.steps is not None
    assert run.batches_per_epoch is not None
    wanted = 1 if run.stop_loss is not None else CHECK_STEPS
    interval = run.batches_per_epoch * math.ceil(wanted / run.batches_per_epoch)
    return frozenset(range(0, run.steps, interval))


def batch_orders(run: RunConfig) -> Iterator[np.ndarray]:
    """Order of the training samples in each epoch, [n_train]; independent of batch size, width and optimizer.

    Every epoch is a fresh permutation; batches are consecutive pieces of it, the last one may be smaller.
    """
    generator = stream(run.seed, "batches")
    while True:
        yield generator.permutation(run.n_train)


class _Batches:
    """The batches of a run, step by step; gathered once an epoch."""

    def __init__(self, network: Network) -> None:
        self.run = network.run
        self.samples = network.train
        self.full = self.run.batch_size == self.run.n_train
        self._orders = batch_orders(self.run)
        self._epoch = -1
        self._order = np.arange(self.run.n_train)
        self._inputs, self._targets = self.samples.inputs, self.samples.targets

    def order(self, epoch: int) -> np.ndarray:
        """Order of the samples in an epoch, [n_train]; epochs are asked for in sequence."""
        while not self.full and self._epoch < epoch:
            self._order = next(self._orders)
            self._epoch += 1
        return self._order

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of step ``step`` (from 0)."""
        if self.full:
            return self._inputs, self._targets
        per_epoch, size = self.run.batches_per_epoch, self.run.batch_size
        assert per_epoch is not None
        assert size is not None
        if step // per_epoch != self._epoch:
            order = torch.from_numpy(self.order(step // per_epoch)).to(self.samples.inputs.device)
            self._inputs = self.samples.inputs.index_select(1, order)
            self._targets = self.samples.targets[order]
        start = step % per_epoch * size
        return self._inputs[:, start : start + size], self._targets[start : start + size]


class _Stack:
    """State of the runs of a stack that are still training."""

    def __init__(self, network: Network, lr: Tensor) -> None:
        self.network = network
        self.index = list(range(len(network.runs)))
        self.rule: UpdateRule | UnpackedRule = network.run.component("optimizer")
        self.theta = network.named(network.theta.clone())
        self.buffers: Tensors = {k: v.clone() for k, v in network.buffers.items()}
        self.grad = network.named(torch.empty_like(self.theta.flat))
        self.batches = _Batches(network)
        self.state: State = {}
        self.hyper: dict[str, Tensor] = {}
        self.torch_optimizer: torch.optim.Optimizer | None = None
        if isinstance(self.rule, UpdateRule):
            self.hyper = self.rule.hyper(network.runs, lr.to(network.dtype))
            self.state = self.rule.init_state(self.theta.flat, self.hyper)
        else:
            self.theta.flat.requires_grad_(True)
            self.theta = network.named(self.theta.flat)
            self.torch_optimizer = self.rule.build(self.theta.flat, network.run, float(lr[0]))
        device = self.theta.flat.device.type
        self.compiled = len(self.index) == 1 and suits(network.run, network.problem.inputs, device)
        self.lr = float(lr[0])

    def advance(self, first: int, last: int) -> None:
        """Take steps ``first`` + 1 ... ``last``."""
        if self.compiled:
            self._advance_compiled(first, last)
            return
        for step in range(first, last):
            self._step(*self.batches.batch(step), step + 1)

    def _advance_compiled(self, first: int, last: int) -> None:
        from dd.kernels.rules import RULES
        from dd.kernels.two_layer import advance

        run = self.network.run
        options = run.group_options("optimizer")
        number, state_names, option_names = RULES[run.optimizer]
        state = [self.state[name][0].numpy() for name in state_names]
        state += [np.empty(0, state[0].dtype if state else self.theta.flat.numpy().dtype)] * (2 - len(state))
        per_epoch = run.batches_per_epoch
        assert per_epoch is not None
        epochs = range(first // per_epoch, (last - 1) // per_epoch + 1)
        model = run.group_options("model")
        advance(
            self.network.train.inputs[0].numpy(),
            self.network.train.targets.numpy(),
            np.stack([self.batches.order(epoch) for epoch in epochs]),
            epochs.start,
            first,
            last,
            run.batch_size,
            self.theta.flat[0].numpy(),
            run.width,
            bool(model["bias"]),
            model["activation"] == "relu",
            run.loss == "cross_entropy",
            number,
            np.array([self.lr, *(options[name] for name in option_names)]),
            *state,
        )

    def _step(self, inputs: Tensor, targets: Tensor, number: int) -> None:
        """Take step ``number`` (from 1) on a batch."""
        if self.torch_optimizer is None:
            assert isinstance(self.rule, UpdateRule)
            self.network.gradient(self.theta, inputs, targets, self.buffers, self.grad)
            self.rule.update(self.theta.flat, self.grad.flat, self.state, self.hyper, number)
            return

        def closure() -> float:
            flat = self.theta.flat
            with torch.enable_grad():
                loss = self.network.loss(self.network.named(flat), inputs, targets, self.buffers).sum()
                flat.grad = torch.autograd.grad(loss, flat)[0]
            return float(loss.detach())

        self.torch_optimizer.step(closure)

    def drop(self, gone: Sequence[int]) -> None:
        """Compact runs away; neighbours keep their rows."""
        stay = [i for i in range(len(self.index)) if i not in gone]
        self.index = [self.index[i] for i in stay]
        if not stay or not gone:
            return
        rows = torch.tensor(stay, device=self.theta.flat.device)
        self.theta = self.network.named(self.theta.flat[rows].contiguous())
        self.grad = self.network.named(torch.empty_like(self.theta.flat))
        self.buffers = {k: v[rows] for k, v in self.buffers.items()}
        self.state = {k: v[rows] for k, v in self.state.items()}
        self.hyper = {k: v[rows] if v.ndim else v for k, v in self.hyper.items()}


@torch.no_grad()
def train(network: Network, lr: Tensor, *, curve: bool = True) -> list[Solution]:
    """Train a stack to the end of its budget.

    Args:
        network: runs that share optimizer, budget, batch size and seed of the batch order.
        lr: absolute step size of each run, [runs].
        curve: whether losses are logged on the way; without, only divergence and ``stop_loss`` are looked for.

    Returns:
        One solution a run. A run whose squared parameter norm or loss overflows ends as ``diverged`` with its last
        finite state; a run at ``stop_loss`` ends there. Both leave the stack without disturbing the others.
    """
    run = network.run
    assert run.steps is not None
    assert run.batch_size is not None
    stack = _Stack(network, lr)
    logs = log_steps(run.steps) if curve else frozenset({0, run.steps})
    solutions: list[Solution | None] = [None] * len(network.runs)
    curves: list[list[CurvePoint]] = [[] for _ in network.runs]
    limit = torch.finfo(network.dtype).max ** 0.9
    saved: tuple[int, Tensor, Tensors] = (0, stack.theta.flat.detach().clone(), dict(stack.buffers))

    def precondition(i: int, step: int) -> Tensor | None:
        if step == 0 or not isinstance(stack.rule, UpdateRule):
            return None
        diagonal = stack.rule.preconditioner(stack.state, stack.hyper, step)
        return None if diagonal is None else diagonal[i].clone()

    def finish(i: int, status: str, step: int) -> None:
        """Take the present state of stack position ``i``, or its last finite one."""
        flat, buffers = stack.theta.flat.detach(), stack.buffers
        diagonal = precondition(i, step)
        if status == "diverged":
            step, flat, buffers = saved
            diagonal = None
        solutions[stack.index[i]] = Solution(
            flat[i].clone(), {k: v[i].clone() for k, v in buffers.items()}, status, step, diagonal,
            curves[stack.index[i]],
        )  # fmt: skip

    def look(step: int, log: bool) -> None:
        """Log, and let diverged and finished runs leave."""
        nonlocal saved
        norms = stack.theta.flat.detach().square().sum(dim=1)
        bad = {i for i, norm in enumerate(norms.tolist()) if not norm <= limit}
        done: set[int] = set()
        if log or run.stop_loss is not None:
            seen = _evaluate(network, stack)
            for i, point in enumerate(seen):
                if not (math.isfinite(point.train_loss) and math.isfinite(point.test_loss)):
                    bad.add(i)
                elif log and i not in bad:
                    point.step = step
                    curves[stack.index[i]].append(point)
                stop_loss = network.runs[stack.index[i]].stop_loss
                if stop_loss is not None and point.train_loss <= stop_loss and i not in bad:
                    done.add(i)
                    if not log:
                        point.step = step
                        curves[stack.index[i]].append(point)
        for i in bad:
            finish(i, "diverged", step)
        for i in done:
            finish(i, "ok", step)
        stack.drop(sorted(bad | done))
        if stack.index:
            saved = (
                step, stack.theta.flat.detach().clone(), {k: v.clone() for k, v in stack.buffers.items()}
            )  # fmt: skip

    look(0, log=curve)
    step = 0
    for stop in sorted(logs | check_steps(run))[1:]:
        if stack.index:
            stack.advance(step, stop)
            step = stop
            look(step, log=curve and step in logs)
    for i in range(len(stack.index)):
        finish(i, "ok", step)
    return [s for s in solutions if s is not None]


def _evaluate(network: Network, stack: _Stack) -> list[CurvePoint]:
    """Losses and errors of the runs still training, in the precision of training."""
    theta = Parameters(stack.theta.flat.detach(), {k: v.detach() for k, v in stack.theta.named.items()})
    got = outcome(network, theta, stack.buffers, network.train, network.test)
    blank = [None] * len(stack.index)
    columns = (
        got.train_loss.tolist(),
        got.test_loss.tolist(),
        blank if got.train_error is None else got.train_error.tolist(),
        blank if got.test_error is None else got.test_error.tolist(),
    )
    return [CurvePoint(0, *values) for values in zip(*columns, strict=True)]
