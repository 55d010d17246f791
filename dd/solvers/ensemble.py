"""Deep networks of one architecture in one program: seeds, training sets, step sizes and optimizers may differ.

Parameters are stacked, [runs, parameters], and the forward pass of all runs is one call under ``torch.func.vmap``, each
run with its own batch and its own running statistics; runs with the same optimizer lie side by side and are updated by
one call. Stacked products round in other ways than those of a run alone, so that a run equals the run alone up to
rounding, not bit for bit. For a GPU; on a CPU runs are trained one by one, by compiled code.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from dd import losses
from dd.config import RunConfig
from dd.network import Network
from dd.optim._base import Number, State, UpdateRule
from dd.solvers._solution import CurvePoint, Snapshot
from dd.solvers.batches import Orders, index_batches
from dd.solvers.grid import kind
from dd.solvers.replay import Replay

MEMORY = 12 << 30
"""Bytes of activations that one step of an ensemble may keep, about."""


def suits(run: RunConfig) -> bool:
    """Whether an ensemble can take a run: a deep network and a rule that packs."""
    return bool(run.component("model").deep) and isinstance(run.component("optimizer"), UpdateRule)


def _bytes(run: RunConfig) -> float:
    """Activations of one sample."""
    size: float = run.component("model").activation_bytes(run)
    return size * (2 if run.dtype == "float64" else 1)


def ensembles(networks: Sequence[Network]) -> list[list[int]]:
    """Positions of the runs of each ensemble, those with the same optimizer side by side; all :func:`suits`."""
    groups: dict[Hashable, list[int]] = {}
    for i, network in enumerate(networks):
        run = network.run
        key = (
            run.model, run.width, tuple(run.group_options("model").items()), run.normalization,
            tuple(run.group_options("normalization").items()), run.data, run.targets, run.n_train, run.n_test,
            run.batch_size,
            run.steps, run.stop_loss is None, run.loss, run.dtype,
        )  # fmt: skip
        groups.setdefault(key, []).append(i)
    out = []
    for members in groups.values():
        run = networks[members[0]].run
        assert run.batch_size is not None
        at_once = max(int(MEMORY // (_bytes(run) * run.batch_size)), 1)
        ordered = sorted(members, key=lambda i: kind(networks[i].run))
        out += [ordered[start : start + at_once] for start in range(0, len(ordered), at_once)]
    return out


class _Part:
    """An update rule and the rows of the ensemble that it updates."""

    def __init__(self, network: Network, runs: Sequence[RunConfig], lrs: Tensor, rows: slice, theta: Tensor) -> None:
        self.rows = rows
        rule: UpdateRule = runs[0].component("optimizer")
        self.rule = rule.bind(network.split, runs)
        self.hyper = self.rule.hyper(runs, lrs)
        self.state: State = self.rule.init_state(theta[rows], self.hyper)

    def keep(self, inside: Tensor, start: int) -> None:
        """Compact to some of its rows, the first of which is now ``start``."""
        self.rows = slice(start, start + len(inside))
        self.hyper = {k: v[inside] if v.ndim else v for k, v in self.hyper.items()}
        self.state = {k: v[inside].contiguous() for k, v in self.state.items()}


class Ensemble:
    """Deep networks of one architecture that are still training; see :class:`dd.solvers.train.Trainer`.

    Args:
        networks: one a run, in the order of :func:`ensembles`.
        lrs: absolute step size of each run.
    """

    def __init__(self, networks: Sequence[Network], lrs: Sequence[float]) -> None:
        self.runs = [network.run for network in networks]
        self.network = networks[0]
        self.theta = torch.cat([network.theta for network in networks])
        device, dtype = self.theta.device, self.theta.dtype
        self.buffers = {k: torch.cat([n.buffers[k] for n in networks]) for k in self.network.buffers}
        problems = list({n.run.data_key: n for n in networks}.values())
        place = {n.run.data_key: i for i, n in enumerate(problems)}
        self._problem = torch.tensor([place[n.run.data_key] for n in networks], device=device)
        self._inputs = [torch.cat([getattr(n, side).inputs for n in problems]) for side in ("train", "test")]
        self._targets = [torch.stack([getattr(n, side).targets for n in problems]) for side in ("train", "test")]
        for network in networks:
            network.release()
        seeds = list(dict.fromkeys(run.seed for run in self.runs))
        self._orders = [Orders(next(run for run in self.runs if run.seed == seed)) for seed in seeds]
        self._order = torch.tensor([seeds.index(run.seed) for run in self.runs], device=device)
        rates = torch.tensor(list(lrs), dtype=torch.float64, device=device).to(dtype)
        self._parts: list[_Part] = []
        start = 0
        for stop in range(1, len(networks) + 1):
            if stop == len(networks) or kind(self.runs[stop]) != kind(self.runs[start]):
                rows = slice(start, stop)
                self._parts.append(_Part(self.network, self.runs[rows], rates[rows], rows, self.theta))
                start = stop
        self._replay = Replay(self.runs[0].steps or 0, device)
        self.save()

    def advance(self, first: int, last: int) -> None:
        """See :meth:`Trainer.advance`."""
        size = self.runs[0].batch_size
        assert size is not None
        batches = index_batches(self._orders, size, first, last, self.theta.device)
        self._replay.run(self._step, self._changed, first, batches)

    def _changed(self) -> list[Tensor]:
        states = (tensor for part in self._parts for tensor in part.state.values())
        return [self.theta, *self.buffers.values(), *states]

    def _step(self, number: Number, index: Tensor | None = None) -> None:
        """One step on the samples of ``index``, [seeds, batch], or on all."""
        at = (self._problem,) if index is None else (self._problem[:, None], index[self._order])
        x, y = self._inputs[0][at], self._targets[0][at]
        leaf = self.theta.detach().requires_grad_(True)
        with torch.enable_grad():
            total = self.network.loss(self.network.named(leaf), x, y, self.buffers).sum()
            grad = torch.autograd.grad(total, leaf)[0]
        for part in self._parts:
            part.rule.update(self.theta[part.rows], grad[part.rows], part.state, part.hyper, number)

    def norms(self) -> list[float]:
        """See :meth:`Trainer.norms`."""
        norms: list[float] = self.theta.square().sum(dim=1).tolist()
        return norms

    def evaluate(self) -> list[CurvePoint]:
        """See :meth:`Trainer.evaluate`; in the precision of training."""
        columns: list[Sequence[float | None]] = []
        theta = self.network.named(self.theta)
        for inputs, targets in zip(self._inputs, self._targets, strict=True):
            samples = inputs.shape[1]
            loss = torch.zeros(len(self.theta), dtype=torch.float64, device=inputs.device)
            wrong = torch.zeros_like(loss)
            piece = max(int(MEMORY // (_bytes(self.runs[0]) * len(self.theta))), 1)
            for start in range(0, samples, piece):
                part = slice(start, start + piece)
                wanted = targets[self._problem, part]
                share = wanted.shape[1] / samples
                out = self.network.outputs(theta, inputs[self._problem, part], self.buffers)
                loss += share * losses.value(self.runs[0].loss, out, wanted)
                wrong += share * losses.error(out, wanted.argmax(dim=2))
            known = self.network.problem.classification
            columns += [loss.tolist(), wrong.tolist() if known else [None] * len(loss)]
        train, train_error, test, test_error = columns
        return [CurvePoint(0, *p) for p in zip(train, test, train_error, test_error, strict=True)]  # type: ignore[arg-type]

    def save(self) -> None:
        """See :meth:`Trainer.save`."""
        self._saved = self.theta.clone(), {k: v.clone() for k, v in self.buffers.items()}

    def state(self, position: int, step: int, *, saved: bool) -> Snapshot:
        """See :meth:`Trainer.state`."""
        theta, buffers = self._saved if saved else (self.theta, self.buffers)
        diagonal = None
        if not saved and step > 0:
            part = next(p for p in self._parts if p.rows.start <= position < p.rows.stop)
            every = part.rule.preconditioner(part.state, part.hyper, step)
            diagonal = None if every is None else every[position - part.rows.start].clone()
        return Snapshot(theta[position].clone(), {k: v[position].clone() for k, v in buffers.items()}, diagonal)

    def drop(self, gone: Sequence[int]) -> None:
        """See :meth:`Trainer.drop`."""
        stay = [i for i in range(len(self.theta)) if i not in gone]
        if not stay or not gone:
            return
        self._replay.forget()
        kept = torch.tensor(stay, device=self.theta.device)
        start = 0
        for part in self._parts:
            inside = [i - part.rows.start for i in stay if part.rows.start <= i < part.rows.stop]
            part.keep(torch.tensor(inside, dtype=torch.long, device=self.theta.device), start)
            start += len(inside)
        self._parts = [part for part in self._parts if part.rows.start < part.rows.stop]
        self.theta = self.theta[kept].contiguous()
        self.buffers = {k: v[kept] for k, v in self.buffers.items()}
        self._problem, self._order = self._problem[kept], self._order[kept]
