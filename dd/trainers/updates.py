"""How a trainer of whole tensors moves parameters: update rules with their hyper-parameters and state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from dd.components.optimizer import MatrixRule, Number, QuadraticRule, Split, State, UnpackedRule, UpdateRule
from dd.measure.spectrum import spectrum
from dd.runs.run import Run
from dd.trainers.base import Task
from dd.trainers.randomness import GlobalRandom


class Objective(Protocol):
    """What a trainer can say of the training loss on a batch."""

    def objective(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor | None, Tensor]:
        """Losses [runs], None where they are not computed, and gradients [runs, parameters]."""


@dataclass(frozen=True)
class Batch:
    """One batch: inputs [1 or runs, samples, columns] and targets [1 or runs, samples, outputs]."""

    trainer: Objective
    x: Tensor
    y: Tensor

    def objective(self, theta: Tensor) -> tuple[Tensor | None, Tensor]:
        """Losses [runs] and gradients [runs, parameters]."""
        return self.trainer.objective(theta, self.x, self.y)

    def slope(self, direction: Tensor) -> Tensor:
        """Of a quadratic loss the product of its Hessian with a direction, [runs, parameters]."""
        return self.trainer.objective(direction, self.x, torch.zeros_like(self.y))[1]


def kind(run: Run) -> Hashable:
    """Runs of one kind are updated by one call: same rule, same options but for numbers of each run's own."""
    own = run.optimizer if not isinstance(run.optimizer, UpdateRule) else None
    fixed = tuple((k, v) for k, v in run.optimizer.values().items() if not isinstance(v, float))
    return (run.optimizer.name, fixed, own)


def hyper(rules: Sequence[UpdateRule], lr: Tensor) -> dict[str, Tensor]:
    """Hyper-parameters of runs of one kind.

    Args:
        rules: the runs' rules.
        lr: absolute step sizes, [runs].

    Returns:
        ``lr`` and every numeric option, each [runs, 1]; with ``exact NAME`` in float64 and ``1-NAME`` rounded from
        there, since 1 - 0.999 keeps only four digits in float32.
    """
    out = {"lr": lr[:, None]}
    for field, axis in type(rules[0]).axes().items():
        if axis.kind is float:
            values = [getattr(rule, field) for rule in rules]
            exact = torch.tensor(values, dtype=torch.float64, device=lr.device)[:, None]
            out |= {field: exact.to(lr.dtype), f"exact {field}": exact, f"1-{field}": (1 - exact).to(lr.dtype)}
    return out


class StepSizes:
    """Step sizes of runs that share a schedule and a budget.

    Factors of all steps lie on the device, since recorded steps find their number there: 8 bytes a step, whatever the
    number of runs.

    Args:
        run: any of them.
        lrs: absolute ones that the schedule multiplies, float64, [..., runs, 1].

    Attributes:
        vary: whether steps differ in it.
    """

    def __init__(self, run: Run, lrs: Tensor) -> None:
        self._lrs, self.vary = lrs.clone(), not run.schedule.flat
        if self.vary:
            self._factors = torch.from_numpy(run.schedule.factors(run, 0, run.steps or 0)).to(lrs.device)

    def put(self, number: Number, out: Tensor) -> None:
        """Write those of a step, from 1, over the ones of another step, [..., runs, 1], where steps differ."""
        if not self.vary:
            return
        if isinstance(number, int):
            factor = self._factors[number - 1]
        else:  # an index of no dimension would be read by the host
            factor = self._factors.index_select(0, (number - 1).long().view(1))
        out.copy_(self._lrs * factor)

    def keep(self, rows: Tensor) -> None:
        """Let all runs go but some."""
        self._lrs = self._lrs.index_select(-2, rows)


class Update(ABC):
    """Moves the parameters of the runs of a trainer.

    Attributes:
        state: what it remembers, by name.
    """

    state: State

    @abstractmethod
    def step(self, theta: Tensor, number: Number, batch: Batch) -> None:
        """Take one step in place.

        Args:
            theta: [runs, parameters].
            number: of this step, from 1.
            batch: the training loss on it.
        """

    def preconditioner(self, step: int) -> Tensor | None:
        """Diagonal of the last step, [runs, parameters]; None where there is none."""
        return None

    def keep(self, rows: Tensor) -> None:
        """Let all runs go but some."""
        raise NotImplementedError("a run of its own has nobody to leave it")


class RuleUpdate(Update):
    """An update rule that takes many runs at once."""

    def __init__(self, runs: Sequence[Run], lrs: Tensor, theta: Tensor, split: Split) -> None:
        rules = [rule_of(run) for run in runs]
        self.rule, self.split = rules[0], split
        self.hyper = hyper(rules, lrs.to(theta.dtype))
        self.sizes = StepSizes(runs[0], lrs[:, None])
        self.state: State = self.rule.init_state(theta, self.hyper)

    def step(self, theta: Tensor, number: Number, batch: Batch) -> None:
        """See :meth:`Update.step`."""
        self.apply(theta, batch.objective(theta)[1], number)

    def apply(self, theta: Tensor, grad: Tensor, number: Number) -> None:
        """Take one step along a known gradient, in place."""
        self.sizes.put(number, self.hyper["lr"])
        if not isinstance(self.rule, MatrixRule):
            self.rule.update(theta, grad, self.state, self.hyper, number)
            return
        states = {name: self.split(tensor) for name, tensor in self.state.items()}
        for i, (part, g) in enumerate(zip(self.split(theta), self.split(grad), strict=True)):
            own = {name: parts[i] for name, parts in states.items()}
            update = self.rule.update_matrix if part.ndim == 3 else self.rule.update_vector
            update(part, g, own, self.hyper, number)

    def preconditioner(self, step: int) -> Tensor | None:
        """See :meth:`Update.preconditioner`."""
        return self.rule.preconditioner(self.state, self.hyper, step)

    def keep(self, rows: Tensor) -> None:
        """See :meth:`Update.keep`."""
        self.hyper = {k: v[rows] if v.ndim else v for k, v in self.hyper.items()}
        self.sizes.keep(rows)
        self.state = {k: v[rows].contiguous() for k, v in self.state.items()}


class QuadraticUpdate(Update):
    """A method for quadratics, whose Hessian is the gradient's slope; weight decay is part of the loss."""

    def __init__(self, task: Task, rule: QuadraticRule) -> None:
        found = spectrum(task.network.exact_train.inputs[0])
        scale, self.rule, self.decay = 2.0 / task.network.exact_train.targets.numel(), rule, rule.weight_decay
        ends = ((scale * s * s if found.rank else 0.0) + self.decay for s in (found.sigma_min, found.sigma_max))
        self.state = rule.start(*ends)

    def step(self, theta: Tensor, number: Number, batch: Batch) -> None:
        """See :meth:`Update.step`."""
        grad = batch.objective(theta)[1].add_(theta, alpha=self.decay)
        self.rule.update(theta, grad, self.state, lambda d: batch.slope(d).add_(d, alpha=self.decay))


class TorchUpdate(Update):
    """An optimizer of PyTorch's kind on one run's weight matrices and vectors."""

    def __init__(self, task: Task, rule: UnpackedRule, theta: Tensor, split: Split) -> None:
        self.split, self.state = split, {}
        self.leaves = [part[0].clone().requires_grad_(True) for part in split(theta)]
        # whatever the optimizer draws follows from the run's seed alone
        self.random = GlobalRandom(task.run.seed, "optimizer")
        with self.random.swapped_in():
            self.optimizer = rule.build(self.leaves, task.lr or 0.0)
        self.lr = torch.tensor([[task.lr or 0.0]], dtype=torch.float64)
        self.sizes = StepSizes(task.run, self.lr)

    def step(self, theta: Tensor, number: Number, batch: Batch) -> None:
        """See :meth:`Update.step`."""
        if self.sizes.vary:
            self.sizes.put(number, self.lr)
            for group in self.optimizer.param_groups:
                group["lr"] = float(self.lr)

        def gather() -> None:
            for leaf, part in zip(self.leaves, self.split(theta), strict=True):
                part[0].copy_(leaf.detach())

        def closure() -> Tensor:
            gather()
            losses, gradient = batch.objective(theta)
            for leaf, part in zip(self.leaves, self.split(gradient), strict=True):
                leaf.grad = part[0].clone()
            assert losses is not None
            return losses[0]

        # some optimizers switch gradients off themselves and expect them on
        with self.random.swapped_in(), torch.enable_grad():
            self.optimizer.step(closure)  # type: ignore[arg-type]  # torch says float, its optimizers take both
        gather()


def rule_of(run: Run) -> UpdateRule:
    """The run's update rule."""
    assert isinstance(run.optimizer, UpdateRule)
    return run.optimizer


def update_of(tasks: Sequence[Task], theta: Tensor) -> Update:
    """What moves the parameters of runs of one :func:`kind`, [runs, parameters]."""
    rule, split = tasks[0].run.optimizer, tasks[0].network.split
    if isinstance(rule, QuadraticRule):
        return QuadraticUpdate(tasks[0], rule)
    if isinstance(rule, UnpackedRule):
        return TorchUpdate(tasks[0], rule, theta, split)
    lrs = torch.tensor([task.lr or 0.0 for task in tasks], dtype=torch.float64, device=theta.device)
    return RuleUpdate([task.run for task in tasks], lrs, theta, split)
