"""Registries keyed by name: a component is one module of its room, and the module's name is the component's name.

A room (``dd/optim``, ``dd/models``, …) holds one file a component, or one package where it outgrows a file; names that
start with an underscore are shared code. Every component module defines exactly one public subclass of the room's base
class (a package defines it in one of its modules and imports it). Nothing else has to be edited to add one, apart from
the YAML of the same name in the room's folder of ``conf/``.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache

from dd.errors import ConfigError
from dd.runs.axis import Axis
from dd.runs.component import Component

ROOMS = {
    "model": "dd.models",
    "data": "dd.data",
    "init": "dd.initializations",
    "normalization": "dd.normalizations",
    "optimizer": "dd.optim",
    "schedule": "dd.schedules",
}
"""Command-line group of a run's components -> package that holds them."""

GROUPS = ROOMS | {"executor": "dd.executors"}
"""All groups: where a run is computed is no part of it."""

_visitors: dict[tuple[str, str], type[Component]] = {}


@cache
def names(group: str) -> tuple[str, ...]:
    """Names that a group accepts, sorted, without importing the components."""
    package = importlib.import_module(GROUPS[group])
    own = {m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")}
    return tuple(sorted(own | {name for room, name in _visitors if room == group}))


@cache
def kind(group: str, name: str) -> type[Component]:
    """Return the class of a component.

    Raises:
        ConfigError: no component of that name; the message lists the names.
    """
    if name not in names(group):
        raise ConfigError(group, name, "must be one of " + ", ".join(names(group)))
    if visitor := _visitors.get((group, name)):
        return visitor
    module = importlib.import_module(f"{GROUPS[group]}.{name}")
    found: list[type[Component]] = [
        thing
        for label, thing in vars(module).items()
        if inspect.isclass(thing)
        and issubclass(thing, Component)
        and (thing.__module__ == module.__name__ or thing.__module__.startswith(module.__name__ + "."))
        and not label.startswith("_")
    ]
    if len(found) != 1 or not dataclasses.is_dataclass(found[0]):
        raise TypeError(f"{module.__name__} must define one public Component, a frozen dataclass")
    return found[0]


def chosen(
    group: str, node: object, origin: Callable[[str], str] = lambda key: "", others: Collection[str] = ()
) -> Component:
    """The component that a configuration chooses in a group, with its options.

    Args:
        group: of the configuration.
        node: what the configuration has there: a name, or a mapping with ``name`` and options.
        origin: says where a key's value was set.
        others: keys below the group that are no options of the component.

    Raises:
        ConfigError: no such component, no such option, or a bad value.
    """
    given: Mapping[str, object] = node if isinstance(node, Mapping) else {}
    name = given.get("name") if isinstance(node, Mapping) else node
    if name not in names(group):
        raise ConfigError(group, name, "must be one of " + ", ".join(names(group)), origin(group))
    made = kind(group, str(name))
    axes = made.axes()
    known = {axis.key for axis in axes.values()}
    for key in given.keys() - known - {"name", *others}:
        having = owners(f"{group}.{key}")
        allowed = f"{group}={name} has no such option; its own: {', '.join(sorted(known)) or 'none'}"
        allowed += f"; it is an option of {having}" * bool(having)
        raise ConfigError(f"{group}.{key}", given[key], allowed, origin(f"{group}.{key}"))
    options = {
        field: axis.check(given.get(axis.key, axis.default), origin, f"{group}.{axis.key}")
        for field, axis in axes.items()
    }
    return made(**options).canonical()


def owners(key: str) -> str:
    """The components that have an option, as they are chosen; empty where it is an option of none.

    >>> owners("data.noise"), owners("lr")
    ('data=hermite_teacher, linear_teacher', '')
    """
    group, _, option = key.partition(".")
    if group not in GROUPS or not option:
        return ""
    kinds = ((name, kind(group, name)) for name in names(group))
    having = [name for name, kind in kinds if any(axis.key == option for axis in kind.axes().values())]
    return f"{group}={', '.join(having)}" if having else ""


@cache
def kinds(group: str) -> tuple[type[Component], ...]:
    """Return the classes of all components of a group, in the order of their names."""
    return tuple(kind(group, name) for name in names(group))


@cache
def option_axes(groups: tuple[str, ...] = tuple(ROOMS)) -> tuple[tuple[str, Axis], ...]:
    """Every option of every component as (``group.key``, axis), sorted; the parquet schema's further columns.

    Args:
        groups: whose components; those of a run.

    Raises:
        TypeError: two components of a group use one option name with different types.
    """
    found: dict[str, Axis] = {}
    for group in groups:
        for one in kinds(group):
            for axis in one.axes().values():
                key = f"{group}.{axis.key}"
                if key in found and found[key].kind is not axis.kind:
                    raise TypeError(f"option {key} has two types")
                found.setdefault(key, axis)
    return tuple(sorted(found.items()))


@contextmanager
def visiting(group: str, component: type[Component]) -> Iterator[None]:
    """Let a component from outside the package take part, by its own name, for as long as the block lasts."""
    _visitors[group, component.name] = component
    _forget()
    try:
        yield
    finally:
        del _visitors[group, component.name]
        _forget()


def _forget() -> None:
    for cached in (names, kind, kinds, option_axes):
        cached.cache_clear()
