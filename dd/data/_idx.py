"""Reader of IDX files, and the data sets made of them (MNIST and its relatives)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from dd.components.dataset import Dataset, Pool
from dd.data._download import Remote, download, locate
from dd.data._files import CHUNK, check_labels, file_sha256, opened, refusing
from dd.runs.run import Run
from dd.runs.settings import Settings

MAX_BYTES = 1 << 28
"""A file that claims more data is refused, so that a bad one cannot fill the memory (MNIST's largest holds 47 MB)."""

SIDE = 28
"""Pixels of an image, across and down."""


def read_header(file: BinaryIO) -> tuple[bytes, tuple[int, ...]]:
    """Read the header of an IDX file of unsigned bytes.

    Layout, big-endian: two zero bytes, type byte (8 = unsigned byte), number of dimensions, one 32-bit size a
    dimension, then the data.

    Returns:
        The header, and the sizes.

    Raises:
        ValueError: bad magic, dimension count outside 1...4, or more than ``MAX_BYTES`` claimed.
    """
    head = file.read(4)
    if len(head) < 4 or head[:3] != b"\x00\x00\x08":
        raise ValueError("not an IDX file of unsigned bytes (bad magic)")
    dimensions = head[3]
    if not 1 <= dimensions <= 4:
        raise ValueError(f"IDX file with {dimensions} dimensions; 1 to 4 are allowed")
    sizes = file.read(4 * dimensions)
    if len(sizes) < 4 * dimensions:
        raise ValueError("IDX file ends within its header")
    shape = tuple(int.from_bytes(sizes[4 * i : 4 * i + 4], "big") for i in range(dimensions))
    if math.prod(shape) > MAX_BYTES:
        raise ValueError(f"IDX file claims {math.prod(shape)} bytes of data; at most {MAX_BYTES} are read")
    return head + sizes, shape


def read_idx(file: BinaryIO) -> tuple[NDArray[np.uint8], str]:
    """Read an IDX file of unsigned bytes to its end.

    Returns:
        The data in the shape that the header says, and the digest of the whole (decompressed) content.

    Raises:
        ValueError: see :func:`read_header`; or the length does not match the sizes.
    """
    head, shape = read_header(file)
    # the system gives memory as it is filled: a file that claims more than it holds takes no more than that
    data = np.empty(math.prod(shape), np.uint8)
    filled = 0
    while filled < len(data):
        got = file.read(min(CHUNK, len(data) - filled))
        if not got:
            raise ValueError(f"IDX file holds {filled} bytes of data, its header says {len(data)}")
        data[filled : filled + len(got)] = np.frombuffer(got, np.uint8)
        filled += len(got)
    if file.read(1):
        raise ValueError(f"IDX file holds more than the {len(data)} bytes of data that its header says")
    digest = hashlib.sha256(head)
    digest.update(data.data)
    return data.reshape(shape), digest.hexdigest()


@dataclass(frozen=True)
class IdxDataset(Dataset):
    """A data set of four IDX files: train and test images and labels.

    Attributes:
        remotes: the downloadable gzip files: train images, train labels, test images, test labels.
        mirrors: base addresses, in order.
        content_sha256: digests of the *decompressed* published files (system packages recompress), or None if unknown.
        only_published: whether files with other content are refused; else their content joins the runs' identity.
        system: folders of system packages.
        hint: a further way to get the files, for the error message.
    """

    from_files = True
    pool_axes = ()
    train_samples = 60_000
    test_samples = 10_000
    remotes: ClassVar[tuple[Remote, ...]]
    mirrors: ClassVar[tuple[str, ...]]
    content_sha256: ClassVar[tuple[str, ...] | None] = None
    only_published: ClassVar[bool] = False
    system: ClassVar[tuple[Path, ...]] = ()
    hint: ClassVar[str] = ""

    @property
    def folder(self) -> str:
        """Name of the cache folder: the module's name."""
        return type(self).__module__.rsplit(".", 1)[-1]

    @property
    def input_count(self) -> int:
        """28x28 pixels."""
        return SIDE * SIDE

    @property
    def image(self) -> tuple[int, int, int]:
        """See :attr:`Dataset.image`."""
        return (1, SIDE, SIDE)

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

    def pool(self, run: Run, settings: Settings) -> Pool:
        """Read and check the four files; pixels are scaled to [0, 1]."""
        files = self.files(settings)
        self._check_shapes(files)
        arrays, published = [], True
        for i, path in enumerate(files):
            with refusing(self.folder, path):
                with opened(path) as file:
                    array, content = read_idx(file)
                if i % 2:
                    check_labels(array, self.outputs)
                published &= self._published(i, path, content)
                arrays.append(array)
        train_x, train_y, test_x, test_y = arrays
        return Pool(
            x=train_x.reshape(len(train_x), -1),
            y=train_y.astype(np.int64),
            test_x=test_x.reshape(len(test_x), -1),
            test_y=test_y.astype(np.int64),
            source=str(files[0].parent),
            published=published,
            scale=1 / 255,
        )

    def _check_shapes(self, files: Sequence[Path]) -> None:
        """Compare the headers of all files before any data are read."""
        samples = 0
        for i, path in enumerate(files):
            labels = i % 2 == 1
            with refusing(self.folder, path):
                with opened(path) as file:
                    _, shape = read_header(file)
                if len(shape) != (1 if labels else 3):
                    belongs = "labels [samples]" if labels else f"images [samples, {SIDE}, {SIDE}]"
                    raise ValueError(f"holds {list(shape)} where {belongs} belong (are files swapped?)")
                if not labels and shape[1:] != (SIDE, SIDE):
                    raise ValueError(f"images are {shape[1]}x{shape[2]} pixels; data={self.folder} has {SIDE}x{SIDE}")
                if labels and shape[0] != samples:
                    raise ValueError(f"holds {shape[0]} labels, but {files[i - 1].name} has {samples} images")
                if not shape[0]:
                    raise ValueError("holds no samples")
                samples = shape[0]

    def _published(self, i: int, path: Path, content: str) -> bool:
        """Whether a file is the published one: its content, or the compressed file as the mirrors serve it."""
        if self.content_sha256 and content == self.content_sha256[i]:
            return True
        if self.content_sha256 and self.only_published:
            raise ValueError("content differs from the published data set (sha256)")
        return path.suffix == ".gz" and file_sha256(path) == self.remotes[i].sha256
