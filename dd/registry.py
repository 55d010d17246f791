"""Registries keyed by name: a component is one module of its room, and the module's name is the component's name.

A room (``dd/optim``, ``dd/models``, …) holds one file a component, or one package where it outgrows a file; names that
start with an underscore are shared code. Every component module defines exactly one public subclass of the room's base
class (a package defines it in one of its modules and imports it). Nothing else has to be edited to add one, apart from
the YAML of the same name in the room's folder of ``conf/``.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from dd.axis import Axis
from dd.errors import ConfigError

if TYPE_CHECKING:
    from dd.config import OriginOf, RunConfig

ROOMS = {
    "model": "dd.models",
    "data": "dd.data",
    "init": "dd.initializations",
    "normalization": "dd.normalizations",
    "optimizer": "dd.optim",
}
"""Command-line group -> package that holds its components."""


class Component:
    """Base of everything that a name on the command line stands for.

    Attributes:
        options: the component's own axes; ``Axis.key`` is the key below the group (``beta1`` of ``optimizer``).
    """

    options: ClassVar[tuple[Axis, ...]] = ()

    def canonical(self, options: dict[str, Any]) -> None:
        """Reset options that have no effect beside the others, in place; keys are ``group.key``."""

    def settle(self, run: RunConfig, origin: OriginOf) -> RunConfig:
        """Replace options that stand for something else (``auto``) by what they mean for this run.

        Raises:
            ConfigError: there is nothing that they could mean.
        """
        return run

    def check(self, run: RunConfig, origin: OriginOf) -> None:
        """Refuse a run that this component cannot take part in.

        Raises:
            ConfigError: naming the key, the value and what is allowed.
        """


@cache
def names(group: str) -> tuple[str, ...]:
    """Names that a group accepts, sorted, without importing the components."""
    package = importlib.import_module(ROOMS[group])
    return tuple(sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")))


@cache
def get(group: str, name: str) -> Any:
    """Return the one instance of a component.

    Raises:
        ConfigError: no component of that name; the message lists the names.
    """
    if name not in names(group):
        raise ConfigError(group, name, "must be one of " + ", ".join(names(group)))
    module = importlib.import_module(f"{ROOMS[group]}.{name}")
    found = [
        thing
        for label, thing in vars(module).items()
        if inspect.isclass(thing)
        and issubclass(thing, Component)
        and (thing.__module__ == module.__name__ or thing.__module__.startswith(module.__name__ + "."))
        and not label.startswith("_")
    ]
    if len(found) != 1:
        raise TypeError(f"{module.__name__} must define one public Component, not {len(found)}")
    return found[0]()


@cache
def option_axes() -> tuple[tuple[str, Axis], ...]:
    """Every option of every component as (``group.key``, axis), sorted; the parquet schema's further columns.

    Raises:
        TypeError: two components of a group use one option name with different types.
    """
    found: dict[str, Axis] = {}
    for group in ROOMS:
        for name in names(group):
            for axis in get(group, name).options:
                key = f"{group}.{axis.key}"
                if key in found and found[key].kind is not axis.kind:
                    raise TypeError(f"option {key} has two types")
                found.setdefault(key, axis)
    return tuple(sorted(found.items()))
