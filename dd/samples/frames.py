"""What is wrong with a column of a frame, in words that name the column."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def of_frame(value: object) -> str | None:
    """What is wrong with the first wrong column of a frame of pandas; None of another value."""
    pandas = sys.modules.get("pandas")  # where nobody has loaded it, there is no frame
    if pandas is None or not isinstance(value, pandas.DataFrame):
        return None
    found = (gaps(name, column) or no_numbers(name, column) for name, column in value.items())
    return next((objection for objection in found if objection), None)


def gaps(name: object, column: pd.Series) -> str | None:
    """How many values a column misses, and where; None if it misses none."""
    missing = np.flatnonzero(column.isna())
    if not missing.size:
        return None
    return (
        f"column {name} has {missing.size} missing values, the first in row {missing[0] + 1}: fill them, or leave "
        "the rows out"
    )


def no_numbers(name: object, column: pd.Series) -> str | None:
    """What a column holds that are no numbers; None if it holds numbers or booleans."""
    if column.dtype.kind in "iufb":
        return None
    value = column.iloc[0] if len(column) else None
    held = f"text ({value!r})" if isinstance(value, str) else f"{column.dtype} ({value})"
    return f"column {name} holds {held}; encode it as numbers, or leave it out"
