"""A network's factory given from Python as ``FILE.py:FUNCTION``, so that workers and later sessions find it, too.

A function of an importable file is named by that file. One of a notebook or a script (``__main__``) is written to a
file of its own, with the functions, classes, imports and plain constants that it uses.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import inspect
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FunctionType, ModuleType

from dd.cli.compose import compose_settings
from dd.cli.kept import assigned, keep
from dd.errors import ConfigError

PLAIN = (bool, int, float, str, bytes, type(None))
"""Types of constants that are written as they are; tuples, lists and dictionaries of them, too."""

FIX = "put the function into a file of its own, and give model='FILE.py:FUNCTION'"

FOLDER = "models"
"""Folder of a table that holds such files; no part of the table."""


def overrides_with(make: object, overrides: Sequence[str]) -> list[str]:
    """The overrides of a sweep, and before them those that name a factory.

    Raises:
        ConfigError: see :func:`path_of`; or an override names another model.
    """
    for override in overrides:
        key, _, value = str(override).partition("=")
        if key.lstrip("+~") in ("model", "model.path"):
            raise ConfigError(key, value, "dd.sweep has its network from model=; leave the override out")
    settings = compose_settings(overrides)
    path = path_of(make, Path(settings.results_dir) / settings.name / FOLDER)
    return ["model=module", assigned("model.path", path), *overrides]


def path_of(make: object, folder: Path) -> str:
    """``FILE.py:FUNCTION`` of a factory.

    Args:
        make: the function, or such a path already.
        folder: where a function of a notebook is written to.

    Raises:
        ConfigError: it is neither, or uses what cannot be written down.
        StoreError: it cannot be written there.
    """
    if isinstance(make, str):
        return make
    if not isinstance(make, FunctionType | type):
        raise ConfigError("model", type(make).__name__, "must be a function of (width, inputs, outputs), or its path")
    name, module = make.__qualname__, sys.modules.get(make.__module__)
    file = getattr(module, "__file__", None)
    if module is not None and file and file.endswith(".py") and make.__module__ != "__main__" and name.isidentifier():
        return f"{_short(Path(file))}:{name}"
    text = _Script(make).text
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.py"
    keep(path, "the network", lambda opened: opened.write(text.encode()))
    return f"{_short(path)}:{make.__name__}"


def _short(path: Path) -> str:
    """A path from here, where it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


class _Script:
    """The source of a function and of all that it uses.

    Attributes:
        text: a Python file.
    """

    def __init__(self, make: FunctionType | type) -> None:
        self.imports: dict[str, None] = {}
        self.constants: dict[str, None] = {}
        self.definitions: list[str] = []
        self._met: set[str] = set()
        self._define(make.__name__, make)
        parts = ["\n".join(sorted(self.imports)), "\n".join(self.constants), *self.definitions]
        self.text = "\n\n\n".join(part for part in parts if part) + "\n"

    def _define(self, name: str, thing: FunctionType | type) -> None:
        """Write a function or class, after what it uses."""
        if name in self._met:
            return
        self._met.add(name)
        if thing.__name__ == "<lambda>":
            raise ConfigError("model", "a lambda", f"has no name to be found by: write def make(...), or {FIX}")
        if name != thing.__name__:
            raise ConfigError("model", name, f"is another name of {thing.__name__}, which dd cannot write down; {FIX}")
        closure = inspect.getclosurevars(thing).nonlocals if isinstance(thing, FunctionType) else {}
        if closure:
            raise ConfigError("model", name, f"uses variables of a function around it ({', '.join(closure)}); {FIX}")
        try:
            source = textwrap.dedent(inspect.getsource(thing))
        except (OSError, TypeError) as error:
            raise ConfigError("model", name, f"has no source to be read; {FIX}") from error
        for used in _names(source):
            self._need(used, _globals(thing), name)
        self.definitions.append(source.strip())

    def _need(self, name: str, known: Mapping[str, object], by: str) -> None:
        """Write what a name stands for."""
        if name not in known or name in self._met:
            return
        thing = known[name]
        if isinstance(thing, ModuleType):
            self.imports[f"import {thing.__name__} as {name}" if thing.__name__ != name else f"import {name}"] = None
        elif isinstance(thing, FunctionType | type) and thing.__module__ == "__main__":
            self._define(name, thing)
        elif _plain(thing):
            self.constants[f"{name} = {thing!r}"] = None
        elif importable(thing):
            own = thing.__name__  # type: ignore[attr-defined]  # as importable has seen
            line = f"from {thing.__module__} import {own}"
            self.imports[line if own == name else f"{line} as {name}"] = None
        else:
            raise ConfigError("model", by, f"uses {name}, a {type(thing).__name__}, which dd cannot write down; {FIX}")


def importable(thing: object) -> bool:
    """Whether a thing is found in its module by its own name."""
    module, name = str(getattr(thing, "__module__", "")), str(getattr(thing, "__name__", ""))
    return module != "__main__" and getattr(sys.modules.get(module), name, None) is thing


def _plain(thing: object) -> bool:
    if isinstance(thing, tuple | list):
        return all(map(_plain, thing))
    if isinstance(thing, dict):
        return all(_plain(part) for pair in thing.items() for part in pair)
    return type(thing) in PLAIN


def _globals(thing: FunctionType | type) -> Mapping[str, object]:
    if isinstance(thing, FunctionType):
        return thing.__globals__
    return vars(sys.modules[thing.__module__])


def _names(source: str) -> list[str]:
    """Names that a piece of source reads, sorted; names that Python itself knows are left out."""
    read = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    return sorted(read - set(dir(builtins)))
