"""Packed training in PyTorch's own operations, for a GPU: seeds, widths and optimizers of a pack in one tensor program.

Runs of several seeds form a grid [seeds, runs]: every seed has the same combinations of width, optimizer and options,
padded to the widest. All runs of a seed read the same batch, so that the first layer of a whole row of the grid (for
frozen features: all read-outs side by side) is one product. Padding is exact: a hidden unit whose weights are all zero
outputs zero and has no gradient, a frozen feature beyond a run's width gets none, and no elementwise rule moves a zero
without gradient. Products of other shapes round in other ways, so that a run equals the run alone up to rounding, not
bit for bit.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from dd import losses
from dd.components.optimizer import Number, State, UpdateRule
from dd.measure.outcome import Outcome
from dd.measure.solution import CurvePoint, Snapshot
from dd.models.two_layer import TwoLayer
from dd.network import SIDES, Network
from dd.runs.run import Run
from dd.trainers.base import Task
from dd.trainers.batches import Orders, index_batches
from dd.trainers.course import Stepper, logged_passes
from dd.trainers.padding import MIXED, not_padded
from dd.trainers.replay import Replay
from dd.trainers.updates import StepSizes, hyper, kind, rule_of

PIECE = 1 << 27
"""Hidden activations held at once when losses are evaluated."""

MEMORY = 8 << 30
"""Bytes that the padded parameters of one grid, their gradient and their optimizer's state may take."""

STEP, PRODUCTS = 1e-5, 1e13
"""Estimated seconds of a step that fall to one run, and floating-point operations a second."""


class _Optimizer:
    """An update rule and its slice of every row of the grid."""

    def __init__(self, runs: Sequence[Run], lrs: Tensor, part: slice, theta: Tensor) -> None:
        self.part, rules = part, [rule_of(run) for run in runs]
        self.rule, self.sizes = rules[0], StepSizes(runs[0], lrs[..., None])
        flat = hyper(rules, lrs.to(theta.dtype).flatten())
        # [runs, 1] -> [seeds, runs, 1]
        self.hyper = {k: v.view(*lrs.shape, 1) for k, v in flat.items()}
        self.state: State = self.rule.init_state(theta[:, part], self.hyper)

    def keep(self, inside: Tensor, start: int) -> None:
        """Compact to some of its columns, the first of which is now ``start``."""
        self.part = slice(start, start + len(inside))
        self.hyper = {k: v[:, inside] if v.ndim else v for k, v in self.hyper.items()}
        self.sizes.keep(inside)
        self.state = {k: v[:, inside].contiguous() for k, v in self.state.items()}


class Grid(Stepper):
    """A grid of runs that are still training; tasks are in the order of :meth:`parts`."""

    name = "grid"
    follows_schedules = validates = True

    @classmethod
    def objection(cls, run: Run, device: torch.device) -> str | None:
        """See :meth:`Trainer.objection`."""
        if device.type == "cpu":
            return "on a CPU the bits of a run would depend on the others"
        if not (isinstance(run.optimizer, UpdateRule) and run.optimizer.elementwise):
            return f"optimizer={run.optimizer.name} does not say that it updates each parameter by itself"
        if run.linear and not run.model.nested:
            return f"features of model={run.model.name} are not the first of a wider run's"
        if run.linear and run.normalization.fitted:
            return f"normalization={run.normalization.name} scales each width by itself"
        return not_padded(run)

    @classmethod
    def group_key(cls, run: Run, device: torch.device) -> Hashable:
        """See :meth:`Trainer.group_key`."""
        return (*run.but(*MIXED, "width", "seed"), run.stop_loss is None)

    @classmethod
    def parts(cls, tasks: Sequence[Task]) -> list[list[Task]]:
        """See :meth:`Trainer.parts`: seeds with the same columns; wide ones apart from narrow ones if memory asks."""
        seeds: dict[int, list[Task]] = {}
        for task in sorted(tasks, key=lambda task: -task.run.width):
            seeds.setdefault(task.run.seed, []).append(task)
        rows: dict[Hashable, list[list[Task]]] = {}
        for members in seeds.values():
            rows.setdefault(tuple((t.run.width, kind(t.run)) for t in members), []).append(members)
        out = []
        for grid in rows.values():
            start = 0
            while start < len(grid[0]):
                each = 5 * grid[0][start].network.theta.numel() * grid[0][start].network.theta.element_size()
                stop = start + max(MEMORY // (each * len(grid)), 1)
                # within one grid, runs of an optimizer lie side by side
                out.append([t for row in grid for t in sorted(row[start:stop], key=lambda t: str(kind(t.run)))])
                start = stop
        return out

    @classmethod
    def seconds(cls, run: Run) -> float:
        """See :meth:`Trainer.seconds`."""
        passes = 3.0 * (run.batch_size or 0) * (run.steps or 0) + logged_passes(run)
        return (run.steps or 0) * STEP + 2.0 * run.model.parameter_count(run) * passes / PRODUCTS

    def __init__(self, tasks: Sequence[Task]) -> None:
        networks, lrs = [task.network for task in tasks], [task.lr or 0.0 for task in tasks]
        self.networks = networks
        self.runs = [network.run for network in networks]
        seeds = list(dict.fromkeys(run.seed for run in self.runs))
        rows, columns = len(seeds), len(self.runs) // len(seeds)
        first = max(networks, key=lambda network: network.run.width)
        self.device, self.dtype, self.linear, self.bias = first.theta.device, first.dtype, first.linear, first.bias
        self.outputs, self.width = first.problem.outputs, first.run.width
        self._relu = not isinstance(first.model, TwoLayer) or first.model.activation == "relu"
        self._losses = sorted({run.loss for run in self.runs})
        self._cross_entropy = torch.tensor([run.loss == "cross_entropy" for run in self.runs], device=self.device)
        self._batch = first.run.batch_size or 0
        self._shape = (rows, columns)
        # one orders and one set of inputs for each seed; two-layer nets share theirs
        heads = [networks[r * columns] for r in range(rows)]
        self._orders = [Orders(network.run) for network in heads]
        self._rows = torch.arange(rows, device=self.device)[:, None]
        self._replay = Replay(first.run.steps or 0, self.device)
        widest = [max(networks[r * columns : (r + 1) * columns], key=lambda n: n.run.width) for r in range(rows)]
        self._sides = [self._inputs(widest, side) for side in first.sides]
        self._train = self._sides[0]
        samples = [first.samples(side) for side in first.sides]
        self._targets = [s.targets.to(self.dtype) for s in samples]
        self._classes = [s.classes for s in samples]
        for network in networks:
            network.release()
        self._readout_columns = self.width + int(self.bias)
        hidden = 0 if self.linear else self.width * self._train.shape[2]
        self.theta = torch.zeros(rows, columns, hidden + self.outputs * self._readout_columns, device=self.device,
                                 dtype=self.dtype)  # fmt: skip
        self.grad = torch.zeros_like(self.theta)
        for i, network in enumerate(networks):
            self._copy(network, network.theta, self.theta[divmod(i, columns)], out=False)
        lr = torch.tensor(lrs, dtype=torch.float64, device=self.device).view(rows, columns)
        self._optimizers: list[_Optimizer] = []
        names = [kind(run) for run in self.runs[:columns]]
        for name in dict.fromkeys(names):
            at = [c for c in range(columns) if names[c] == name]
            part = slice(at[0], at[-1] + 1)
            members = [run for r in range(rows) for run in self.runs[r * columns + at[0] : r * columns + at[-1] + 1]]
            self._optimizers.append(_Optimizer(members, lr[:, part], part, self.theta))
        # a narrow run's features are the first of a wide one's: the others are there, but not its own
        widths = torch.tensor([run.width for run in self.runs[:columns]], device=self.device)
        self._own = (torch.arange(self.width, device=self.device) < widths[:, None])[:, None].to(self.dtype)
        self._index = list(range(len(self.runs)))
        self.save()

    def _inputs(self, widest: list[Network], side: str) -> Tensor:
        """[seeds or 1, samples, columns]; a column of ones of a fixed design is left to the bias."""
        kept = widest[:1] if not self.linear else widest
        got = torch.cat([network.samples(side).inputs for network in kept])
        return got[..., : self.width] if self.linear else got

    def _named(self, flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Views [..., width, inputs], [..., outputs, width] and [..., outputs, 0 or 1] of flat parameters."""
        split = flat.shape[-1] - self.outputs * self._readout_columns
        hidden = flat[..., :split].unflatten(-1, (self.width, -1)) if split else flat[..., :0]
        readout = flat[..., split:].unflatten(-1, (self.outputs, self._readout_columns))
        return hidden, readout[..., : self.width], readout[..., self.width :]

    def _copy(self, network: Network, flat: Tensor, padded: Tensor, *, out: bool) -> None:
        """Copy between a run's own parameters, [1, parameters], and its place in the grid, [padded parameters]."""
        own, width = network.named(flat).named, network.run.width
        hidden, readout, bias = self._named(padded)
        pairs = [(own["readout"][0][:, :width], readout[:, :width])]
        if self.bias:
            pairs.append((own["readout"][0][:, width:], bias))
        if not self.linear:
            pairs.append((own["hidden"][0], hidden[:width]))
        for a, b in pairs:
            if out:
                a.copy_(b)
            else:
                b.copy_(a)

    def advance(self, first: int, last: int) -> None:
        """See :meth:`Stepper.advance`."""
        batches = index_batches(self._orders, self._batch, first, last, self.device)
        self._replay.run(self._step, self._changed, first, batches)

    def _changed(self) -> list[Tensor]:
        return [self.theta, *(tensor for optimizer in self._optimizers for tensor in optimizer.state.values())]

    def _outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden activations [seeds, runs, width, samples] (nothing for a fixed design) and outputs likewise."""
        rows, columns = self._shape
        hidden, readout, bias = self._named(self.theta)
        h = x.new_empty(0)
        if self.linear:
            out = readout.flatten(1, 2) @ x.mT
        else:
            h = hidden.flatten(1, 2) @ x.mT
            h = torch.relu_(h) if self._relu else torch.tanh_(h)
            h = h.view(rows, columns, self.width, -1)
            out = readout @ h
        out = out.view(rows, columns, self.outputs, -1)
        return h, out + bias if self.bias else out

    def _step(self, number: Number, index: Tensor | None = None) -> None:
        """One step on the samples of ``index``, [seeds, batch], or on all; targets are [seeds or 1, outputs, batch]."""
        x, targets = self._train, self._targets[0].mT[None]
        if index is not None:
            x = self._train[self._rows, index] if self.linear else self._train[0][index]
            targets = self._targets[0][index].mT
        h, out = self._outputs(x)
        residual = self._loss_gradient(out, targets[:, None])
        grad_hidden, grad_readout, grad_bias = self._named(self.grad)
        if self.bias:
            grad_bias.copy_(residual.sum(dim=3, keepdim=True))
        if self.linear:
            torch.mul((residual.flatten(1, 2) @ x).view_as(grad_readout), self._own, out=grad_readout)
        else:
            _, readout, _ = self._named(self.theta)
            grad_readout.copy_(residual @ h.mT)
            upstream = readout.mT @ residual
            upstream = upstream.mul_(h > 0) if self._relu else upstream.mul_(1 - h * h)
            grad_hidden.copy_((upstream.flatten(1, 2) @ x).view_as(grad_hidden))
        for optimizer in self._optimizers:
            part = optimizer.part
            optimizer.sizes.put(number, optimizer.hyper["lr"])
            optimizer.rule.update(self.theta[:, part], self.grad[:, part], optimizer.state, optimizer.hyper, number)

    def _loss_gradient(self, out: Tensor, targets: Tensor) -> Tensor:
        """Gradient of each run's own loss in its outputs, [seeds, runs, outputs, samples]."""
        # losses.gradient takes outputs last
        flat, wanted = out.mT.flatten(0, 1), _repeat(targets, out).mT.flatten(0, 1)
        got = [losses.gradient(name, flat, wanted) for name in self._losses]
        chosen = got[0] if len(got) == 1 else torch.where(self._cross_entropy[:, None, None], got[0], got[1])
        return chosen.view(*out.mT.shape).mT

    def norms(self) -> list[float]:
        """See :meth:`Stepper.norms`."""
        every: list[float] = self.theta.double().square().sum(dim=2).flatten().tolist()
        return [every[i] for i in self._index]

    def evaluate(self, samples: int | None = None) -> list[CurvePoint]:
        """See :meth:`Stepper.evaluate`; in the precision of training."""
        means: list[Tensor] = []
        errors: list[Tensor | None] = []
        every = zip(SIDES, self._sides, self._targets, self._classes, strict=False)
        for side, x, targets, classes in every:
            most = len(targets) if samples is None or side == "validation" else samples
            count = min(len(targets), most)
            # a piece of the samples at a time: hidden activations of all runs must fit
            piece = max(PIECE // (len(self.networks) * max(self.width, self.outputs)), 1)
            loss = torch.zeros(len(self.networks), dtype=torch.float64, device=self.device)
            wrong = torch.zeros_like(loss)
            for start in range(0, count, piece):
                part = slice(start, min(start + piece, count))
                share = len(targets[part]) / count
                out = self._outputs(x[:, part])[1].mT.flatten(0, 1)
                values = torch.stack([losses.value(name, out, targets[part]) for name in self._losses])
                chosen = values[0] if len(values) == 1 else torch.where(self._cross_entropy, values[0], values[1])
                loss += share * chosen
                if classes is not None:
                    wrong += share * losses.error(out, classes[part])
            means.append(loss)
            errors.append(None if classes is None else wrong)
        points = Outcome.of_sides(means, errors).points()
        return [points[i] for i in self._index]

    def save(self) -> None:
        """See :meth:`Stepper.save`."""
        self._saved = self.theta.clone()

    def state(self, position: int, step: int, *, saved: bool) -> Snapshot:
        """See :meth:`Stepper.state`."""
        i = self._index[position]
        network, (row, column) = self.networks[i], divmod(i, self._shape[1])
        theta = torch.empty_like(network.theta)
        self._copy(network, theta, (self._saved if saved else self.theta)[row, column], out=True)
        if saved or step == 0:
            return Snapshot(theta[0], {}, None)
        optimizer = next(o for o in self._optimizers if o.part.start <= column < o.part.stop)
        every = optimizer.rule.preconditioner(optimizer.state, optimizer.hyper, step)
        if every is None:
            return Snapshot(theta[0], {}, None)
        diagonal = torch.empty_like(network.theta)
        self._copy(network, diagonal, every[row, column - optimizer.part.start], out=True)
        return Snapshot(theta[0], {}, diagonal[0])

    def drop(self, gone: Sequence[int]) -> None:
        """See :meth:`Stepper.drop`. A column of the grid goes once all its seeds have left; till then it is ignored."""
        self._index = [i for position, i in enumerate(self._index) if position not in gone]
        rows, columns = self._shape
        stay = sorted({i % columns for i in self._index})
        if not stay or len(stay) == columns:
            return
        self._replay.forget()
        kept = torch.tensor(stay, device=self.device)
        self.theta = self.theta[:, kept].contiguous()
        self.grad = torch.zeros_like(self.theta)
        self._own = self._own[kept]
        self._cross_entropy = self._cross_entropy.view(rows, columns)[:, kept].flatten()
        start = 0
        for optimizer in self._optimizers:
            inside = [c - optimizer.part.start for c in stay if optimizer.part.start <= c < optimizer.part.stop]
            optimizer.keep(torch.tensor(inside, dtype=torch.long, device=self.device), start)
            start += len(inside)
        self._optimizers = [o for o in self._optimizers if o.part.start < o.part.stop]
        self.networks = [self.networks[r * columns + c] for r in range(rows) for c in stay]
        self._index = [i // columns * len(stay) + stay.index(i % columns) for i in self._index]
        self._shape = (rows, len(stay))


def _repeat(targets: Tensor, like: Tensor) -> Tensor:
    return targets.expand(like.shape[0], like.shape[1], *targets.shape[2:])
