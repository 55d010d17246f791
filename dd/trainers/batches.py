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

PADDING = 4
"""Pixels by which ``data.augment=crop_flip`` shifts at most (He et al., arXiv 1512.03385)."""


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


class Moves:
    """Shifts and mirrorings of a run's training images, asked for by epochs in sequence."""

    def __init__(self, run: Run) -> None:
        self._generator, self._epoch, self._samples = stream(run.seed, "augment"), -1, run.n_train
        self._moves = np.zeros((0, 3), dtype=np.int64)

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """Row and column from which each sample is cut, from 0, and whether it is mirrored, [n_train, 3]."""
        while self._epoch < epoch:
            shifts = self._generator.integers(0, 2 * PADDING + 1, (self._samples, 2))
            self._moves = np.concatenate([shifts, self._generator.integers(0, 2, (self._samples, 1))], axis=1)
            self._epoch += 1
        return self._moves


def moved(x: Tensor, image: tuple[int, int, int], moves: Tensor, black: Tensor) -> Tensor:
    """Images with ``PADDING`` black pixels around them, cut to their size again, and some of them mirrored.

    Args:
        x: [runs, samples, inputs].
        image: channels, height and width.
        moves: of :class:`Moves`, [runs, samples, 3].
        black: what fills in, [runs].
    """
    height, width = image[1:]
    margin = torch.nn.functional.pad(x.new_zeros(height, width), (PADDING,) * 4, value=1.0)
    padded = torch.nn.functional.pad(x.view(*x.shape[:2], *image), (PADDING,) * 4)
    padded = (padded + black.view(-1, 1, 1, 1, 1) * margin).flatten(0, 1)
    top, left, mirrored = moves.flatten(0, 1).T
    rows = top[:, None] + torch.arange(height, device=x.device)
    columns = left[:, None] + torch.arange(width, device=x.device)
    columns = torch.where(mirrored[:, None] == 1, columns.flip(1), columns)
    every, channels = torch.arange(len(padded), device=x.device), torch.arange(image[0], device=x.device)
    where = every[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None, :]
    return padded[where].view(x.shape)


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
        self._moves = [Moves(run) for run in seeds.values()] if runs[0].augment == "crop_flip" else []
        self._black = self._x.new_tensor([network.problem.black for network in networks])
        self._moved_in: tuple[int, Tensor] = -1, torch.empty(0)  # the epoch whose moves are on the device, and they
        self._set = torch.tensor([list(sets).index(key) for key in keys], device=self._x.device)
        self._order = torch.tensor([list(seeds).index(run.seed) for run in runs], device=self._x.device)

    def between(self, first: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and targets of steps ``first`` + 1 ... ``last``, each [1 or runs, batch, columns or outputs]."""
        size, shared = self.networks[0].run.batch_size, len(self._x) == len(self._orders) == 1
        assert size is not None
        if self._orders[0].full and not self._moves:
            x, y = (self._x, self._y) if shared else (self._x[self._set], self._y[self._set])
            yield from [(x, y)] * (last - first)
            return
        for step, index in enumerate(indices(self._orders, size, first, last, self._x.device), start=first):
            if shared:
                x, y = self._x[:, index[0]], self._y[:, index[0]]
            else:
                where = self._set[:, None], index[self._order]
                x, y = self._x[where], self._y[where]
            yield (self._moved(step, x, index, shared=shared) if self._moves else x), y

    def _moved(self, step: int, x: Tensor, index: Tensor, *, shared: bool) -> Tensor:
        """A batch of images as training sees them at a step, from 0."""
        image, epoch = self.networks[0].run.data.image, step // self._orders[0].per_epoch
        assert image is not None
        if self._moved_in[0] != epoch:
            every = np.stack([moves.epoch(epoch) for moves in self._moves])
            self._moved_in = epoch, torch.from_numpy(every).to(x.device)
        own = torch.stack([moves[samples] for moves, samples in zip(self._moved_in[1], index, strict=True)])
        return moved(x, image, own if shared else own[self._order], self._black[:1] if shared else self._black)

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
        self._set, self._order, self._black = self._set[rows], self._order[rows], self._black[rows]
