"""The tables that ship inside scikit-learn, read without importing it, which costs more than a short run."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dd.errors import DataNotFoundError


def bundled_table(data: str, name: str, delimiter: str | None = None) -> NDArray[np.float64]:
    """Read one gzipped table of numbers.

    Args:
        data: the data set, for the error message.
        name: file name in scikit-learn's folder of data sets.
        delimiter: between columns; white space where None.

    Returns:
        [rows, columns], or [rows] for one column.

    Raises:
        DataNotFoundError: scikit-learn is not installed.
    """
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise DataNotFoundError("data", data, "needs scikit-learn: pip install scikit-learn")
    with gzip.open(Path(spec.submodule_search_locations[0], "datasets", "data", name), "rt") as file:
        table: NDArray[np.float64] = np.loadtxt(file, delimiter=delimiter)
    return table
