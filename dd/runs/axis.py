"""One axis of a sweep: its key, type, unit, range, default and scope, and how a value is checked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import TypeVar

from dd.errors import ConfigError, is_control

Value = str | int | float | bool | None
"""What an axis holds."""

T = TypeVar("T")


class Scope(IntEnum):
    """The first thing that an axis changes; everything after it changes, too.

    What two runs may share follows from scopes alone (:meth:`dd.runs.run.Run.key`).
    """

    DATA = 0
    """The samples."""
    FEATURES = 1
    """What enters training: frozen features, or prepared inputs."""
    DESIGN = 2
    """The matrix that the read-out of frozen features sees."""
    START = 3
    """The weights before the first step."""
    STEPS = 4
    """The way that training goes."""
    MEASUREMENT = 5
    """What is measured of a trained run: no number of another column."""
    WHERE = 6
    """Where and how it is computed: no number at all."""


@dataclass(frozen=True)
class Axis:
    """A quantity that a user sets on the command line.

    Attributes:
        key: command-line key (``data.n_train``); an option of a component is written without its group.
        kind: ``int``, ``float``, ``bool`` or ``str``.
        default: the neutral value; a value equal to it is left out of the run's identity.
        help: what it is, in one phrase.
        unit: the unit of the value, empty for plain numbers and words.
        low: smallest allowed value (excluded if ``low_open``).
        high: largest allowed value.
        choices: the allowed words, if they are a closed list.
        words: words allowed beside numbers (``full`` for a batch size).
        nullable: whether ``null`` is allowed.
        listed: whether a value is a list: names with commas between them are one value, never a sweep.
        scope: what it changes; None for an option, whose component has one. ``Scope.WHERE`` keeps an option out of the
            run's identity.
        trained: its scope where the model trains its features, if that is another.
        prefix: whether a run with a smaller value is the beginning of one with a larger: of its features, or steps.
    """

    key: str
    kind: type
    default: Value
    help: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    choices: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    nullable: bool = False
    listed: bool = False
    scope: Scope | None = None
    trained: Scope | None = None
    prefix: bool = False

    @property
    def column(self) -> str:
        """Name of the parquet column: the key with dots as underscores."""
        return self.key.replace(".", "_")

    def allowed(self) -> str:
        """Say in words what is accepted.

        >>> Axis("lr", float, None, "step size", low=0, low_open=True, nullable=True).allowed()
        'must be a number > 0, or null'
        """
        if self.choices:
            text = "must be one of " + ", ".join(self.choices)
        elif self.kind is bool:
            text = "must be true or false"
        elif self.listed:
            text = "must be names with commas between them, or a list of names"
        elif self.kind is str:
            text = "must be a word, in one line"
        else:
            noun = "an integer" if self.kind is int else "a number"
            bounds = []
            if self.low is not None:
                bounds.append(f"{'>' if self.low_open else '>='} {self.low:g}")
            if self.high is not None:
                bounds.append(f"<= {self.high:g}")
            text = f"must be {noun}" + (f" {' and '.join(bounds)}" if bounds else "")
            if self.unit:
                text += f" [{self.unit}]"
        for word in self.words:
            text += f", or {word}"
        return text + (", or null" if self.nullable else "")

    def check(self, value: object, origin: Callable[[str], str] = lambda key: "", key: str | None = None) -> Value:
        """Return ``value`` in the axis's type.

        Integral floats are accepted where integers are asked for, integers where numbers are; numbers are rounded
        to 12 significant digits, so that 0.1 + 0.2 and 0.3 are the same run.

        Args:
            value: as given.
            origin: says where a key's value was set; asked only for a bad value.
            key: the full key, where it differs from the axis's own.

        Raises:
            ConfigError: the value has the wrong type or lies outside the range.
        """
        try:
            return self._checked(value)
        except (ValueError, OverflowError):
            key = key or self.key
            allowed = self.allowed()
            if self.kind is str and not self.choices and not self.listed and isinstance(value, int | float):
                allowed = f"{allowed}: write it in quotes"  # YAML has read 1.10 as 1.1 before dd could see it
            raise ConfigError(key, value, allowed, origin(key)) from None

    def _checked(self, value: object) -> Value:
        if value is None:
            if self.nullable:
                return None
            raise ValueError
        if isinstance(value, str) and value in self.words:
            return value
        if self.listed:
            value = _joined(value)
        if self.kind is str:
            if not isinstance(value, str) or (self.choices and value not in self.choices):
                raise ValueError
            if not value.isprintable() and any(map(is_control, value)):
                raise ValueError
            return value
        if self.kind is bool:
            if not isinstance(value, bool):
                raise ValueError
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError
        if self.kind is int:
            if value != (whole := int(value)):
                raise ValueError
            value = whole
            if abs(value) >= 2**63:  # what a parquet integer holds
                raise ValueError
        else:
            value = float(f"{value:.12g}")
        if self.low is not None and (value < self.low or (self.low_open and value == self.low)):
            raise ValueError
        if self.high is not None and value > self.high:
            raise ValueError
        return value


def _joined(value: object) -> str:
    """A list as one word.

    >>> _joined([0, "cat"]), _joined(" 0, 6"), _joined(3)
    ('0,cat', '0,6', '3')

    Raises:
        ValueError: it holds something else than names.
    """
    parts = value if isinstance(value, list | tuple) else str(value).split(",") if isinstance(value, str | int) else []
    if not all(isinstance(part, str | int) and not isinstance(part, bool) for part in parts):
        raise ValueError
    names = [str(part).strip() for part in parts]
    if not names or not all(names):
        raise ValueError
    return ",".join(names)


def axis(
    default: T,
    help: str,
    *,
    key: str | None = None,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    low_open: bool = False,
    choices: tuple[str, ...] = (),
    words: tuple[str, ...] = (),
    listed: bool = False,
    scope: Scope | None = None,
    trained: Scope | None = None,
    prefix: bool = False,
) -> T:
    """Declare a field of a frozen dataclass as an axis; its type is the field's, and its key the field's name.

    ``beta1: float = axis(0.9, "decay of the mean gradient", low=0, high=1)``; a field of type ``float | None`` may be
    null, one of type ``int | str`` may be one of ``words``. See :class:`Axis` for the arguments.
    """
    rules = {
        "help": help, "key": key, "unit": unit, "low": low, "high": high, "low_open": low_open, "choices": choices,
        "words": words, "listed": listed, "scope": scope, "trained": trained, "prefix": prefix,
    }  # fmt: skip
    made: T = dataclasses.field(default=default, metadata={"axis": rules})
    return made


KINDS = {kind.__name__: kind for kind in (int, float, bool, str)}


def axes_of(kind: type) -> dict[str, Axis]:
    """Axes of a dataclass by the names of their fields, in the order of declaration.

    Raises:
        TypeError: a field has a type that no axis can have.
    """
    return _axes_of(kind)


@cache
def _axes_of(kind: type) -> dict[str, Axis]:
    found: dict[str, Axis] = {}
    for field in dataclasses.fields(kind):
        if "axis" not in field.metadata:
            continue
        rules = dict(field.metadata["axis"])
        text = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))
        types = [part.strip() for part in text.split("|")]
        if types[0] not in KINDS:
            raise TypeError(f"{kind.__name__}.{field.name}: {text} is no type of an axis")
        key, default = rules.pop("key") or field.name, None if field.default is dataclasses.MISSING else field.default
        found[field.name] = Axis(key, KINDS[types[0]], default, nullable="None" in types, **rules)
    return found
