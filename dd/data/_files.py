"""Reading foreign files: whatever is wrong with one is a single line that names the file and the fix."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from dd.errors import DataNotFoundError, DDError

CHUNK = 1 << 20
"""Bytes read at a time."""


@contextmanager
def refusing(data: str, path: Path) -> Iterator[None]:
    """Turn what reading a file raises into one line.

    Args:
        data: the data set.
        path: the file.

    Raises:
        DataNotFoundError: the file cannot be read, or holds something else.
    """
    try:
        yield
    except DDError:
        raise
    except Exception as error:  # decoders of foreign bytes raise what they like
        fix = "remove the file and get it again, or set data.root=FOLDER to a folder with a whole one"
        raise DataNotFoundError("data", data, f"{path}: {_reason(error)}; {fix}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
        return f"damaged gzip file: {text}"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror or text})"
    if isinstance(error, MemoryError):
        return "does not fit in memory"
    return text if isinstance(error, ValueError) and text else f"damaged ({type(error).__name__}: {text})"


def opened(path: Path) -> BinaryIO:
    """Open a plain or gzipped file for reading; its end is only reached where the checksum of gzip is right."""
    return cast(BinaryIO, gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb"))


def file_sha256(path: Path) -> str:
    """Digest of a file as it lies there."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_labels(labels: NDArray[np.integer], classes: int) -> None:
    """Make sure that labels are classes.

    Raises:
        ValueError: naming the first that is none.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise ValueError(f"label {labels[wrong[0]]} of sample {wrong[0]} is none of the classes 0 to {classes - 1}")
