"""The order in which training samples are seen: a fresh permutation every epoch."""

from __future__ import annotations

from collections.abc import Iterator

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


class Batches:
    """The batches of a run, step by step; gathered once an epoch."""

    def __init__(self, run: RunConfig, samples: Samples) -> None:
        self.run = run
        self.samples = samples
        self._orders = Orders(run)
        self._epoch = -1
        self._inputs, self._targets = samples.inputs, samples.targets

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of step ``step`` (from 0)."""
        if self._orders.full:
            return self._inputs, self._targets
        per_epoch, size = self._orders.per_epoch, self.run.batch_size
        assert size is not None
        epoch = step // per_epoch
        if epoch != self._epoch:
            order = torch.from_numpy(self._orders.epoch(epoch)).to(self.samples.inputs.device)
            self._epoch = epoch
            self._inputs = self.samples.inputs.index_select(1, order)
            self._targets = self.samples.targets[order]
        start = step % per_epoch * size
        return self._inputs[:, start : start + size], self._targets[start : start + size]
