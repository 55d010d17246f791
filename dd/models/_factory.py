"""A user's function that makes a network: found by ``FILE.py:FUNCTION``, known by its source."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Protocol

from dd.errors import in_one_line


class Make(Protocol):
    """What a user gives."""

    def __call__(self, *arguments: object, **named: object) -> object:
        """Return a network."""


FORM = "a function of (width, inputs, outputs) or (width, image, outputs) that returns a torch.nn.Module"


@dataclass(frozen=True)
class Factory:
    """A function that makes networks.

    Attributes:
        make: the function.
        named: names of its arguments in dd's words; they are passed by name where it has these, else in this order.
        images: whether it asks for the shape of an image.
        source: sha256 of its name and of the source of its file and of the files beside it that are imported.
    """

    make: Make
    named: bool
    images: bool
    source: str

    def __call__(self, width: int, sample: int | tuple[int, int, int], outputs: int) -> object:
        """Make a network, or whatever the function returns.

        Args:
            width: of the run.
            sample: inputs, or channels, height and width of an image.
            outputs: of the data.
        """
        values = (width, sample, outputs)
        second = "image" if self.images else "inputs"
        by_name = dict(zip(("width", second, "outputs"), values, strict=True))
        return self.make(**by_name) if self.named else self.make(*values)


def factory(path: str) -> Factory:
    """Find a factory.

    Args:
        path: ``FILE.py:FUNCTION``.

    Raises:
        ValueError: there is none, with what was found in its place.
    """
    return _loaded(*_split(path), digest(path))


def digest(path: str) -> str:
    """sha256 of a factory's name and source; the same wherever its files lie.

    Raises:
        ValueError: the file is absent, or no Python.
    """
    file, name = _split(path)
    stamps, text = _digests.get(file, ({}, ""))
    if not stamps or stamps != {part: _stamp(part) for part in stamps}:
        found = hashlib.sha256()
        parts = sources(file)
        for part, content in parts.items():
            found.update(f"{part}\n{content}\n".encode())
        stamps, text = {file.parent / part: _stamp(file.parent / part) for part in parts}, found.hexdigest()
        _digests[file] = stamps, text
    return hashlib.sha256(f"{name} {text}".encode()).hexdigest()


_digests: dict[Path, tuple[dict[Path, object], str]] = {}
"""Of files read before: states of all their sources, and the digest."""


def _stamp(file: Path) -> object:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def sources(file: Path) -> dict[str, str]:
    """Text of a file and of what it imports from its own folder, by the path from there.

    Raises:
        ValueError: a file cannot be read, or is no Python.
    """
    found: dict[str, str] = {}
    waiting = [file]
    while waiting:
        part = waiting.pop()
        name = part.name if part == file else part.relative_to(file.parent).as_posix()
        if name in found:
            continue
        try:
            found[name] = part.read_text(encoding="utf-8")  # newlines are read as \n everywhere
            tree = ast.parse(found[name])
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{part} cannot be read ({type(error).__name__})") from error
        except SyntaxError as error:
            raise ValueError(f"{part}, line {error.lineno}: {error.msg}") from error
        waiting += _beside(tree, file.parent)
    return dict(sorted(found.items()))


def _beside(tree: ast.Module, folder: Path) -> Iterator[Path]:
    """Files of a folder that a module imports; installed packages and dd itself are no part of a network."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module or ''}.{alias.name}".strip(".") for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if not name or parts[0] in ("dd", "analysis"):
                continue
            place = folder.joinpath(*parts)
            yield from (path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file())


def _split(path: str) -> tuple[Path, str]:
    file, colon, name = path.rpartition(":")
    if not colon or not name.isidentifier() or not file.endswith(".py"):
        raise ValueError("must be FILE.py:FUNCTION")
    place = Path(file).expanduser().absolute()
    if not place.is_file():
        raise ValueError(f"there is no file {place}")
    return place, name


@lru_cache(maxsize=64)
def _loaded(file: Path, name: str, source: str) -> Factory:
    module = _executed(file, source)
    make = getattr(module, name, None)
    if not callable(make):
        known = [k for k, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]
        raise ValueError(f"{file.name} has no function {name}; it has {', '.join(known) or 'none'}")
    named, images = _arguments(make)
    return Factory(make, named, images, source)


@lru_cache(maxsize=64)
def _executed(file: Path, source: str) -> ModuleType:
    """The module of a file, executed once for each version of its source."""
    label = f"dd_network_{source[:16]}_{file.stem}"
    spec = importlib.util.spec_from_file_location(label, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    for part in sources(file):  # what an edited file beside it was before
        sys.modules.pop(part.removesuffix(".py").removesuffix("/__init__").replace("/", "."), None)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    sys.modules[label] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[label]
        if isinstance(error, Exception):
            raise ValueError(f"{file.name} cannot be imported: {in_one_line(error)}") from error
        raise
    return module


def _arguments(make: Make) -> tuple[bool, bool]:
    """Whether a factory takes its arguments by dd's names, and whether it asks for an image.

    Raises:
        ValueError: it takes other arguments.
    """
    try:
        parameters: Mapping[str, inspect.Parameter] = inspect.signature(make).parameters
    except (TypeError, ValueError) as error:
        raise ValueError(f"{_called(make)} has no signature; it must be {FORM}") from error
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [p for p in parameters.values() if p.kind in plain and p.default is p.empty]
    names = [p.name for p in needed]
    images = "image" in names
    by_name = sorted(names) == sorted(("width", "image" if images else "inputs", "outputs"))
    by_name = by_name and all(p.kind is not inspect.Parameter.POSITIONAL_ONLY for p in needed)
    positional = len(needed) == 3 and all(p.kind is not inspect.Parameter.KEYWORD_ONLY for p in needed)
    if not by_name and not (positional and (not images or names[1] == "image")):
        raise ValueError(f"{_called(make)} takes ({', '.join(names)}); it must be {FORM}")
    return by_name, images


def _called(make: Make) -> str:
    return str(getattr(make, "__name__", type(make).__name__))
