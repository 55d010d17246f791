"""From raw samples to a Problem: class-balanced split, label noise, standardisation, one-hot targets."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from dd.components.dataset import Pool, Samples
from dd.components.divisors import near_constant
from dd.errors import ConfigError
from dd.problems.pools import pool_of, room_of, verify
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.streams import stream

LARGE = 1 << 26
"""Training inputs of so many bytes keep the column of ones behind them: a model with biases needs no copy of them."""

ROWS = 4096
"""Samples whose norms are taken at a time."""


@dataclass(frozen=True)
class Problem:
    """Train and test tensors, all float64 on the CPU.

    Attributes:
        train_x: [n_train, inputs].
        train_y: targets, [n_train, outputs]; one-hot for classes, noisy labels included.
        test_x: [n_test, inputs].
        test_y: clean targets, [n_test, outputs].
        classification: whether targets are one-hot.
        source: where the samples came from.
        sha256: digest of the pool that they were drawn from.
        noisy: whether a training label is another than the given one, [n_train]; None without label noise.
        black: what standardisation makes of an input of zero; NaN where that depends on the input.
        near_constant: inputs that hardly vary (:func:`dd.components.divisors.near_constant`) and have been divided each
            by its own deviation.
        validation_x: [n_validation, inputs]: training samples held out; None where there are none.
        validation_y: their targets, noisy labels included.
    """

    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    classification: bool
    source: str
    sha256: str
    noisy: torch.Tensor | None = None
    black: float = 0.0
    near_constant: int = 0
    validation_x: torch.Tensor | None = None
    validation_y: torch.Tensor | None = None

    @property
    def inputs(self) -> int:
        """Input dimension."""
        return self.train_x.shape[1]

    @property
    def outputs(self) -> int:
        """Number of classes or real targets."""
        return self.train_y.shape[1]

    @cached_property
    def targets_id(self) -> str:
        """Hash of the test targets: the same for runs whose test outputs can be compared sample by sample."""
        content = repr(tuple(self.test_y.shape)).encode() + self.test_y.numpy().astype("<f8").tobytes()
        return hashlib.sha256(content).hexdigest()[:20]


def balanced_order(labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Order samples so that every prefix is as class-balanced as the classes allow.

    Args:
        labels: class of each sample, [samples].
        generator: shuffles within the classes, and the classes within each round.

    Returns:
        A permutation of the samples, [samples]: rounds in which each class that still has samples appears once.
    """
    shuffled = generator.permutation(len(labels))
    tie = generator.random(len(labels))
    rank = np.empty(len(labels), dtype=np.int64)
    for c in np.unique(labels):
        mine = shuffled[labels[shuffled] == c]
        rank[mine] = np.arange(len(mine))
    return np.lexsort((tie, rank))


def split(
    labels: NDArray[np.generic], n_train: int, n_test: int, seed: int, test_seed: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut one pool into disjoint, class-balanced training and test samples.

    The test set is taken first, so it does not change with ``n_train``, and training sets of growing size are nested.
    Real targets are split at random.

    Args:
        labels: classes [samples] of integers, or real targets [samples, outputs].
        n_train: training samples.
        n_test: test samples.
        seed: ``data.seed``.
        test_seed: ``data.test_seed``; ``seed`` where None.

    Returns:
        Indices of the training and of the test samples.
    """
    test = _order(labels, stream(seed if test_seed is None else test_seed, "data.split"))[:n_test]
    rest = np.setdiff1d(np.arange(len(labels)), test)
    train = rest[_order(labels[rest], stream(seed, "data.split.train"))[:n_train]]
    return train, test


def _order(labels: NDArray[np.generic], generator: np.random.Generator) -> NDArray[np.int64]:
    """Random order of samples: of classes every prefix is balanced."""
    if labels.ndim > 1:
        return generator.permutation(len(labels))
    return balanced_order(labels.astype(np.int64), generator)


def linear_targets(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the best linear model of the inputs, without intercept, makes of the targets.

    The third ablation of Schaeffer et al. (arXiv 2303.14151, "no residuals in the ideal fit"): nothing is left that
    the model could not express.

    Args:
        x: inputs, [samples, inputs].
        y: targets, [samples, outputs].

    Returns:
        x · B with the least-squares solution B of least norm, [samples, outputs].
    """
    fit: NDArray[np.float64] = x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return fit


def noisy_labels(labels: NDArray[np.int64], classes: int, share: float, over: str, seed: int) -> NDArray[np.int64]:
    """Replace exactly ``round(share * samples)`` labels; a larger share replaces a superset.

    Args:
        labels: clean labels, [samples].
        classes: number of classes.
        share: share of samples whose label is replaced.
        over: ``other``: by another class, uniformly; ``all``: redrawn uniformly over all classes, so that
            1/classes of the redrawn labels stay as they were.
        seed: ``data.seed``.

    Returns:
        Labels with noise, [samples].
    """
    generator = stream(seed, "data.label_noise")
    chosen = generator.permutation(len(labels))[: round(share * len(labels))]
    shift = (
        generator.integers(1, classes, len(labels)) if over == "other" else generator.integers(0, classes, len(labels))
    )
    noisy = labels.copy()
    noisy[chosen] = (labels[chosen] + shift[: len(chosen)]) % classes
    return noisy


def standardize(
    train: NDArray[np.float64], test: NDArray[np.float64], kind: str, *more: NDArray[np.float64]
) -> tuple[NDArray[np.float64], ...]:
    """Standardise inputs with training statistics only, in place: large data are not copied.

    Args:
        train: [n_train, inputs].
        test: [n_test, inputs].
        more: further samples, [samples, inputs] each.
        kind: ``none``; ``global``: minus the scalar mean, over the scalar standard deviation; ``feature``: the same
            for each input (constant inputs become zero); ``sphere``: minus the mean input, each sample scaled to
            norm sqrt(inputs), the set-up of random-feature theory.

    Returns:
        Standardised train and test inputs, and the further ones.
    """
    sides = (train, test, *more)
    if kind == "none":
        return sides
    if kind == "global":
        center, spread = train.mean(), train.std()
        for x in sides:
            x -= center
            x /= spread or 1.0
        return sides
    mean = train.mean(axis=0)
    for x in sides:
        x -= mean
    if kind == "feature":
        spread = train.std(axis=0)
        constant = spread <= 1e-12 * max(1.0, float(spread.max(initial=0.0)))
        scale = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, spread))
        for x in sides:
            x *= scale
        return sides
    for x in sides:
        for rows in np.array_split(x, max(math.ceil(len(x) / ROWS), 1)):
            norm = np.linalg.norm(rows, axis=1, keepdims=True)
            rows *= np.sqrt(x.shape[1]) / np.where(norm == 0, 1.0, norm)
    return sides


_recent: OrderedDict[tuple[object, ...], Problem] = OrderedDict()
_lock = threading.RLock()


def load(run: Run, settings: Settings) -> Problem:
    """Load the problem of a run; the two last used stay in memory.

    Content is part of the key, so that a problem in memory is never one of other files.

    Raises:
        DataNotFoundError: the data set's files are absent or damaged.
        ConfigError: they hold other samples than the run is for, or fewer.
    """
    key = (run.data_key, settings.data_root)
    with _lock:
        if key not in _recent:
            _recent[key] = _build(run, settings)
        _recent.move_to_end(key)
        while len(_recent) > 2:
            _recent.popitem(last=False)
        return _recent[key]


def check_sizes(run: Run, pool: Pool) -> None:
    """Make sure that a pool has as many samples as a run asks for.

    Raises:
        ConfigError: it has fewer.
    """
    for key, wanted, held in _wanted(run, pool):
        if wanted > held:
            whose = f"the files of data={run.data.name} in {pool.source}"
            if run.classes is not None:
                whose += f", classes {run.classes}"
            raise ConfigError(key, wanted, f"must be <= {held} ({whose})")


def _wanted(run: Run, pool: Pool) -> list[tuple[str, int, int]]:
    """(key, samples wanted, samples held) of each part."""
    train, test = room_of(run, pool)
    if test is None:
        return [("data.n_train", run.n_drawn, train - run.n_test)]
    return [("data.n_train", run.n_drawn, train), ("data.n_test", run.n_test, test)]


def _build(run: Run, settings: Settings) -> Problem:
    dataset = run.data
    pool = pool_of(run, settings)
    verify(run, pool)
    check_sizes(run, pool)
    digest = pool.sha256
    if run.chosen is not None:
        pool = pool.of_classes(run.chosen)
    if pool.test_x is None or pool.test_y is None:
        train, test = split(pool.y, run.n_drawn, run.n_test, run.data_seed, run.test_seed)
        train_x, train_y, test_x, test_y = pool.x[train], pool.y[train], pool.x[test], pool.y[test]
    elif dataset.classification or dataset.train_samples is not None:
        train, _ = split(pool.y, run.n_drawn, 0, run.data_seed)
        test, _ = split(pool.test_y, run.n_test, 0, run.test_set_seed)
        train_x, train_y, test_x, test_y = pool.x[train], pool.y[train], pool.test_x[test], pool.test_y[test]
    else:
        train_x, train_y, test_x, test_y = pool.x, pool.y, pool.test_x, pool.test_y
    replaced = None
    if dataset.classification:
        classes = np.eye(run.outputs)
        noisy = noisy_labels(
            train_y.astype(np.int64), run.outputs, run.label_noise, run.label_noise_over, run.data_seed
        )
        replaced = torch.from_numpy(noisy != train_y)[run.n_validation :] if run.label_noise > 0 else None
        train_y, test_y = classes[noisy], classes[test_y.astype(np.int64)]
    # the first samples are held out, for the beginning of their order is balanced whatever the classes
    held_x, train_x, held_y, train_y = *_cut(train_x, run.n_validation), *_cut(train_y, run.n_validation)
    inputs = [_scaled(x, pool) for x in (train_x, test_x, *([held_x] if run.n_validation else []))]
    probe = np.zeros((2, train_x.shape[1]))  # inputs of zero, and of one
    probe[1] = 1.0
    targets = [train_y, test_y, *([held_y] if run.n_validation else [])]
    *inputs, probe = standardize(inputs[0], inputs[1], run.standardize, *inputs[2:], probe)
    if run.targets == "linear":
        fitted = linear_targets(np.concatenate(inputs), np.concatenate(targets))
        targets = np.split(fitted, np.cumsum([len(y) for y in targets])[:-1])
    (x, tx, *vx), (y, ty, *vy) = map(_inputs, inputs), map(_tensor, targets)
    held = (vx[0], vy[0]) if vx else (None, None)
    black = float(probe[0, 0]) if run.standardize in ("none", "global") else math.nan
    thin = _near_constant(probe[1] - probe[0]) if run.standardize == "feature" else 0
    return Problem(x, y, tx, ty, run.classification, pool.source, digest, replaced, black, thin, *held)


def _near_constant(factors: NDArray[np.float64]) -> int:
    """Inputs that hardly vary, from what standardisation has multiplied each by, [inputs]; 0: a constant one."""
    return near_constant(1 / factors[factors > 0])


def _cut(samples: Samples, count: int) -> tuple[Samples, Samples]:
    """The first so many samples, and the others."""
    return samples[:count], samples[count:]


def _tensor(a: NDArray[np.generic]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(a, dtype=np.float64))


def _inputs(x: NDArray[np.float64]) -> torch.Tensor:
    """Inputs of :func:`_scaled` as a tensor; large ones keep the column of ones behind them."""
    return _tensor(x) if x.nbytes < LARGE or x.base is None else torch.from_numpy(x.base)[:, :-1]


def _scaled(x: Samples, pool: Pool) -> NDArray[np.float64]:
    """Inputs in their natural range, [samples, inputs], in memory of their own with a column of ones behind them."""
    room = np.empty((len(x), x.shape[1] + 1))
    room[:, -1] = 1.0
    return np.multiply(x, pool.scale, out=room[:, :-1])
