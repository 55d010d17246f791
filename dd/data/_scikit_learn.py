"""The tables that ship inside scikit-learn, read without importing it, which costs more than a short run."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dd.data._files import refusing
from dd.errors import DataNotFoundError


def bundled_table(data: str, name: str, sha256: str, delimiter: str | None = None) -> tuple[NDArray[np.float64], bool]:
    """Read one gzipped table of numbers.

    Args:
        data: the data set, for the error message.
        name: file name in scikit-learn's folder of data sets.
        sha256: of the text that dd knows.
        delimiter: between columns; white space where None.

    Returns:
        [rows, columns], or [rows] for one column; and whether the text is the one that dd knows.

    Raises:
        DataNotFoundError: scikit-learn is not installed, or its file is damaged.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise DataNotFoundError("data", data, "needs scikit-learn: pip install scikit-learn")
    path = Path(spec.submodule_search_locations[0], "datasets", "data", name)
    with refusing(data, path):
        text = gzip.decompress(path.read_bytes())
        table: NDArray[np.float64] = np.loadtxt(io.BytesIO(text), delimiter=delimiter)
    return table, hashlib.sha256(text).hexdigest() == sha256
