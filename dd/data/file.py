"""A user's own samples, from a file or a folder: what they are follows from it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dd.components.dataset import Dataset, Pool
from dd.errors import ConfigError, DataNotFoundError
from dd.runs.axis import Scope, axis
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.samples.files import paths_of, read
from dd.samples.stamps import Kept

if TYPE_CHECKING:
    from dd.samples.arrays import Samples


@dataclass(frozen=True)
class Facts:
    """What axes and plans ask of a file.

    Attributes:
        names: what the classes are called; empty for real targets.
        outputs: number of classes or targets.
        inputs: input dimension.
        image: channels, height and width, or None.
        train: samples, those of a test part of their own apart.
        test: samples of that part, or None.
    """

    names: tuple[str, ...]
    outputs: int
    inputs: int
    image: tuple[int, int, int] | None
    train: int
    test: int | None


_contents: Kept[Samples] = Kept(1, early=True)
_facts: Kept[Facts] = Kept(1024, early=True)


@dataclass(frozen=True)
class File(Dataset):
    """Arrays, a table or images. The digest of the samples is part of a run's identity, and no option is.

    The digest covers what the options change: where the file lies is no part of it, and another target column has other
    samples.
    """

    pool_axes = ()

    path: str | None = axis(
        None, "the file (.npz, .npy, .csv, .parquet, .pt) or folder (arrays, tables, images)", scope=Scope.WHERE
    )
    labels: str | None = axis(None, "the targets, where data.path is an .npy file", scope=Scope.WHERE)
    target: str | None = axis(
        None, "column of a table that is the target, or several separated by commas", listed=True, scope=Scope.WHERE
    )
    task: str = axis(
        "auto", "auto: text, integers and booleans are classes, other numbers real targets",
        choices=("auto", "classification", "regression"), scope=Scope.WHERE,
    )  # fmt: skip

    @property
    def facts(self) -> Facts:
        """What the file holds; read once a command.

        Raises:
            DataNotFoundError: there is no file, or it does not hold samples.
        """
        key = (self, os.getcwd())
        found = _facts.peek(key)
        return found or _facts.get(key, self._paths(), lambda: _facts_of(self._samples()))

    @property
    def classification(self) -> bool:
        """By the targets, or as ``data.task`` says."""
        return bool(self.facts.names)

    @property
    def outputs(self) -> int:
        """Number of classes or target columns."""
        return self.facts.outputs

    @property
    def class_names(self) -> tuple[str, ...]:
        """Labels of the file in sorted order; numbers in the order of numbers."""
        return self.facts.names

    @property
    def input_count(self) -> int:
        """Columns, or pixels."""
        return self.facts.inputs

    @property
    def image(self) -> tuple[int, int, int] | None:
        """Of inputs with four dimensions, or three (grey)."""
        return self.facts.image if self.path else None

    @property
    def train_samples(self) -> int:
        """All, but for those of a test part."""
        return self.facts.train

    @property
    def test_samples(self) -> int | None:
        """Of the file's own test part."""
        return self.facts.test

    def _paths(self) -> list[Path]:
        """Files and folders that reading looks at.

        Raises:
            DataNotFoundError: they are not there.
        """
        if not self.path:
            allowed = "data=file needs data.path=<file or folder>: .npz, .npy, .csv, .parquet, .pt (docs/own.md)"
            raise DataNotFoundError("data.path", self.path, allowed)
        return paths_of(*self._named())

    def _named(self) -> tuple[Path, Path | None]:
        """The file, and that of the labels."""
        return Path(str(self.path)).expanduser(), None if self.labels is None else Path(self.labels).expanduser()

    def _samples(self) -> Samples:
        """The samples, read and checked; the last are kept, so that facts and pool read a file once."""
        return _contents.get((self, os.getcwd()), self._paths(), self._read)

    def _read(self) -> Samples:
        from dd.samples.arrays import samples_of  # imports torch, which --help does without

        raw = read(*self._named(), self.target)
        try:
            return samples_of(raw.x, raw.y, raw.test_x, raw.test_y, task=self.task)
        except ConfigError as error:
            raise DataNotFoundError("data.path", self.path, str(error)) from error

    def files(self, settings: Settings) -> list[Path]:
        """See :meth:`Dataset.files`."""
        return self._paths()

    def ensure(self, settings: Settings) -> None:
        """Read the file."""
        _ = self.facts

    def pool(self, run: Run, settings: Settings) -> Pool:
        """The samples, images flattened."""
        return pool_from(self._samples(), str(self.path))


def pool_from(held: Samples, source: str) -> Pool:
    """Samples of a user as a pool, images flattened."""
    x, test_x = held.flat
    numbered = held.names == tuple(map(str, range(len(held.names))))
    return Pool(
        x=x,
        y=held.y,
        test_x=test_x,
        test_y=held.test_y,
        source=source,
        scale=held.scale,
        names=() if numbered else held.names,
    )


def _facts_of(held: Samples) -> Facts:
    return Facts(
        names=held.names,
        outputs=held.outputs,
        inputs=held.flat[0].shape[1],
        image=held.image,
        train=len(held.x),
        test=None if held.test_x is None else len(held.test_x),
    )
