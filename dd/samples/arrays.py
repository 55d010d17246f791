"""The one door for a user's own samples: arrays of every kind become inputs and targets; what cannot be is named.

:func:`dd.train`, ``dd.sweep(..., data=...)`` and ``data=file`` all come through :func:`samples_of`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from dd.errors import ConfigError
from dd.samples.frames import of_frame

Array = NDArray[np.generic]
Numbers = NDArray[np.number]

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
        raise ConfigError(key, "nan or inf", of_frame(value) or "must be finite")
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
            missing = "has missing values: fill them, or leave their samples out"
            raise ConfigError(key, _named(value), of_frame(value) or missing)
        array = np.array(array.tolist())
    if array.dtype.kind == "c":
        raise ConfigError(key, _named(value, array.dtype), "must be real")
    if array.dtype.kind in "USTOMm" or array.dtype.names:
        objection = of_frame(value)
        raise ConfigError(key, _named(value, None if objection else array.dtype), objection or ALLOWED)
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


def channels_last(shape: Sequence[int]) -> bool:
    """Whether samples of a shape are images whose channels come last: there are 1, 3 or 4, and not so in front."""
    return len(shape) == 4 and shape[3] in CHANNELS and shape[1] not in CHANNELS


def as_inputs(key: str, value: object) -> tuple[Numbers, float]:
    """Inputs [samples, inputs], or images [samples, channels, height, width].

    Grey images may be [samples, height, width]. Images with their channels last are transposed.
    Pixels in bytes stay bytes; all else is float64.

    Returns:
        The inputs, and the factor that takes them to their natural range: 1/255 for pixels in bytes.

    Raises:
        ConfigError: another shape, named with the way to the right one.
    """
    plain = value.cpu().numpy() if isinstance(value, Tensor) and value.dtype is torch.uint8 else value
    if isinstance(plain, np.ma.MaskedArray) and not np.ma.is_masked(plain):
        plain = plain.data
    pixels = (
        isinstance(plain, np.ndarray)
        and not np.ma.is_masked(plain)
        and plain.dtype == np.uint8
        and plain.ndim in (3, 4)
    )
    x: Numbers = np.array(plain) if pixels else as_tensor(key, value).double().numpy()
    shape = "x".join(map(str, x.shape))
    if x.ndim not in (2, 3, 4):
        allowed = "must be [samples, inputs], or images [samples, channels, height, width]"
        raise ConfigError(key, shape or "a number", allowed)
    if x.size == 0:
        raise ConfigError(key, shape, "must hold samples, and inputs of them")
    if x.ndim == 3:
        x = x[:, None]
    elif channels_last(x.shape):
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    return x, 1 / 255 if pixels else 1.0


TASKS = ("auto", "classification", "regression")
"""What targets may be: ``auto`` takes text, integers and booleans for classes and all else for real targets."""

MANY, FEW = 20, 4
"""Integers of more values than this, with fewer samples a value than that, may be either: the user has to say. But
0, 1, 2, ... without a gap are classes."""


@dataclass(frozen=True)
class Samples:
    """Samples of a user, checked.

    Attributes:
        x: inputs, [samples, inputs] or [samples, channels, height, width], float64; pixels in bytes are uint8.
        y: classes, [samples], int64, counted from 0; or real targets, [samples, outputs], float64.
        test_x: as ``x``, of a test part of their own; None if there is none.
        test_y: as ``y``.
        scale: factor that takes ``x`` to its natural range.
        names: what the classes were called, in their order; empty for real targets.
    """

    x: Numbers
    y: Numbers
    test_x: Numbers | None
    test_y: Numbers | None
    scale: float
    names: tuple[str, ...]

    @property
    def classification(self) -> bool:
        """Whether the targets are classes."""
        return bool(self.names)

    @property
    def outputs(self) -> int:
        """Number of classes or real targets."""
        return len(self.names) or self.y.shape[1]

    @property
    def image(self) -> tuple[int, int, int] | None:
        """Channels, height and width of images, else None."""
        return (self.x.shape[1], self.x.shape[2], self.x.shape[3]) if self.x.ndim == 4 else None

    @cached_property
    def flat(self) -> tuple[Numbers, Numbers | None]:
        """Inputs of both parts, [samples, inputs]."""
        return self.x.reshape(len(self.x), -1), None if self.test_x is None else self.test_x.reshape(
            len(self.test_x), -1
        )


KEYS = ("x", "y", "x_test", "y_test")


def samples_of(
    x: object, y: object, test_x: object = None, test_y: object = None, *, task: str = "auto",
    keys: Sequence[str] = KEYS,
) -> Samples:  # fmt: skip
    """Check inputs and targets of whatever kind.

    Args:
        x: inputs; see :func:`as_inputs`.
        y: targets of the same samples: text, integers, booleans or real numbers.
        test_x: inputs of a test part; None if there is none.
        test_y: its targets.
        task: of :data:`TASKS`.
        keys: what the four are called in errors.

    Raises:
        ConfigError: naming which of the four is wrong, and what is allowed.
    """
    sides: list[tuple[Numbers, float]] = []
    targets: list[Array] = []
    for inputs, wanted, key, target_key in ((x, y, keys[0], keys[1]), (test_x, test_y, keys[2], keys[3])):
        if inputs is None and wanted is None and sides:
            continue
        if inputs is None or wanted is None:
            missing, other = (key, target_key) if inputs is None else (target_key, key)
            raise ConfigError(missing, None, f"is missing, but there is {other}")
        sides.append(as_inputs(key, inputs))
        targets.append(_raw_targets(target_key, wanted))
        if len(sides[-1][0]) != len(targets[-1]):
            allowed = f"must have as many as its targets, {len(targets[-1])}"
            raise ConfigError(key, f"{len(sides[-1][0])} samples", allowed)
    ours, theirs = sides[0], sides[-1]
    if ours[0].shape[1:] != theirs[0].shape[1:] or ours[1] != theirs[1]:
        told = [f"{'x'.join(map(str, a.shape[1:]))} of {a.dtype}" for a, _ in (ours, theirs)]
        raise ConfigError(keys[2], told[1], f"must have inputs as {keys[0]}, {told[0]}")
    found, names = _settled(targets, task, keys)
    has_test = len(sides) > 1
    return Samples(ours[0], found[0], theirs[0] if has_test else None, found[-1] if has_test else None, ours[1], names)


def _raw_targets(key: str, value: object) -> Array:
    """Targets as text [samples], int64 [samples] or float64 [samples, outputs].

    Raises:
        ConfigError: none of these, or another shape.
    """
    text = _text(value)
    if text is not None:
        if not text.size or text.ndim != 1:
            raise ConfigError(key, "x".join(map(str, text.shape)), "names of classes must be [samples]")
        return text
    y = as_tensor(key, value)
    whole = not y.is_floating_point()
    if y.ndim == 2 and y.shape[1] == 1 and whole:
        y = y[:, 0]  # a frame of one column
    if y.numel() == 0 or y.ndim not in (1, 2):
        shape = "x".join(map(str, y.shape))
        raise ConfigError(key, shape, "must be real targets [samples] or [samples, outputs], or classes [samples]")
    return np.asarray(y if whole else y.reshape(len(y), -1))


def _text(value: object) -> NDArray[np.str_] | None:
    """Targets that are words, [samples]; None where they are anything else."""
    if isinstance(value, Tensor):
        return None
    plain = value.to_numpy(dtype=object) if hasattr(value, "to_numpy") else value
    try:
        array = np.asarray(plain)
    except Exception:  # ragged lists, objects of any kind: told by as_tensor
        return None
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.dtype.kind == "O" and array.size and all(isinstance(item, str) for item in array.reshape(-1)):
        array = array.astype(str)
    return array if array.dtype.kind == "U" else array.astype(str) if array.dtype.kind == "S" else None


def _settled(given: Sequence[Array], task: str, keys: Sequence[str]) -> tuple[list[Numbers], tuple[str, ...]]:
    """Targets of all parts: classes from 0 with their names, or real targets.

    Raises:
        ConfigError: the parts differ in kind, or the task does not fit.
    """
    kinds = [part.dtype.kind for part in given]
    mixed = sorted({"text" if kind == "U" else "integers" if kind == "i" else "real numbers" for kind in kinds})
    if len(mixed) > 1 and (task != "regression" or "text" in mixed):
        raise ConfigError(keys[3], " and ".join(mixed), f"targets must be of one kind, as {keys[1]}")
    if task == "regression" or (task == "auto" and kinds[0] == "f"):
        if kinds[0] == "U":
            raise ConfigError(keys[1], given[0][0], "regression needs numbers")
        targets = [part.astype(np.float64).reshape(len(part), -1) for part in given]
        if targets[0].shape[1] != targets[-1].shape[1]:
            raise ConfigError(
                keys[3], targets[-1].shape[1], f"must have as many outputs as {keys[1]}, {targets[0].shape[1]}"
            )
        return list(targets), ()
    return _classes([_labels(part, key) for part, key in zip(given, (keys[1], keys[3]), strict=False)], task, keys[1])


def _labels(part: Array, key: str) -> Array:
    """Labels [samples]: text or int64.

    Raises:
        ConfigError: numbers that are no labels, or several for one sample.
    """
    if part.ndim > 1 and part.shape[1] == 1:
        part = part[:, 0]
    if part.ndim > 1:
        allowed = "classes are one label a sample, [samples]: argmax(axis=1) of a one-hot array, or task=regression"
        raise ConfigError(key, "x".join(map(str, part.shape)), allowed)
    if part.dtype.kind == "f":
        whole = part.astype(np.int64)
        if not np.array_equal(whole, part):
            raise ConfigError(key, part[whole != part][0], "classes are whole numbers or text")
        part = whole
    return part


def _classes(given: Sequence[Array], task: str, key: str) -> tuple[list[Numbers], tuple[str, ...]]:
    """Labels from 0 in sorted order, those of all parts counted together; numbers written as text sort as numbers."""
    every = np.concatenate(list(given))
    if every.dtype.kind == "U" and all(item.isdecimal() and item.isascii() for item in np.unique(every)):
        values = np.unique(every)
        values = values[np.argsort([int(item) for item in values], kind="stable")]
        place = {item: i for i, item in enumerate(values)}
        index = np.array([place[item] for item in every])
    else:
        values, index = np.unique(every, return_inverse=True)
    if len(values) < 2:
        raise ConfigError(key, values[0], "is the only class; classification needs two")
    many = len(values) > MANY and len(values) * FEW > len(every) and not _counts(values)
    if task == "auto" and every.dtype.kind == "i" and many:
        allowed = (
            "classes or real targets? give text for classes, floating point for real targets; of a file say "
            "data.task=classification or data.task=regression"
        )
        raise ConfigError(key, f"integers of {len(values)} values in {len(every)} samples", allowed)
    found = np.split(index.astype(np.int64), np.cumsum([len(part) for part in given])[:-1])
    return list(found), tuple(str(item) for item in values)


def _counts(values: Array) -> bool:
    """Whether sorted integers are 0, 1, 2, ..., as classes are."""
    return bool(values[0] == 0 and values[-1] == len(values) - 1)


def is_torch_dataset(value: object) -> bool:
    """Whether a value is a data set of torch, whose items are pairs of an input and a target."""
    return isinstance(value, Dataset)


def of_dataset(key: str, dataset: object) -> tuple[object, object]:
    """Inputs and targets of a torch data set, items stacked; images of Pillow become arrays.

    Raises:
        ConfigError: its items are no pairs.
    """
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        return dataset.tensors
    if isinstance(dataset, IterableDataset):
        items = list(dataset)
    else:
        assert isinstance(dataset, Dataset)
        items = [dataset[i] for i in range(len(dataset))]  # type: ignore[arg-type]
    if not items:
        raise ConfigError(key, type(dataset).__name__, "holds no samples")
    if any(not isinstance(item, tuple | list) or len(item) != 2 for item in items):
        raise ConfigError(key, type(dataset).__name__, "its items must be pairs: input and target")
    try:
        x = np.stack([np.asarray(item[0]) for item in items])
        y = np.asarray([item[1] if isinstance(item[1], str) else np.asarray(item[1]) for item in items])
    except ValueError as error:
        raise ConfigError(key, type(dataset).__name__, f"its items differ in shape ({_first_line(error)})") from error
    return x, y


def parts_of(key: str, given: object) -> tuple[object, object, object, object]:
    """Inputs and targets, and those of a test part or None, from what a user calls data.

    Args:
        key: what it is called in errors.
        given: (x, y); (x, y, x_test, y_test); a torch data set; or two of them, for training and testing.

    Raises:
        ConfigError: something else.
    """
    if is_torch_dataset(given):
        return (*of_dataset(key, given), None, None)
    if isinstance(given, tuple | list) and len(given) in (2, 4):
        if all(map(is_torch_dataset, given)) and len(given) == 2:
            return (*of_dataset(key, given[0]), *of_dataset(key, given[1]))
        return (*given, None, None) if len(given) == 2 else tuple(given)
    allowed = "must be (x, y), (x, y, x_test, y_test), a torch data set, or a pair of them for training and testing"
    raise ConfigError(key, _named(given), allowed)
