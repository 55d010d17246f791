"""What a data set must offer."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from dd.errors import ConfigError
from dd.runs.component import Component

if TYPE_CHECKING:
    from dd.runs.run import OriginOf, Run
    from dd.runs.settings import Settings

Samples = NDArray[np.number]


@dataclass(frozen=True)
class Pool:
    """Raw samples of a data set.

    Attributes:
        x: inputs, [samples, inputs], any number type (bytes stay bytes until the samples are chosen).
        y: labels, [samples], int64; or targets, [samples, outputs], float64.
        test_x: inputs of the set's own test part, or None if the test set is cut from ``x``.
        test_y: as ``y`` for ``test_x``.
        source: where the samples came from.
        published: whether the content is the one that the set's name stands for, by a checksum that dd knows.
        scale: factor that takes ``x`` to its natural range.
        decimals: digits after the point that count in the digest, where machines differ in the last bits.
        names: what the classes are called, where they are not called by their numbers.
    """

    x: Samples
    y: Samples
    test_x: Samples | None
    test_y: Samples | None
    source: str
    published: bool = False
    scale: float = 1.0
    decimals: int | None = None
    names: tuple[str, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """Digest of all samples: inputs and labels of both parts, with types, shapes, scale and names of classes.

        Raises:
            TypeError: an array of objects, whose bytes say nothing.
        """
        digest = hashlib.sha256(repr(float(self.scale)).encode())
        for part in (self.x, self.y, self.test_x, self.test_y):
            if part is None:
                digest.update(b"none")
                continue
            if part.dtype.hasobject:
                raise TypeError("a pool holds numbers, not objects")
            if self.decimals is not None and part.dtype.kind == "f":
                part = np.round(part, self.decimals) + 0.0
            plain = np.ascontiguousarray(part, part.dtype.newbyteorder("<"))
            digest.update(f"{plain.dtype.str}{plain.shape}".encode())
            digest.update(plain.reshape(-1).view(np.uint8).data)
        if self.names:
            digest.update(repr(self.names).encode())
        return digest.hexdigest()

    @cached_property
    def counts(self) -> tuple[list[int], list[int] | None]:
        """Samples of each class, of the training and the test part; meaningless for real targets."""
        return np.bincount(self.y).tolist(), None if self.test_y is None else np.bincount(self.test_y).tolist()

    def of_classes(self, chosen: Sequence[int]) -> Pool:
        """The samples of some classes, which become classes 0, 1, ... in the order given."""
        (x, y), (test_x, test_y) = (
            _of_classes(*part, chosen) for part in ((self.x, self.y), (self.test_x, self.test_y))
        )
        assert x is not None
        assert y is not None
        return replace(self, x=x, y=y, test_x=test_x, test_y=test_y)


def _of_classes(x: Samples | None, y: Samples | None, chosen: Sequence[int]) -> tuple[Samples | None, Samples | None]:
    if x is None or y is None:
        return None, None
    place = np.full(int(max(y.max(initial=0), *chosen)) + 1, -1)
    place[list(chosen)] = np.arange(len(chosen))
    kept = np.flatnonzero(place[y] >= 0)
    return x[kept], place[y[kept]]


class Dataset(Component):
    """Base of every data set and teacher.

    A run's identity holds the digest of its samples, unless the axes say all about them. A set says so by
    ``generated``, its pool by ``published``; one that says neither has its content in the identity.

    ``classification``, ``outputs``, ``train_samples`` and ``test_samples`` are attributes of the class, or properties
    where they follow from a file.

    Attributes:
        from_files: whether the name stands for published files, in whose place a user may put others.
        generated: whether axes and code of dd alone decide every sample.
        pool_axes: axes of a run, beside the options of the set, that :meth:`pool` may look at. Empty where all runs
            draw from one pool: then it is read once a process.
    """

    from_files: ClassVar[bool] = False
    generated: ClassVar[bool] = False
    pool_axes: ClassVar[tuple[str, ...]] = (
        "n_train", "n_validation", "n_test", "label_noise", "label_noise_over", "data_seed", "test_seed", "targets",
        "standardize",
    )  # fmt: skip

    @property
    def classification(self) -> bool:
        """Whether targets are one-hot classes (else real numbers)."""
        return True

    @property
    def outputs(self) -> int:
        """Number of classes or targets."""
        return 10

    @property
    def train_samples(self) -> int | None:
        """Samples to train on, or None for a generator without end."""
        return None

    @property
    def test_samples(self) -> int | None:
        """Samples of the set's own test part, or None if train and test share ``train_samples``."""
        return None

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the classes are called, in their order; what ``data.classes`` chooses from."""
        return tuple(map(str, range(self.outputs))) if self.classification else ()

    @property
    @abstractmethod
    def input_count(self) -> int:
        """Input dimension."""

    @property
    def image(self) -> tuple[int, int, int] | None:
        """Channels, height and width where a sample is an image (its pixels in that order), else None."""
        return None

    @abstractmethod
    def pool(self, run: Run, settings: Settings) -> Pool:
        """Load or draw the raw samples; callers ask :func:`dd.problems.pools.pool_of`, which remembers.

        Raises:
            DataNotFoundError: the files are absent or damaged; the message names the fix.
        """

    def pool_key(self, run: Run) -> tuple[Hashable, ...]:
        """What decides which pool a run draws from, files apart."""
        return (self, *(getattr(run, axis) for axis in self.pool_axes))

    def files(self, settings: Settings) -> list[Path]:
        """Files that :meth:`pool` would read; while they stay as they are, a pool in memory serves."""
        return []

    def ensure(self, settings: Settings) -> None:
        """Make sure that the files are at hand, before any run starts.

        Raises:
            DataNotFoundError: they are not, and downloading was not asked for or failed.
        """

    def check(self, run: Run, origin: OriginOf) -> None:
        """Refuse sizes that the set does not have, and label noise on real targets."""
        if not run.classification and run.label_noise > 0:
            if self.classification:
                allowed = f"data.targets={run.targets} has real targets without noise; use 0"
            else:
                noise = "; use data.noise" if "noise" in self.axes() else ""
                allowed = f"data={self.name} has real targets{noise}"
            raise ConfigError("data.label_noise", run.label_noise, allowed, origin("data.label_noise"))
        if run.augment != "none":
            self._check_augmented(run, origin)
        if self.train_samples is None:
            return
        if self.test_samples is None:
            room, what = (
                self.train_samples - run.n_test,
                f"{self.train_samples} samples, {run.n_test} of them for testing",
            )
        else:
            room, what = self.train_samples, f"{self.train_samples} training samples"
            if run.n_test > self.test_samples:
                raise ConfigError(
                    "data.n_test",
                    run.n_test,
                    f"must be <= {self.test_samples} (data={self.name})",
                    origin("data.n_test"),
                )
        if room < 1:
            raise ConfigError(
                "data.n_test", run.n_test, f"must be < {self.train_samples} (data={self.name})", origin("data.n_test")
            )
        if run.n_drawn > room:
            raise ConfigError(
                "data.n_train", run.n_drawn, f"must be <= {room} (data={self.name} has {what})", origin("data.n_train")
            )

    def _check_augmented(self, run: Run, origin: OriginOf) -> None:
        """Refuse to shift and mirror what the model does not see as images, or what has no black to fill in."""
        if not run.model.takes_images:
            allowed = f"is for models that take images (cnn5, resnet18, rmt); model={run.model.name} does not"
            raise ConfigError("data.augment", run.augment, allowed, origin("data.augment"))
        if run.standardize not in ("none", "global"):
            allowed = "must be none or global with data.augment=crop_flip: what is shifted in is black, one value"
            raise ConfigError("data.standardize", run.standardize, allowed, origin("data.standardize"))
