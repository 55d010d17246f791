"""The order in which training samples are seen: a fresh permutation every epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dd.network import Network, Samples
from dd.runs.run import Run
from dd.streams import stream


def batch_orders(run: Run) -> Iterator[NDArray[np.int64]]:
    """Order of the training samples in each epoch, [n_train]; independent of batch size, width and optimizer.

    Every epoch is a fresh permutation; batches are consecutive pieces of it, the last one may be smaller.
    """
    generator = stream(run.seed, "batches")
    while True:
        yield generator.permutation(run.n_train)


class Orders:
    """Orders of a run's epochs, asked for in sequence; full batches keep the samples where they are."""

    def __init__(self, run: Run) -> None:
        assert run.batches_per_epoch is not None
        self.full = run.batch_size == run.n_train
        self.per_epoch = run.batches_per_epoch
        self._orders = batch_orders(run)
        self._epoch = -1
        self._order = np.arange(run.n_train)

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """Order of the samples in an epoch, [n_train]."""
        while not self.full and self._epoch < epoch:
            self._order = next(self._orders)
            self._epoch += 1
        return self._order

    def between(self, first: int, last: int) -> NDArray[np.int64]:
        """Orders of the epochs of steps ``first`` + 1 ... ``last``, [epochs, n_train], int64."""
        epochs = range(first // self.per_epoch, (last - 1) // self.per_epoch + 1)
        if self.full:  # one serves all
            return np.ascontiguousarray(self._order, dtype=np.int64)
        return np.stack([self.epoch(epoch) for epoch in epochs]).astype(np.int64, copy=False)


def indices(orders: Sequence[Orders], size: int, first: int, last: int, device: torch.device) -> list[Tensor]:
    """Samples of steps ``first`` + 1 ... ``last``, [seeds, batch] each; they go to the device at once.

    Args:
        orders: one a seed, of runs with as many samples.
        size: batch size; the last batch of an epoch may be smaller.
        first: steps taken.
        last: steps taken afterwards.
        device: where the indices are needed.
    """
    per_epoch, full = orders[0].per_epoch, orders[0].full
    every = np.stack([np.atleast_2d(order.between(first, last)) for order in orders])
    there = torch.from_numpy(every).to(device, non_blocking=True)
    out = []
    for step in range(first, last):
        epoch, start = 0 if full else step // per_epoch - first // per_epoch, step % per_epoch * size
        out.append(there[:, epoch, start : start + size])
    return out


def index_batches(
    orders: Sequence[Orders], size: int, first: int, last: int, device: torch.device
) -> list[tuple[Tensor, ...]]:
    """:func:`indices` of each step, or nothing where a batch is all samples."""
    if orders[0].full:
        return [()] * (last - first)
    return [(index,) for index in indices(orders, size, first, last, device)]


class Batches:
    """The batches of the runs of a stack, step by step; each training set and each order is kept once.

    Args:
        networks: one a run; their samples have one shape.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        self.networks, runs = list(networks), [network.run for network in networks]
        keys = [run.design_key if run.model.frozen_features else run.inputs_key for run in runs]
        sets = {key: network.train for key, network in zip(keys, networks, strict=True)}
        self._x = torch.cat([samples.inputs for samples in sets.values()])
        self._y = torch.stack([samples.targets for samples in sets.values()])
        seeds = {run.seed: run for run in runs}
        self._orders = [Orders(run) for run in seeds.values()]
        self._set = torch.tensor([list(sets).index(key) for key in keys], device=self._x.device)
        self._order = torch.tensor([list(seeds).index(run.seed) for run in runs], device=self._x.device)

    def between(self, first: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets of steps ``first`` + 1 ... ``last``, each [1 or runs, batch, columns or outputs]."""
        size, shared = self.networks[0].run.batch_size, len(self._x) == len(self._orders) == 1
        assert size is not None
        if self._orders[0].full:
            x, y = (self._x, self._y) if shared else (self._x[self._set], self._y[self._set])
            yield from [(x, y)] * (last - first)
            return
        for index in indices(self._orders, size, first, last, self._x.device):
            if shared:
                yield self._x[:, index[0]], self._y[:, index[0]]
            else:
                where = self._set[:, None], index[self._order]
                yield self._x[where], self._y[where]

    def samples(self, side: str) -> Samples:
        """All samples of the runs of one of :data:`dd.network.SIDES`, [1 or runs, samples, columns]."""
        every = [network.samples(side) for network in self.networks]
        if len(self._x) == 1:
            return every[0]
        classes = [samples.classes for samples in every if samples.classes is not None]
        return Samples(
            torch.cat([samples.inputs for samples in every]),
            torch.stack([samples.targets for samples in every]),
            torch.stack(classes) if classes else None,
        )

    def keep(self, rows: Tensor) -> None:
        """Let all runs go but some."""
        self.networks = [self.networks[i] for i in rows.tolist()]
        self._set, self._order = self._set[rows], self._order[rows]
