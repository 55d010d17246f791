"""Files of MNIST's and CIFAR's format with few samples, made by the tests."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def idx(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def mnist_arrays(seed: int = 0, train: int = 40, test: int = 30) -> list[np.ndarray]:
    """Images and labels of both parts."""
    generator = np.random.default_rng(seed)
    images = (generator.integers(0, 256, (n, 28, 28), dtype=np.uint8) for n in (train, test))
    (a, b), labels = images, [(np.arange(n) % 10).astype(np.uint8) for n in (train, test)]
    return [a, labels[0], b, labels[1]]


def write_mnist(folder: Path, arrays: list[np.ndarray], *, zipped: bool = True) -> Path:
    """Write the four files; returns the folder."""
    folder.mkdir(exist_ok=True)
    for name, array in zip(IDX, arrays, strict=True):
        content = idx(array)
        (folder / (f"{name}.gz" if zipped else name)).write_bytes(
            gzip.compress(content, 1, mtime=0) if zipped else content
        )
    return folder


def batch(seed: int, samples: int = 20, protocol: int = 2) -> bytes:
    """One pickled batch of CIFAR."""
    generator = np.random.default_rng(seed)
    content: dict[bytes, Any] = {
        b"batch_label": b"a batch",
        b"labels": [i % 10 for i in range(samples)],
        b"data": generator.integers(0, 256, (samples, 3072), dtype=np.uint8),
        b"filenames": [b"x%d.png" % i for i in range(samples)],
    }
    return pickle.dumps(content, protocol=protocol)


def archive(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    """A tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def cifar_members(**changed: bytes) -> dict[str, bytes]:
    """The six batches, some replaced."""
    return {name: changed.get(name, batch(i)) for i, name in enumerate(BATCHES)}
