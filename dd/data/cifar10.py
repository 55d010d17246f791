"""CIFAR-10: 50,000 + 10,000 colour images, 32x32x3 (Krizhevsky 2009), from the Python version's archive."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from dd.components.dataset import Dataset, Pool
from dd.data._download import Remote, download, locate
from dd.data._files import CHUNK, check_labels, file_sha256, opened, refusing
from dd.data._pickled import Array, read_pickle
from dd.runs.run import Run
from dd.runs.settings import Settings

NAMES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
"""Members of the archive."""

MEMBER_BYTES = 1 << 26
"""A larger batch is refused (the published ones hold 31 MB, written by Python 3 some 46 MB)."""

ARCHIVE_BYTES = 1 << 29
"""An archive that is larger when decompressed is refused (the published one has 186 MB)."""

MEMBERS = 100
"""Members at most; the published archive has 9."""


class _Bounded(io.RawIOBase):
    """An archive that gives little at a time and ends where a good one would have ended long ago.

    A member's header names a size that is read at once, and a few kilobytes of gzip can hold gigabytes.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self.file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= CHUNK:
            raise ValueError(f"header of {size} bytes in the archive")
        return self.file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset > ARCHIVE_BYTES:
            raise ValueError(f"archive holds more than {ARCHIVE_BYTES} bytes")
        return self.file.seek(offset)

    def tell(self) -> int:
        return self.file.tell()


def read_batch(content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read one batch file.

    Returns:
        Images [samples, 3072] (channel, row, column) and labels [samples].

    Raises:
        ValueError: the content is not a CIFAR batch.
    """
    try:
        batch = read_pickle(content)
        if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
            raise ValueError("no dictionary with data and labels")
        images, labels = _array(batch[b"data"]), _array(batch[b"labels"])
        if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != 3072 or labels.shape != (len(images),):
            raise ValueError(f"images {images.dtype} {images.shape}, labels {labels.shape}")
        check_labels(labels, CIFAR10.outputs)
    except ValueError as error:
        raise ValueError(f"not a CIFAR batch: {error}") from error
    return images.astype(np.uint8, copy=False), labels.astype(np.int64)


def _array(value: object) -> NDArray[np.integer]:
    """An array, or a list of numbers as one."""
    if isinstance(value, Array):
        return value.values()
    if not isinstance(value, list) or not all(type(item) is int and abs(item) < 1 << 31 for item in value):
        raise ValueError("neither an array nor a list of small integers")
    return np.array(value, dtype=np.int64)


def read_archive(path: Path) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Read the batches of an archive by their names.

    Raises:
        ValueError, OSError, EOFError, and what tar and gzip raise otherwise: the archive is damaged.
    """
    parts = {}
    with opened(path) as file:
        # a file object that tarfile does not decompress by itself: it would take any format, and any amount
        with tarfile.open(fileobj=cast(BinaryIO, _Bounded(file)), mode="r:") as archive:
            for count, member in enumerate(archive):
                if count == MEMBERS:
                    raise ValueError(f"archive of more than {MEMBERS} members")
                stem = member.name.rsplit("/", 1)[-1]
                if stem in NAMES and member.isreg() and not member.sparse:
                    if member.size > MEMBER_BYTES:
                        raise ValueError(f"{stem} has {member.size} bytes; at most {MEMBER_BYTES} are read")
                    parts[stem] = read_batch(_content(archive, member))
        # the checksum of gzip lies at the end
        left = ARCHIVE_BYTES - file.tell()
        while file.read(CHUNK):
            left -= CHUNK
            if left < 0:
                raise ValueError(f"archive holds more than {ARCHIVE_BYTES} bytes")
    if missing := [n for n in NAMES if n not in parts]:
        raise ValueError(f"archive lacks {missing[0]}")
    return parts


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """All bytes of a member, in chunks."""
    content = bytearray()
    file = archive.extractfile(member)
    while file and (got := file.read(CHUNK)):
        content += got
    if len(content) < member.size:
        raise ValueError(f"{member.name} ends after {len(content)} of {member.size} bytes")
    return bytes(content)


@dataclass(frozen=True)
class CIFAR10(Dataset):
    """Read from ``cifar-10-python.tar.gz``; the archive is never unpacked to disk."""

    from_files = True
    pool_axes = ()
    outputs = 10
    train_samples = 50_000
    test_samples = 10_000
    remote = Remote("cifar-10-python.tar.gz", "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce")
    mirrors = (
        "https://www.cs.toronto.edu/~kriz/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    )

    @property
    def input_count(self) -> int:
        """32x32 pixels of 3 channels."""
        return 3072

    @property
    def image(self) -> tuple[int, int, int]:
        """See :attr:`Dataset.image`."""
        return (3, 32, 32)

    def files(self, settings: Settings) -> list[Path]:
        """Locate the archive, downloading it if ``data.download=true``."""
        return locate(
            "cifar10",
            [self.remote.name.removesuffix(".gz")],
            root=settings.data_root,
            system=(),
            allow_download=settings.data_download,
            fetch=lambda folder: [download(self.remote, self.mirrors, folder)],
            hint="",
        )

    def ensure(self, settings: Settings) -> None:
        """Locate or download the archive."""
        self.files(settings)

    def pool(self, run: Run, settings: Settings) -> Pool:
        """Read the six batches from the archive; pixels are scaled to [0, 1]."""
        (path,) = self.files(settings)
        with refusing("cifar10", path):
            parts = read_archive(path)
            published = file_sha256(path) == self.remote.sha256
        train = [parts[name] for name in NAMES[:5]]
        test_x, test_y = parts[NAMES[5]]
        return Pool(
            x=np.concatenate([images for images, _ in train]),
            y=np.concatenate([labels for _, labels in train]),
            test_x=test_x,
            test_y=test_y,
            source=str(path),
            published=published,
            scale=1 / 255,
        )
