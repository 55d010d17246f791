"""Keys of a sweep as Python gives them: ``width=[8, 64], n_train=200`` beside overrides in strings."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cache

from dd.cli.kept import assigned
from dd.errors import ConfigError
from dd.runs.registry import GROUPS, option_axes
from dd.runs.run import core_axes
from dd.runs.settings import setting_axes


def overrides_of(keys: Mapping[str, object]) -> list[str]:
    """The overrides that set some keys.

    Args:
        keys: by key (``width``, or ``data.n_train`` in a mapping), by column (``n_train``), or with underscores
            (``data_n_train``). A list, a range or
            an array sweeps its values; text is what is typed after ``key=`` on the command line; a path is one value.

    Raises:
        ConfigError: a value that no key can have.
    """
    return [_override(_keys().get(name, name), value) for name, value in keys.items()]


def _override(key: str, value: object) -> str:
    if isinstance(value, os.PathLike):
        return assigned(key, os.fspath(value))
    if isinstance(value, str):
        return f"{key}={value}"
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        return f"{key}={_text(key, value)}"
    values = list(value.tolist() if hasattr(value, "tolist") else value)
    if not values:
        raise ConfigError(key, "[]", "holds no value to run")
    return f"{key}={','.join(_text(key, one) for one in values)}"


def _text(key: str, value: object) -> str:
    """One value as it is typed."""
    value = value.item() if hasattr(value, "item") else value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, os.PathLike):
        return assigned(key, os.fspath(value)).partition("=")[2]
    if isinstance(value, str):
        return value
    raise ConfigError(key, value, "must be a number, text, true or false, null, a path, or a list of them")


@cache
def _keys() -> dict[str, str]:
    """Column, or key with underscores -> key."""
    axes = (*core_axes().values(), *setting_axes())
    found = {key.replace(".", "_"): key for key, _ in option_axes(tuple(GROUPS))}
    return found | {axis.column: axis.key for axis in axes} | {name: axis.key for name, axis in core_axes().items()}
