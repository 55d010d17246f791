"""Iterative training of a stack: every optimizer, with full batches or mini-batches."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor

from dd.config import RunConfig
from dd.kernels import engine, span
from dd.measure.outcome import outcome
from dd.measure.spectrum import spectrum
from dd.models._base import Tensors
from dd.network import Network, weight_dtype
from dd.optim._base import Number, QuadraticRule, State, UnpackedRule, UpdateRule
from dd.solvers import ensemble, grid
from dd.solvers._solution import CurvePoint, Snapshot, Solution
from dd.solvers.batches import Batches
from dd.solvers.kernel import KernelStack
from dd.solvers.logs import logged_steps
from dd.solvers.randomness import GlobalRandom
from dd.solvers.replay import Replay

CHECK_STEPS = 250
"""Divergence is looked for at logged steps and after whole epochs of at least so many steps."""


def check_steps(run: RunConfig) -> range:
    """Steps besides the logged ones at which a run is looked at: every epoch if it may stop early, else rarely."""
    assert run.steps is not None
    assert run.batches_per_epoch is not None
    wanted = 1 if run.stop_loss is not None else CHECK_STEPS
    interval = run.batches_per_epoch * math.ceil(wanted / run.batches_per_epoch)
    return range(0, run.steps, interval)


def ascending(*steps: Iterable[int]) -> Iterator[int]:
    """Steps of several ascending sequences, each once; no list of them is made, for budgets have no limit.

    >>> list(ascending([0, 3, 4], range(0, 9, 4)))
    [0, 3, 4, 8]
    """
    return (step for step, _ in groupby(heapq.merge(*steps)))


class Trainer(Protocol):
    """Runs that are trained together: what :func:`train` asks of them. Positions count the runs still training."""

    @property
    def runs(self) -> Sequence[RunConfig]:
        """All runs, those that left included."""

    def advance(self, first: int, last: int) -> None:
        """Take steps ``first`` + 1 ... ``last``."""

    def norms(self) -> list[float]:
        """Squared norm of every run's parameters."""

    def evaluate(self) -> list[CurvePoint]:
        """Losses and errors of every run."""

    def save(self) -> None:
        """Remember the present parameters as the last finite ones."""

    def state(self, position: int, step: int, *, saved: bool) -> Snapshot:
        """State of a run after ``step`` steps, or as it was saved."""

    def drop(self, gone: Sequence[int]) -> None:
        """Let runs go without disturbing the others."""


class Stack:
    """Runs of one architecture and seed in PyTorch's own operations: the general path, and the engine's oracle.

    Args:
        network: runs that share optimizer, budget, batch size and seed.
        lr: absolute step size of each run, [runs].
    """

    def __init__(self, network: Network, lr: Tensor) -> None:
        self.network = network
        self.runs = network.runs
        self.rule: UpdateRule | QuadraticRule | UnpackedRule = network.run.component("optimizer")
        self.theta = network.named(network.theta.clone())
        self.buffers: Tensors = {k: v.clone() for k, v in network.buffers.items()}
        self.grad = network.named(torch.empty_like(self.theta.flat))
        self.batches = Batches(network.run, network.train)
        self.optimizer_state: State = {}
        self.hyper: dict[str, Tensor] = {}
        self.torch_optimizer: torch.optim.Optimizer | None = None
        self._random: GlobalRandom | None = None
        self._replay = Replay(network.run.steps or 0, self.theta.flat.device)
        if isinstance(self.rule, UpdateRule):
            self.rule = self.rule.bind(network.split, network.runs)
            self.hyper = self.rule.hyper(network.runs, lr.to(network.dtype))
            self.optimizer_state = self.rule.init_state(self.theta.flat, self.hyper)
        elif isinstance(self.rule, QuadraticRule):
            found, decay = spectrum(network.exact_train.inputs[0]), self._weight_decay()
            scale = 2.0 / network.exact_train.targets.numel()
            ends = ((scale * s * s if found.rank else 0.0) + decay for s in (found.sigma_min, found.sigma_max))
            self.optimizer_state = self.rule.start(network.run, *ends)
        else:
            self.leaves = [part[0].clone().requires_grad_(True) for part in network.split(self.theta.flat)]
            # whatever the optimizer draws follows from the run's seed alone
            self._random = GlobalRandom(network.run.seed, "optimizer")
            with self._random.swapped_in():
                self.torch_optimizer = self.rule.build(self.leaves, network.run, float(lr[0]))
        self.save()

    def advance(self, first: int, last: int) -> None:
        """See :meth:`Trainer.advance`."""
        batches = self.batches.between(first, last)
        if isinstance(self.rule, UpdateRule):
            self._replay.run(self._step, self._changed, first, batches)
            return
        with self._random.swapped_in() if self._random else nullcontext():
            for number, batch in enumerate(batches, start=first + 1):
                self._step(number, *batch)

    def _changed(self) -> list[Tensor]:
        return [self.theta.flat, *self.buffers.values(), *self.optimizer_state.values()]

    def _step(self, number: Number, inputs: Tensor, targets: Tensor) -> None:
        """Take step ``number`` (from 1) on a batch."""
        if self.torch_optimizer is None:
            self.network.gradient(self.theta, inputs, targets, self.buffers, self.grad)
            if isinstance(self.rule, UpdateRule):
                self.rule.update(self.theta.flat, self.grad.flat, self.optimizer_state, self.hyper, number)
            elif isinstance(self.rule, QuadraticRule):
                self._quadratic_step(self.rule, inputs, targets)
            return

        def closure() -> Tensor:
            self._gather()
            flat = self.theta.flat.clone().requires_grad_(True)
            with torch.enable_grad():
                loss = self.network.loss(self.network.named(flat), inputs, targets, self.buffers).sum()
                gradient = torch.autograd.grad(loss, flat)[0]
            for leaf, part in zip(self.leaves, self.network.split(gradient), strict=True):
                leaf.grad = part[0].clone()
            return loss.detach()

        with torch.enable_grad():  # some optimizers switch it off themselves and expect it on
            self.torch_optimizer.step(closure)  # type: ignore[arg-type]  # torch says float, its optimizers take both
        self._gather()

    def _weight_decay(self) -> float:
        return float(self.network.run.group_options("optimizer")["weight_decay"])

    def _quadratic_step(self, rule: QuadraticRule, inputs: Tensor, targets: Tensor) -> None:
        """Take a step of a method for quadratics, whose Hessian is the gradient's slope."""
        decay = self._weight_decay()

        def product(direction: Tensor) -> Tensor:
            out = self.network.named(torch.empty_like(direction))
            named = self.network.named(direction)
            self.network.gradient(named, inputs, torch.zeros_like(targets), self.buffers, out)
            return out.flat.add_(direction, alpha=decay)

        grad = self.grad.flat.add_(self.theta.flat, alpha=decay)
        rule.update(self.theta.flat, grad, self.optimizer_state, product)

    def _gather(self) -> None:
        """Write an unpacked optimizer's parameters into the flat ones."""
        for leaf, part in zip(self.leaves, self.network.split(self.theta.flat), strict=True):
            part[0].copy_(leaf.detach())

    def norms(self) -> list[float]:
        """See :meth:`Trainer.norms`."""
        norms: list[float] = self.theta.flat.square().sum(dim=1).tolist()
        return norms

    def evaluate(self) -> list[CurvePoint]:
        """See :meth:`Trainer.evaluate`; in the precision of training."""
        got = outcome(self.network, self.theta, self.buffers, self.network.train, self.network.test)
        blank = [None] * len(self.theta.flat)
        columns = (
            got.train_loss.tolist(),
            got.test_loss.tolist(),
            blank if got.train_error is None else got.train_error.tolist(),
            blank if got.test_error is None else got.test_error.tolist(),
        )
        return [CurvePoint(0, *values) for values in zip(*columns, strict=True)]

    def save(self) -> None:
        """See :meth:`Trainer.save`."""
        self._saved = self.theta.flat.clone(), {k: v.clone() for k, v in self.buffers.items()}

    def state(self, position: int, step: int, *, saved: bool) -> Snapshot:
        """See :meth:`Trainer.state`."""
        flat, buffers = self._saved if saved else (self.theta.flat, self.buffers)
        diagonal = None
        if not saved and step > 0 and isinstance(self.rule, UpdateRule):
            diagonal = self.rule.preconditioner(self.optimizer_state, self.hyper, step)
        return Snapshot(
            flat[position].clone(),
            {k: v[position].clone() for k, v in buffers.items()},
            None if diagonal is None else diagonal[position].clone(),
        )

    def drop(self, gone: Sequence[int]) -> None:
        """See :meth:`Trainer.drop`."""
        stay = [i for i in range(len(self.theta.flat)) if i not in gone]
        if not stay or not gone:
            return
        self._replay.forget()
        rows = torch.tensor(stay, device=self.theta.flat.device)
        self.theta = self.network.named(self.theta.flat[rows].contiguous())
        self.grad = self.network.named(torch.empty_like(self.theta.flat))
        self.buffers = {k: v[rows] for k, v in self.buffers.items()}
        self.optimizer_state = {k: v[rows] for k, v in self.optimizer_state.items()}
        self.hyper = {k: v[rows] if v.ndim else v for k, v in self.hyper.items()}


def stacks(networks: Sequence[Network]) -> list[list[int]]:
    """Positions of runs of one architecture, seed, optimizer and budget; an optimizer that does not pack is alone."""
    groups: dict[Hashable, list[int]] = {}
    for i, network in enumerate(networks):
        run = network.run
        options = [v for k, v in run.group_options("optimizer").items() if not isinstance(v, float)]
        key = (run.feature_key, engine.stream_key(run, network), run.loss, run.optimizer, *options)
        groups.setdefault(key if run.component("optimizer").packable else i, []).append(i)
    return list(groups.values())


def stack_of(networks: Sequence[Network], lrs: Sequence[float | None]) -> Stack:
    """The stack of the runs of one group of :func:`stacks`."""
    first = networks[0]
    if len(networks) > 1:
        runs = [network.run for network in networks]
        first = Network(runs, first.problem, first.theta.device, first.dtype)
    return Stack(first, torch.tensor([lr or 0.0 for lr in lrs], dtype=torch.float64, device=first.theta.device))


def kernel_stack_of(networks: Sequence[Network], lrs: Sequence[float | None]) -> KernelStack:
    """Runs in function space, in PyTorch's own operations."""
    return KernelStack(
        networks, torch.tensor([lr or 0.0 for lr in lrs], dtype=torch.float64, device=networks[0].theta.device)
    )


def together(networks: Sequence[Network]) -> list[list[int]]:
    """Positions of the runs that one trainer takes.

    On a CPU the engine takes all runs of a stream, and every other run is alone: its bits may not depend on neighbours.
    On a GPU a grid takes runs of like width, an ensemble deep networks and a stack other runs of one architecture.
    """
    on_cpu = all(network.theta.device.type == "cpu" for network in networks)
    groups: dict[Hashable, list[int]] = {}
    for i, network in enumerate(networks):
        key: Hashable = i
        if engine.suits(network.run, network):
            key = (engine.stream_key(network.run, network), span.steps_in_span(network.run))
        elif network.run.solver == "dual":
            key = i if on_cpu else ("dual", network.run.optimizer, engine.stream_key(network.run, network))
        elif not on_cpu:
            kinds = (("grid", grid.suits(network.run, network)), ("ensemble", ensemble.suits(network.run)))
            key = next((kind for kind, suits in kinds if suits), "stack")
        groups.setdefault(key, []).append(i)
    out = []
    for key, members in groups.items():
        inner = [networks[i] for i in members]
        parts = [list(range(len(members)))]
        if key in PARTED:
            parts = PARTED[key](inner)
        out += [[members[k] for k in part] for part in parts]
    return out


PARTED: dict[Hashable, Callable[[Sequence[Network]], list[list[int]]]] = {
    "grid": grid.grids,
    "ensemble": ensemble.ensembles,
    "stack": stacks,
}
"""Ways in which a GPU trains runs together -> what parts them."""


def trainer_of(networks: Sequence[Network], lrs: Sequence[float | None]) -> Trainer:
    """Trainer of the runs of one group of :func:`together`; ``lrs`` are absolute step sizes, None without one."""
    first = networks[0]
    if engine.suits(first.run, first):
        in_span = span.steps_in_span(first.run) and span.products_fit(first)
        return (span.SpanEngine if in_span else engine.Engine)(networks, [lr or 0.0 for lr in lrs])
    if first.run.solver == "dual":
        return kernel_stack_of(networks, lrs)
    if first.theta.device.type != "cpu" and grid.suits(first.run, first):
        return grid.Grid(networks, [lr or 0.0 for lr in lrs])
    if first.theta.device.type != "cpu" and ensemble.suits(first.run):
        return ensemble.Ensemble(networks, [lr or 0.0 for lr in lrs])
    return stack_of(networks, lrs)


@dataclass
class _Course:
    """A run on its way.

    Attributes:
        run: its axes.
        logged: steps at which it is logged.
        checked: steps at which it is looked at besides.
        curve: logged so far.
        solution: once it has ended.
    """

    run: RunConfig
    logged: frozenset[int]
    checked: range
    curve: list[CurvePoint] = field(default_factory=list)
    solution: Solution | None = None

    @classmethod
    def of(cls, run: RunConfig, *, curve: bool) -> _Course:
        """At its start; without ``curve`` the last step alone is logged."""
        logged = logged_steps(run) if curve else frozenset({run.steps or 0})
        return cls(run, logged, check_steps(run))

    def looked_at(self, step: int) -> bool:
        """Whether its turn is at a step."""
        return step in self.logged or step in self.checked


def train(trainer: Trainer, *, curve: bool = True) -> list[Solution]:
    """Train runs to the end of their budget, which they share.

    Args:
        trainer: the runs.
        curve: whether losses are logged on the way; without, the last step alone is.

    Returns:
        One solution a run. A run whose squared parameter norm or loss overflows ends as ``diverged`` with its last
        finite state; a run at ``stop_loss`` ends there. Both leave without disturbing the others.
    """
    return [solutions[0] for solutions in train_families(trainer, [[]] * len(trainer.runs), curve=curve)]


@torch.no_grad()
def train_families(
    trainer: Trainer, shorter: Sequence[Sequence[RunConfig]], *, curve: bool = True
) -> list[list[Solution]]:
    """:func:`train`, and on the way of each run those that differ from it in a smaller budget alone.

    Args:
        trainer: the runs.
        shorter: of each run those of its :attr:`RunConfig.trajectory_key` that stop earlier; each ends with the numbers
            that it would have alone.
        curve: see :func:`train`.

    Returns:
        Of each run its solution and then those of its shorter runs.
    """
    families = [
        [_Course.of(run, curve=curve) for run in (first, *others)]
        for first, others in zip(trainer.runs, shorter, strict=True)
    ]
    courses = [course for family in families for course in family]
    every_logged = frozenset[int]().union(*{course.logged for course in courses})
    index = list(range(len(families)))
    limit = torch.finfo(weight_dtype(trainer.runs[0])).max ** 0.9
    last_finite = 0

    def finish(position: int, course: _Course, status: str, step: int) -> None:
        """Take the present state of a run, or its last finite one."""
        diverged = status == "diverged"
        at = last_finite if diverged else step
        got = trainer.state(position, at, saved=diverged)
        course.solution = Solution(got.theta, got.buffers, status, at, got.preconditioner, course.curve)

    def look_at(position: int, course: _Course, step: int, norm: float, point: CurvePoint | None) -> None:
        """Log a run, and end it where it has diverged, is good enough, or has used up a shorter budget."""
        log, stop_loss = step in course.logged, course.run.stop_loss
        bad, done = not norm <= limit, False
        if point is not None and (log or stop_loss is not None):
            bad |= not (math.isfinite(point.train_loss) and math.isfinite(point.test_loss))
            done = not bad and stop_loss is not None and point.train_loss <= stop_loss
            if not bad and (log or done):
                course.curve.append(point)
        if bad:
            finish(position, course, "diverged", step)
        elif done or (course.run.steps == step and course is not families[index[position]][0]):
            finish(position, course, "ok", step)

    def look(step: int) -> None:
        """Look at all runs whose turn it is, and let those go that have ended."""
        nonlocal index, last_finite
        norms = trainer.norms()
        stops = trainer.runs[0].stop_loss is not None
        points = trainer.evaluate() if step in every_logged or stops else [None] * len(norms)
        for position, (norm, point) in enumerate(zip(norms, points, strict=True)):
            if point is not None:
                point.step = step
            for course in families[index[position]]:
                if course.solution is None and course.looked_at(step):
                    look_at(position, course, step, norm, point)
        if not families[0][0].looked_at(step):  # only shorter runs looked: no trace may be left on the others
            return
        gone = [position for position, i in enumerate(index) if families[i][0].solution]
        if gone:
            trainer.drop(gone)
            index = [i for position, i in enumerate(index) if position not in gone]
        if index:
            trainer.save()
            last_finite = step

    look(0)
    step = 0
    for stop in ascending(sorted(every_logged), *{course.checked for course in courses}):
        if not index:
            break
        if stop:
            trainer.advance(step, stop)
            step = stop
            look(step)
    for position, i in enumerate(index):
        finish(position, families[i][0], "ok", step)
    return [[course.solution for course in family if course.solution] for family in families]
