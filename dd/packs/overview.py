"""What a sweep is, in a few lines: the axes that vary in it, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dd.runs import registry
from dd.runs.axis import Value
from dd.runs.component import Component
from dd.runs.run import Run, core_axes

FEW = 8
"""Values that are listed one by one at most."""

UNITS = (("s", 60.0), ("min", 60.0), ("h", 24.0), ("days", 365.0))
"""Units of time, and how many of each make the next."""


def lasting(seconds: float) -> str:
    """A time that people read.

    >>> lasting(3.2), lasting(250), lasting(9000), lasting(1e6), lasting(1e9)
    ('3 s', '4 min', '2.5 h', '12 days', '31.7 years')
    """
    for unit, size in UNITS:
        if seconds < size:
            return f"{seconds:.1f} {unit}" if unit == "h" else f"{max(seconds, 1) if seconds else 0:.0f} {unit}"
        seconds /= size
    return f"{seconds:.1f} years"


SETTLED = ("solver", "dtype")
"""Keys that dd settles for each run by itself, where nobody names them."""


def swept(runs: Sequence[Run]) -> dict[str, list[Value]]:
    """Keys with more than one value among some distinct runs, and the values, each once and sorted.

    A key whose value another key decides (an optimizer its step size, ``seed`` the seed of the data) is left out, and
    so is what dd has settled.
    """
    columns = _columns(runs)
    kept: list[str] = []
    for key in sorted(columns, key=lambda key: key not in ("optimizer", "seed")):
        if not any(_decides(columns[other], columns[key]) for other in kept):
            kept.append(key)
    for key in SETTLED:
        rest = [columns[other] for other in kept if other != key]
        if key in kept and len(set(zip(*rest, strict=True))) == len(runs):
            kept.remove(key)
    return {key: sorted(set(columns[key]), key=_order) for key in columns if key in kept}


def listed(values: Sequence[Value]) -> str:
    """The values of a key in a few words.

    >>> listed(["adam", "sgd"]), listed(list(range(10, 2000, 50)))
    ('adam, sgd', '40 values from 10 to 1960')
    """
    if len(values) <= FEW:
        return ", ".join(map(_shown, values))
    return f"{len(values)} values from {_shown(values[0])} to {_shown(values[-1])}"


def axes_of_sweep(axes: Mapping[str, str]) -> list[str]:
    """Lines of keys and what they take, one below the other."""
    wide = max(map(len, axes), default=0)
    return [f"  {key.ljust(wide)}  {words}" for key, words in axes.items()]


def _columns(runs: Sequence[Run]) -> dict[str, list[Value]]:
    """Values of every key that has several, one a run: components first, then axes, then options."""

    def varies(name: str) -> bool:
        return any(getattr(run, name) != getattr(runs[0], name) for run in runs)

    parts: dict[str, list[Component | None]] = {
        g: [getattr(run, g) for run in runs] for g in registry.ROOMS if varies(g)
    }
    columns: dict[str, list[Value]] = {g: [part.name if part else None for part in c] for g, c in parts.items()}
    for name, axis in core_axes().items():
        if name not in registry.ROOMS and varies(name):
            columns[axis.key] = [getattr(run, name) for run in runs]
    for group, components in parts.items():
        known = {part: part.values() if part else {} for part in set(components)}
        for option in sorted({option for values in known.values() for option in values}):
            columns[f"{group}.{option}"] = [known[part].get(option) for part in components]
    return {key: column for key, column in columns.items() if any(value != column[0] for value in column)}


def _decides(one: Sequence[Value], other: Sequence[Value]) -> bool:
    """Whether the value of one key is enough to know that of another."""
    known: dict[Value, Value] = {}
    return all(known.setdefault(a, b) == b for a, b in zip(one, other, strict=True))


def _order(value: Value) -> tuple[bool, bool, Value]:
    return (value is not None, isinstance(value, str), 0 if value is None else value)


def _shown(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
