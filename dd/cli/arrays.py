"""Arrays of every kind that a caller of :func:`dd.train` may hold, as tensors; what cannot be one is named."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dd.errors import ConfigError

CHANNELS = (1, 3, 4)
"""Of images as they usually come."""

ALLOWED = "must be a tensor or an array of numbers"


def as_tensor(key: str, value: object) -> Tensor:
    """A tensor on the CPU: float64, or int64 for integers and booleans.

    Takes tensors and NumPy arrays of any number type, byte order and strides, sparse ones of torch and SciPy, masked
    ones without masked values, frames and series, and nested lists.

    Args:
        key: what the value is, for the error.
        value: given by the caller.

    Raises:
        ConfigError: the value holds no numbers, or numbers that are missing, complex or not finite.
    """
    try:
        found = _of_torch(key, value) if isinstance(value, Tensor) else _of_array(key, value)
    except ConfigError:
        raise
    except MemoryError as error:
        raise ConfigError(key, _named(value), "does not fit in memory as a dense array") from error
    except Exception as error:  # every library refuses in its own way
        raise ConfigError(key, _named(value), f"{ALLOWED} ({_first_line(error)})") from error
    if found.is_floating_point() and not torch.isfinite(found).all():
        raise ConfigError(key, "nan or inf", "must be finite")
    return found


def _of_torch(key: str, value: Tensor) -> Tensor:
    value = value.detach()
    if value.is_nested or value.is_quantized or value.device.type == "meta":
        raise ConfigError(key, _named(value), "must be a plain tensor with values")
    if value.layout is not torch.strided:
        value = value.to_dense()
    if value.is_complex():
        raise ConfigError(key, _named(value), "must be real")
    value = value.cpu()
    if value.dtype is torch.uint64 and bool((value.to(torch.int64) < 0).any()):
        raise ConfigError(key, _named(value), "holds integers beyond 2**63")
    return value.double() if value.is_floating_point() else value.to(torch.int64)


def _of_array(key: str, value: object) -> Tensor:
    if isinstance(value, list | tuple) and value and all(isinstance(item, Tensor) for item in value):
        return _of_torch(key, torch.stack([item.detach() for item in value]))
    if np.ma.is_masked(value):
        raise ConfigError(key, _named(value), "has masked values: fill them, or leave their samples out")
    plain = value
    if hasattr(value, "toarray"):  # SciPy's sparse arrays and matrices
        plain = value.toarray()
    elif hasattr(value, "to_numpy"):  # frames and series, which torch would index by their labels
        plain = value.to_numpy()
    array = np.asarray(plain)
    if array.dtype.kind == "O":
        if any(item is None or str(item) in ("<NA>", "NaT") for item in array.reshape(-1)):
            raise ConfigError(key, _named(value), "has missing values: fill them, or leave their samples out")
        array = np.array(array.tolist())
    if array.dtype.kind == "c":
        raise ConfigError(key, _named(value, array.dtype), "must be real")
    if array.dtype.kind in "USTOMm" or array.dtype.names:
        raise ConfigError(key, _named(value, array.dtype), ALLOWED)
    if array.dtype.kind == "u" and array.size and int(array.max()) >= 2**63:
        raise ConfigError(key, _named(value, array.dtype), "holds integers beyond 2**63")
    kind = np.int64 if array.dtype.kind in "iub" else np.float64
    return torch.from_numpy(np.array(array, dtype=kind, order="C"))  # a copy: the caller's may be read-only


def _named(value: object, dtype: object = None) -> str:
    """Type of a value, and of its elements."""
    dtype = dtype if dtype is not None else getattr(value, "dtype", None)
    return type(value).__name__ + (f" of {dtype}" if dtype is not None else "")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def as_inputs(key: str, value: object) -> Tensor:
    """Inputs [samples, inputs], or images [samples, channels, height, width], in float64.

    Raises:
        ConfigError: another shape, named with the way to the right one.
    """
    x = as_tensor(key, value).double()
    shape = "x".join(map(str, x.shape))
    if x.ndim == 3:
        raise ConfigError(key, shape, "must be [samples, inputs]: flatten it; grey images are x[:, None]")
    if x.ndim in (2, 4) and x.numel() == 0:
        raise ConfigError(key, shape, "must hold samples, and inputs of them")
    if x.ndim not in (2, 4):
        raise ConfigError(
            key, shape or "a number", "must be [samples, inputs], or images [samples, channels, height, width]"
        )
    if x.ndim == 4 and x.shape[3] in CHANNELS and x.shape[1] not in CHANNELS:
        raise ConfigError(
            key, shape, "images must be [samples, channels, height, width]: permute(0, 3, 1, 2) of a tensor, "
            "transpose(0, 3, 1, 2) of an array"
        )  # fmt: skip
    return x


def as_targets(key: str, value: object) -> Tensor:
    """Classes [samples], int64, or real targets [samples, outputs], float64.

    Raises:
        ConfigError: another shape.
    """
    y = as_tensor(key, value)
    if y.ndim == 2 and y.shape[1] == 1 and not y.is_floating_point():
        y = y[:, 0]  # a frame of one column
    if y.numel() == 0 or y.ndim not in ((1, 2) if y.is_floating_point() else (1,)):
        shape = "x".join(map(str, y.shape))
        raise ConfigError(key, shape, "must be real targets [samples] or [samples, outputs], or classes [samples]")
    return y.reshape(len(y), -1) if y.is_floating_point() else y


def count_classes(labels: Tensor) -> int:
    """Number of classes 0, 1, ... of all labels, training and test.

    Raises:
        ConfigError: one of them occurs nowhere: labels from 1 would get an output that nothing trains.
    """
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0:
        raise ConfigError("y", lowest, "integer y are classes from 0; give real targets as floating point")
    present = set(torch.unique(labels).tolist())
    if len(present) <= highest:
        missing = next(c for c in range(highest + 1) if c not in present)
        if lowest == 1 and len(present) == highest:
            raise ConfigError("y", f"1 to {highest}", "classes are counted from 0: subtract 1")
        raise ConfigError(
            "y", f"0 to {highest}", f"integer y are classes, and class {missing} occurs nowhere: number them anew "
            "(numpy.unique(y, return_inverse=True)), or give real targets as floating point"
        )  # fmt: skip
    return highest + 1
