"""Arrow arrays from and to plain values by way of buffers: pyarrow's own conversion imports pandas, half a second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def strings(values: Sequence[str]) -> pa.Array:
    """A column of strings."""
    encoded = [value.encode() for value in values]
    offsets = pa.py_buffer(_offsets([len(value) for value in encoded]).tobytes())
    return pa.StringArray.from_buffers(len(values), offsets, pa.py_buffer(b"".join(encoded)))


def numbers(values: NDArray[np.generic], kind: pa.DataType) -> pa.Array:
    """A column of numbers that have the type's size already."""
    return pa.Array.from_buffers(kind, values.size, [None, pa.py_buffer(np.ascontiguousarray(values).tobytes())])


def floats(values: Sequence[float | None]) -> pa.Array:
    """A column of float64, null where None."""
    present = np.array([value is not None for value in values])
    filled = np.array([0.0 if value is None else value for value in values])
    buffers = [pa.py_buffer(np.packbits(present, bitorder="little").tobytes()), pa.py_buffer(filled.tobytes())]
    return pa.Array.from_buffers(pa.float64(), len(values), buffers)


def lists(rows: Sequence[NDArray[np.generic]], kind: pa.DataType) -> pa.Array:
    """A column of lists, one flattened array a row."""
    values = numbers(np.concatenate([row.ravel() for row in rows]), kind)
    return pa.ListArray.from_arrays(numbers(_offsets([row.size for row in rows]), pa.int32()), values)


def mask(values: NDArray[np.bool_]) -> pa.Array:
    """A column of booleans."""
    packed = pa.py_buffer(np.packbits(values, bitorder="little").tobytes())
    return pa.Array.from_buffers(pa.bool_(), values.size, [None, packed])


def integers(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """Values of a column of integers or moments as int64; nulls are 0 (moments: microseconds)."""
    array = single(column).cast(pa.int64())
    if array.null_count:
        array = pc.coalesce(array, numbers(np.zeros(len(array), np.int64), pa.int64()))
    return np.frombuffer(array.buffers()[1], np.int64, len(array), array.offset * 8) if len(array) else np.zeros(0, int)


def booleans(column: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
    """Values of a column of booleans without nulls."""
    array = single(column)
    if not len(array):
        return np.zeros(0, bool)
    bits = np.unpackbits(np.frombuffer(array.buffers()[1], np.uint8), bitorder="little")
    return bits[array.offset : array.offset + len(array)].astype(bool)


def is_one_of(column: pa.Array | pa.ChunkedArray, values: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Whether each value of a column is among some; never null."""
    return pc.is_in(column, value_set=single(values))


def are(column: pa.Array | pa.ChunkedArray, value: str) -> pa.Array | pa.ChunkedArray:
    """Whether each value of a column is this one; never null."""
    return pc.is_in(column, value_set=strings([value]))


def single(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array; pyarrow gives an array or a column of one chunk, as it likes."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)


def _offsets(sizes: Sequence[int]) -> NDArray[np.int32]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
