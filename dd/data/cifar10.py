"""CIFAR-10: 50,000 + 10,000 colour images, 32x32x3 (Krizhevsky 2009), from the Python version's archive."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dd.config import RunConfig, Settings
from dd.data._base import Dataset, Pool
from dd.data._download import Remote, download, locate
from dd.errors import DataNotFoundError

ALLOWED_GLOBALS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}
"""What the batches' pickles may name: NumPy arrays and nothing else."""


class _ArraysOnly(pickle.Unpickler):
    """Unpickler that refuses everything but NumPy arrays and plain containers."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"pickle names {module}.{name}")
        return super().find_class(module, name)


def read_batch(content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read one batch file.

    Returns:
        Images [samples, 3072] (channel, row, column) and labels [samples].

    Raises:
        ValueError: the content is not a CIFAR batch.
    """
    try:
        batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
        images, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"], dtype=np.int64)
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"not a CIFAR batch: {error}") from error
    if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != 3072 or labels.shape != (len(images),):
        raise ValueError(f"not a CIFAR batch: images {images.dtype} {images.shape}, labels {labels.shape}")
    return images, labels


class CIFAR10(Dataset):
    """Read from ``cifar-10-python.tar.gz``; the archive is never unpacked to disk."""

    from_files = True
    train_samples = 50_000
    test_samples = 10_000
    remote = Remote("cifar-10-python.tar.gz", "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce")
    mirrors = (
        "https://www.cs.toronto.edu/~kriz/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    )

    def inputs(self, run: RunConfig) -> int:
        """32x32 pixels of 3 channels."""
        return 3072

    def image(self, run: RunConfig) -> tuple[int, int, int]:
        """See :meth:`Dataset.image`."""
        return (3, 32, 32)

    def file(self, settings: Settings) -> Path:
        """Locate the archive, downloading it if ``data.download=true``."""
        return locate(
            "cifar10",
            [self.remote.name.removesuffix(".gz")],
            root=settings.data_root,
            system=(),
            allow_download=settings.data_download,
            fetch=lambda folder: [download(self.remote, self.mirrors, folder)],
            hint="",
        )[0]

    def ensure(self, settings: Settings) -> None:
        """Locate or download the archive."""
        self.file(settings)

    def pool(self, run: RunConfig, settings: Settings) -> Pool:
        """Read the six batches from the archive; pixels are scaled to [0, 1]."""
        path = self.file(settings)
        names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
        parts = {}
        try:
            with tarfile.open(path) as archive:
                for member in archive:
                    stem = member.name.rsplit("/", 1)[-1]
                    file = archive.extractfile(member) if stem in names and member.isfile() else None
                    if file is not None:
                        parts[stem] = read_batch(file.read())
            if missing := [n for n in names if n not in parts]:
                raise ValueError(f"archive lacks {missing[0]}")
        except (ValueError, tarfile.TarError, EOFError, OSError) as error:
            raise DataNotFoundError("data", "cifar10", f"{path}: {error}; remove the file and get it again") from error
        x = np.concatenate([parts[n][0] for n in names[:5]])
        y = np.concatenate([parts[n][1] for n in names[:5]])
        test_x, test_y = parts["test_batch"]
        digest = hashlib.sha256(x.tobytes())
        digest.update(test_x.tobytes())
        return Pool(x, y, test_x, test_y, source=str(path), sha256=digest.hexdigest(), scale=1 / 255)
