"""The order in which training samples are seen: a fresh permutation every epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from dd.config import RunConfig
from dd.network import Samples
from dd.streams import stream


def batch_orders(run: RunConfig) -> Iterator[np.ndarray]:
    """Order of the training samples in each epoch, [n_train]; independent of batch size, width and optimizer.

    Every epoch is a fresh permutation; batches are consecutive pieces of it, the last one may be smaller.
    """
    generator = stream(run.seed, "batches")
    while True:
        yield generator.permutation(run.n_train)


class Orders:
    """Orders of a run's epochs, asked for in sequence; full batches keep the samples where they are."""

    def __init__(self, run: RunConfig) -> None:
        assert run.batches_per_epoch is not None
        self.full = run.batch_size == run.n_train
        self.per_epoch = run.batches_per_epoch
        self._orders = batch_orders(run)
        self._epoch = -1
        self._order = np.arange(run.n_train)

    def epoch(self, epoch: int) -> np.ndarray:
        """Order of the samples in an epoch, [n_train]."""
        while not self.full and self._epoch < epoch:
            self._order = next(self._orders)
            self._epoch += 1
        return self._order

    def between(self, first: int, last: int) -> np.ndarray:
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
    """The batches of a run, step by step; gathered once an epoch."""

    def __init__(self, run: RunConfig, samples: Samples) -> None:
        self.run = run
        self.samples = samples
        self._orders = Orders(run)
        self._epoch = -1
        self._inputs, self._targets = samples.inputs, samples.targets

    def between(self, first: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets of steps ``first`` + 1 ... ``last``; the samples' order goes to the device at once."""
        if self._orders.full:
            yield from [(self._inputs, self._targets)] * (last - first)
            return
        per_epoch, size = self._orders.per_epoch, self.run.batch_size
        assert size is not None
        orders = torch.from_numpy(self._orders.between(first, last)).to(self.samples.inputs.device, non_blocking=True)
        for step in range(first, last):
            epoch = step // per_epoch
            if epoch != self._epoch:
                order = orders[epoch - first // per_epoch]
                self._epoch = epoch
                self._inputs = self.samples.inputs.index_select(1, order)
                self._targets = self.samples.targets[order]
            start = step % per_epoch * size
            yield self._inputs[:, start : start + size], self._targets[start : start + size]
