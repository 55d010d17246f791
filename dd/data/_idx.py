"""Reader of IDX files, and the data sets made of them (MNIST and its relatives)."""

from __future__ import annotations

import gzip
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dd.config import RunConfig, Settings
from dd.data._base import Dataset, Pool
from dd.data._download import Remote, download, locate
from dd.errors import DataNotFoundError

MAX_BYTES = 1 << 30
"""Larger contents are refused, so that a bad file cannot fill the memory."""


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """Parse an IDX file of unsigned bytes.

    Layout, big-endian: two zero bytes, type byte (8 = unsigned byte), number of dimensions, one 32-bit size a
    dimension, then the data.

    Raises:
        ValueError: bad magic, dimension count outside 1...4, or a length that does not match the sizes.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError("not an IDX file of unsigned bytes (bad magic)")
    dimensions = content[3]
    if not 1 <= dimensions <= 4:
        raise ValueError(f"IDX file with {dimensions} dimensions; 1 to 4 are allowed")
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise ValueError("IDX file ends within its header")
    shape = tuple(int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions))
    if len(content) - start != math.prod(shape):
        raise ValueError(f"IDX file holds {len(content) - start} bytes of data, its header says {math.prod(shape)}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read_bytes(path: Path) -> bytes:
    """Read a plain or gzipped file.

    Raises:
        ValueError: the gzip stream is damaged, or the content is larger than ``MAX_BYTES``.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"damaged gzip file: {error}") from error
    if len(content) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    return bytes(content)


class IdxDataset(Dataset):
    """A data set of four IDX files: train and test images and labels.

    Attributes:
        remotes: the downloadable gzip files: train images, train labels, test images, test labels.
        mirrors: base addresses, in order.
        content_sha256: digests of the *decompressed* files (system packages recompress), or None if unknown.
        system: folders of system packages.
        hint: a further way to get the files, for the error message.
    """

    from_files = True
    train_samples = 60_000
    test_samples = 10_000
    remotes: ClassVar[tuple[Remote, ...]]
    mirrors: ClassVar[tuple[str, ...]]
    content_sha256: ClassVar[tuple[str, ...] | None] = None
    system: ClassVar[tuple[Path, ...]] = ()
    hint: ClassVar[str] = ""

    @property
    def folder(self) -> str:
        """Name of the cache folder: the module's name."""
        return type(self).__module__.rsplit(".", 1)[-1]

    def inputs(self, run: RunConfig) -> int:
        """28x28 pixels."""
        return 784

    def image(self, run: RunConfig) -> tuple[int, int, int]:
        """See :meth:`Dataset.image`."""
        return (1, 28, 28)

    def files(self, settings: Settings) -> list[Path]:
        """Locate the four files, downloading them if ``data.download=true``."""
        return locate(
            self.folder,
            [r.name.removesuffix(".gz") for r in self.remotes],
            root=settings.data_root,
            system=self.system,
            allow_download=settings.data_download,
            fetch=lambda folder: [download(r, self.mirrors, folder) for r in self.remotes],
            hint=self.hint,
        )

    def ensure(self, settings: Settings) -> None:
        """Locate or download the files."""
        self.files(settings)

    def pool(self, run: RunConfig, settings: Settings) -> Pool:
        """Read and verify the four files; pixels are scaled to [0, 1]."""
        files = self.files(settings)
        train_x, train_y, test_x, test_y = self._arrays(files)
        digest = hashlib.sha256(train_x.tobytes())
        digest.update(test_x.tobytes())
        return Pool(
            x=train_x.reshape(len(train_x), -1),
            y=train_y.astype(np.int64),
            test_x=test_x.reshape(len(test_x), -1),
            test_y=test_y.astype(np.int64),
            source=str(files[0].parent),
            sha256=digest.hexdigest(),
            scale=1 / 255,
        )

    def _arrays(self, files: Sequence[Path]) -> list[NDArray[np.uint8]]:
        arrays = []
        for i, path in enumerate(files):
            try:
                content = read_bytes(path)
                if self.content_sha256 and hashlib.sha256(content).hexdigest() != self.content_sha256[i]:
                    raise ValueError("content differs from the published data set (sha256)")
                arrays.append(parse_idx(content))
            except ValueError as error:
                raise DataNotFoundError(
                    "data", self.folder, f"{path}: {error}; remove the file and get it again"
                ) from error
        return arrays
