"""A user's own files as arrays: .npz, .npy, .csv, .parquet, .pt and folders of images; nothing is interpreted here."""

from __future__ import annotations

import gzip
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dd.errors import ConfigError
from dd.samples.frames import gaps, no_numbers

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.generic]

NAMES = (("x", "x_train"), ("y", "y_train"), ("x_test",), ("y_test",))
"""What inputs and targets of the two parts may be called, in capitals too."""

TABLES = (".csv", ".csv.gz", ".tsv", ".parquet")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
SUFFIXES = (".npz", ".npy", ".pt", ".pth", *TABLES)

SHOWN = 12
"""Names that a message lists at most."""


@dataclass(frozen=True)
class Raw:
    """What a file holds.

    Attributes:
        x: inputs of the samples.
        y: their targets.
        test_x: inputs of a test part, or None.
        test_y: its targets.
    """

    x: object
    y: object
    test_x: object = None
    test_y: object = None


def paths_of(path: Path, labels: Path | None) -> list[Path]:
    """What :func:`read` would look at: a folder and all that is in it, or the file itself.

    Raises:
        ConfigError: there is no such file, or it is of a kind that is not read.
    """
    found = [path] if labels is None else [path, labels]
    for one, key in zip(found, ("data.path", "data.labels"), strict=False):
        if not os.path.exists(one):  # False, too, where it may not be looked at
            raise ConfigError(key, one, f"no such file or folder, or it may not be read (looked for {one.absolute()})")
    if path.is_dir():
        held = sorted(one for one in path.rglob("*") if not one.name.startswith("."))
        return [path, *held, *found[1:]]
    if _suffix(path) not in SUFFIXES:
        raise ConfigError("data.path", path, f"must be one of {', '.join(SUFFIXES)}, or a folder (docs/own.md)")
    return found


def read(path: Path, labels: Path | None, target: str | None) -> Raw:
    """Read a file or folder.

    Args:
        path: the file, or a folder of arrays, of tables or of images in class folders.
        labels: the targets of an ``.npy`` file.
        target: column or columns of a table that are the targets, separated by commas.

    Raises:
        ConfigError: it cannot be read as one; the message names the key, the value and what is allowed.
    """
    kind = "folder" if path.is_dir() else _suffix(path)
    if labels is not None and kind != ".npy":
        raise ConfigError("data.labels", labels, "is for data.path=<one .npy file>; other files hold their targets")
    if target is not None and kind not in (*TABLES, "folder"):
        raise ConfigError("data.target", target, f"is for tables ({', '.join(TABLES)}); {path.name} holds arrays")
    try:
        if kind == "folder":
            return _folder(path, target)
        if kind in TABLES:
            return Raw(*_split(path, _table(path), target))
        if kind == ".npz":
            return _npz(path)
        if kind == ".npy":
            return _npy(path, labels)
        return _torch(path)
    except ConfigError:
        raise
    except MemoryError as error:
        raise ConfigError("data.path", path, "does not fit in memory") from error
    except ImportError as error:
        raise ConfigError("data.path", path, f"needs a library that is not installed: {error}") from error
    except Exception as error:  # every library refuses in its own way
        reason = (str(error).splitlines() or [""])[0][:150]
        raise ConfigError("data.path", path, f"cannot be read ({type(error).__name__}: {reason})") from error


def _suffix(path: Path) -> str:
    """Suffix in small letters; ``.csv.gz`` counts as one."""
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), path.suffix.lower())


def _array(path: Path, name: str, load: Callable[[], object]) -> Array:
    """An array of a file of NumPy's.

    Raises:
        ConfigError: it holds Python objects.
    """
    try:
        found = load()
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        allowed = f"array {name} holds Python objects; save numbers or text, as in x.astype(float) or y.astype(str)"
        raise ConfigError("data.path", path, allowed) from error
    assert isinstance(found, np.ndarray)
    return found


def _named(path: Path, held: Sequence[str], get: Callable[[str], object]) -> Raw:
    """Inputs and targets by their usual names.

    Raises:
        ConfigError: there are none of these names.
    """
    small = {name.lower(): name for name in reversed(held)}
    found = [next((small[name] for name in names if name in small), None) for names in NAMES]
    if found[0] is None or found[1] is None:
        has = ", ".join(held[:SHOWN]) or "nothing"
        raise ConfigError("data.path", path, f"must hold x and y, and may hold x_test and y_test; it holds {has}")
    return Raw(*(None if name is None else get(name) for name in found))


def _npz(path: Path) -> Raw:
    if not zipfile.is_zipfile(path):
        raise ConfigError("data.path", path, "is no .npz file (numpy.savez writes one)")
    with np.load(path, allow_pickle=False) as held:
        return _named(path, held.files, lambda name: _array(path, name, lambda: held[name]))


def _npy(path: Path, labels: Path | None) -> Raw:
    if labels is None:
        allowed = "holds one array: add data.labels=<y.npy>, or give the folder of x.npy and y.npy"
        raise ConfigError("data.path", path, allowed)
    return Raw(_npy_array(path), _npy_array(labels))


def _npy_array(path: Path) -> Array:
    return _array(path, path.stem, lambda: np.load(path, allow_pickle=False))


def _torch(path: Path) -> Raw:
    import torch

    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        allowed = "must be a dictionary or tuple of tensors, as torch.save({'x': x, 'y': y}, path) writes it"
        raise ConfigError("data.path", path, allowed) from error
    if isinstance(held, Mapping):
        return _named(path, [str(name) for name in held], lambda name: held[name])
    if isinstance(held, list | tuple) and len(held) in (2, 4):
        return Raw(*held)
    raise ConfigError(
        "data.path", path, f"must hold x and y, and may hold x_test and y_test; it is a {type(held).__name__}"
    )


def _table(path: Path) -> pd.DataFrame:
    """A table with its columns; an unnamed first column that counts the rows is an index, and is left out.

    Raises:
        ConfigError: it has no rows, or its first line holds no names.
    """
    import pandas as pd

    if _suffix(path) == ".parquet":
        frame = pd.read_parquet(path)
    else:
        with gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb") as file:
            head = file.readline()
        if not head.strip():
            raise ConfigError("data.path", path, "is empty; its first line names the columns")
        separator = max((",", ";", "\t", "|"), key=lambda one: head.count(one.encode()))
        frame = pd.read_csv(path, sep=separator, encoding="utf-8-sig", skipinitialspace=True)
    frame.columns = [str(name) for name in frame.columns]
    if len(frame.columns) and all(_is_number(name) for name in frame.columns):
        raise ConfigError("data.path", path, "its first line holds numbers; the first line names the columns")
    first = frame.columns[0] if len(frame.columns) else ""
    if first.startswith("Unnamed: 0") and frame[first].tolist() == list(range(len(frame))):
        frame = frame.drop(columns=first)
    if not len(frame):
        raise ConfigError("data.path", path, "has no rows")
    return frame


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _split(path: Path, frame: pd.DataFrame, target: str | None) -> tuple[NDArray[np.float64], object]:
    """Inputs [samples, columns] and targets of a table.

    Raises:
        ConfigError: no such column, missing values, or text where numbers belong.
    """
    held = list(frame.columns)
    shown = ", ".join(held[:SHOWN]) + (", ..." if len(held) > SHOWN else "")
    if target is None:
        raise ConfigError("data.target", None, f"which column of {path.name} is the target? it has {shown}")
    wanted = [target] if target in held else [name.strip() for name in target.split(",")]
    for name in wanted:
        if name not in held:
            raise ConfigError("data.target", name, f"{path.name} has no such column; it has {shown}")
    if len(set(wanted)) < len(wanted):
        raise ConfigError("data.target", target, "names a column twice")
    inputs = [name for name in held if name not in wanted]
    if not inputs:
        raise ConfigError("data.target", target, f"leaves no inputs: {path.name} has no other columns")
    for name in held:
        column = frame[name]
        if column.ndim > 1:
            raise ConfigError("data.path", path, f"has two columns {name}")
        if objection := gaps(name, column):
            raise ConfigError("data.path", path, objection)
    for name in inputs if len(wanted) == 1 else held:
        if objection := no_numbers(name, frame[name]):
            raise ConfigError("data.path", path, objection)
    x = frame[inputs].to_numpy(np.float64)
    if len(wanted) > 1:
        return x, frame[wanted].to_numpy(np.float64)
    column = frame[wanted[0]]
    return x, column.astype(str).to_numpy(str) if no_numbers(wanted[0], column) else column


def _folder(path: Path, target: str | None) -> Raw:
    """Arrays x.npy and y.npy; tables train and test; or images in class folders, perhaps below train and test.

    Raises:
        ConfigError: none of these.
    """
    arrays = {one.stem: one for one in sorted(path.glob("*.npy"))}
    if arrays:
        return _named(
            path, list(arrays), lambda name: _array(path, name, lambda: np.load(arrays[name], allow_pickle=False))
        )
    tables = [next((one for s in TABLES if (one := path / f"{part}{s}").is_file()), None) for part in ("train", "test")]
    if tables[0] is not None:
        parts = [_split(one, frame, target) for one, frame in _alike([one for one in tables if one], target)]
        return Raw(*parts[0], *(parts[1] if len(parts) > 1 else ()))
    if target is not None:
        raise ConfigError("data.target", target, f"is for tables; {path} holds no train.csv or train.parquet")
    if (path / "train").is_dir():
        train, test = path / "train", path / "test"
        return Raw(*_images(train), *(_images(test) if test.is_dir() else ()))
    return Raw(*_images(path))


def _alike(paths: Sequence[Path], target: str | None) -> list[tuple[Path, pd.DataFrame]]:
    """Tables of the same columns, in the order of the first.

    Raises:
        ConfigError: they have other columns.
    """
    frames = [_table(one) for one in paths]
    first = frames[0]
    for one, frame in zip(paths, frames, strict=True):
        if odd := sorted(set(first) ^ set(frame)):
            where = paths[0].name if odd[0] in first else one.name
            allowed = f"must have the columns of {paths[0].name}: {odd[0]} is in {where} alone"
            raise ConfigError("data.path", one, allowed)
    return [(one, frame[list(first)]) for one, frame in zip(paths, frames, strict=True)]


def _images(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """Images in one folder a class: [samples, height, width] if all are grey, else [samples, height, width, 3].

    Raises:
        ConfigError: there are none, or their sizes differ.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ConfigError("data.path", folder, "needs Pillow to read images: pip install pillow") from error

    classes = sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith((".", "_")))
    files = [(one, held.name) for held in classes for one in sorted(held.iterdir()) if one.suffix.lower() in IMAGES]
    if not files:
        allowed = (
            "must hold x.npy and y.npy, train.csv or train.parquet, or one folder of images a class "
            f"({', '.join(IMAGES[:3])}, ...)"
        )
        raise ConfigError("data.path", folder, allowed)
    images = []
    for one, _ in files:
        with Image.open(one) as image:
            if image.mode in ("I", "F") or image.mode.startswith("I;"):
                raise ConfigError("data.path", one, "has more than 8 bits a pixel; save the images as arrays (.npz)")
            image.load()
            images.append(image.convert("L" if image.mode in ("1", "L") else "RGB"))
        if images[-1].size != images[0].size:
            told = [f"{i.size[0]}x{i.size[1]}" for i in (images[-1], images[0])]
            raise ConfigError(
                "data.path", one, f"is {told[0]} pixels, {files[0][0].name} {told[1]}; resize them to one size"
            )
    grey = all(image.mode == "L" for image in images)
    pixels = np.stack([np.asarray(image if grey else image.convert("RGB"), np.uint8) for image in images])
    return pixels, np.array([name for _, name in files])
