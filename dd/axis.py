"""One axis of a sweep: its key, type, unit, range and default, and how a value is checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dd.errors import ConfigError, is_control


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
    """

    key: str
    kind: type
    default: Any
    help: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    choices: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    nullable: bool = False

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

    def check(self, value: Any, origin: Callable[[str], str] = lambda key: "", key: str | None = None) -> Any:
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
            if self.kind is str and not self.choices and isinstance(value, int | float):
                allowed = f"{allowed}: write it in quotes"  # YAML has read 1.10 as 1.1 before dd could see it
            raise ConfigError(key, value, allowed, origin(key)) from None

    def _checked(self, value: Any) -> Any:
        if value is None:
            if self.nullable:
                return None
            raise ValueError
        if isinstance(value, str) and value in self.words:
            return value
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
