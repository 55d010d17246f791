"""Tables that ship inside other packages, read without importing these, which costs more than a short run."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dd.data._files import refusing
from dd.errors import DataNotFoundError


@dataclass(frozen=True)
class Package:
    """A package that carries data.

    Attributes:
        name: as it is imported.
        folder: where its tables are, below the package.
        missing: what an error says where it is not installed.
    """

    name: str
    folder: str
    missing: str


SCIKIT_LEARN = Package("sklearn", "datasets/data", "needs scikit-learn: pip install scikit-learn")


def bundled_table(
    data: str, name: str, sha256: str, delimiter: str | None = None, package: Package = SCIKIT_LEARN
) -> tuple[NDArray[np.float64], bool]:
    """Read one gzipped table of numbers.

    Args:
        data: the data set, for the error message.
        name: file name in the package's folder of data sets.
        sha256: of the text that dd knows.
        delimiter: between columns; white space where None.
        package: that carries it.

    Returns:
        [rows, columns], or [rows] for one column; and whether the text is the one that dd knows.

    Raises:
        DataNotFoundError: the package is not installed, or its file is damaged.
    """
    path = Path(folder_of(data, package), *package.folder.split("/"), name)
    with refusing(data, path):
        text = gzip.decompress(path.read_bytes())
        table: NDArray[np.float64] = np.loadtxt(io.BytesIO(text), delimiter=delimiter)
    return table, hashlib.sha256(text).hexdigest() == sha256


def folder_of(data: str, package: Package) -> str:
    """Where a package is installed.

    Raises:
        DataNotFoundError: it is not.
    """
    spec = importlib.util.find_spec(package.name)
    if spec is None or not spec.submodule_search_locations:
        raise DataNotFoundError("data", data, package.missing)
    return str(spec.submodule_search_locations[0])
