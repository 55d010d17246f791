"""The command that makes the runs of a table, made of what its rows say.

Keys and defaults are those of ``conf/``: a setting that has its default is left out.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

import dd
from analysis import experiments
from analysis.curves import GROUPS, NO_OPTIONS, axis_columns, exact, split
from dd.runs.run import core_axes

MOST = 6
"""Commands of one table at most; a table of more sweeps says how many there are."""

SETTLED = ("solver", "dtype", "data_content", "model_source", "model_readout")
"""Columns that dd settles by itself, as a rule."""

SEEDS = ("seed", "data_seed", "test_seed")

DEFAULT_EPOCHS = 500
"""Budget where none is named."""


def key_of(column: str) -> str:
    """The command line's key of a column.

    >>> key_of("n_train"), key_of("optimizer_weight_decay"), key_of("optimizer"), key_of("lr_unit")
    ('data.n_train', 'optimizer.weight_decay', 'optimizer', 'lr_unit')
    """
    if column in core_axes():
        return core_axes()[column].key
    group = next((g for g in GROUPS if column.startswith(f"{g}_")), None)
    return f"{group}.{column[len(group) + 1 :]}" if group else column


def value_of(value: object) -> str:
    """A value as the command line takes it.

    >>> value_of(200), value_of(1e8), value_of(np.float64(0.1)), value_of(True), value_of("sgd")
    ('200', '1e8', '0.1', 'true', 'sgd')
    """
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, int | float | np.number):
        return exact(float(value)).replace("e+0", "e").replace("e-0", "e-")
    return str(value)


@dataclass(frozen=True)
class Settings:
    """What was set for each of some runs, seeds included.

    Attributes:
        typed: a column a key, the value as text; empty where the key has no meaning for the run.
        default: the same shape: whether that is what the key has where nobody names it.
    """

    typed: pd.DataFrame
    default: pd.DataFrame

    def changed(self) -> list[str]:
        """Keys that differ from their default in some run."""
        return [key for key in self.typed if not (self.default[key] | (self.typed[key] == "")).all()]


def settings_of(rows: pd.DataFrame) -> Settings:
    """What must be typed to make the runs of some rows; what dd settles by itself is left out."""
    columns = [*axis_columns(rows), "epochs", *(s for s in SEEDS if s in rows)]
    columns = [c for c in dict.fromkeys(columns) if c in rows and c not in (*NO_OPTIONS[1:], *SETTLED)]
    typed = pd.DataFrame({key_of(c): _texts(rows[c]) for c in columns}, index=rows.index)
    held = rows["n_validation"].fillna(0) if "n_validation" in rows else 0
    if "batch_size" in typed:
        typed.loc[rows["batch_size"] == rows["n_train"] - held, "batch_size"] = "full"
    typed = typed.drop(columns="steps" if _in_epochs(rows) else "epochs", errors="ignore")
    groups = [g for g in GROUPS if g in typed]
    default = pd.DataFrame(False, index=typed.index, columns=typed.columns)
    for names, members in typed.groupby(groups):
        known = defaults(tuple(zip(groups, names, strict=True)))
        for key in typed:
            default.loc[members.index, key] = members[key] == known.get(key)
    for key in typed:  # what follows the width or the seed
        for leader in ("width", "seed"):
            if key not in ("width", "seed") and typed[key].nunique() > 1 and (typed[key] == typed[leader]).all():
                typed[key] = f"${{{leader}}}"
    return Settings(typed, default)


def _texts(column: pd.Series) -> np.ndarray:
    """Values as the command line takes them, empty where there are none."""
    number, levels = pd.factorize(column)
    return np.array([*map(value_of, levels), ""], dtype=object)[number]


def _in_epochs(rows: pd.DataFrame) -> bool:
    """Whether the budget was named in epochs: they are whole, and fewer than the numbers of steps, or the default's."""
    epochs = rows["epochs"].dropna()
    if epochs.empty or not (epochs == epochs.round()).all():
        return False
    return epochs.nunique() < rows["steps"].nunique() or set(epochs) == {DEFAULT_EPOCHS}


@cache
def defaults(chosen: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Values that keys have where nobody names them, beside the components of some groups.

    >>> defaults((("optimizer", "adam"),))["lr"], defaults((("data", "diabetes"),))["data.n_train"]
    ('0.001', '100')
    """
    base = _file("config.yaml")
    choices = {str(k): str(v) for entry in base["defaults"] if isinstance(entry, dict) for k, v in entry.items()}
    found = {"epochs": str(DEFAULT_EPOCHS), "validation": "0", **_flat(base)}
    names = choices | dict(chosen)
    for group in ("data", "init", "normalization", "optimizer", "schedule", "model"):
        content = _file(f"{group}/{names[group]}.yaml")
        for entry in content.get("defaults", []):  # what a model sets for itself
            if isinstance(entry, dict):
                choices |= {str(k).removeprefix("override /"): str(v) for k, v in entry.items()}
        found |= _flat(content if group in content else {group: content})
    return found | {group: choices[group] for group in GROUPS if group in choices}


def _flat(content: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """Nested values by their dotted keys, as text; what is null, and lists, are left out."""
    found: dict[str, str] = {}
    for key, value in content.items():
        name = f"{above}{key}"
        if isinstance(value, dict):
            found |= _flat(value, f"{name}.")
        elif value is not None and not isinstance(value, list):
            found[name] = value_of(value)
    return found


def _file(name: str) -> dict[str, Any]:
    """A file of ``conf/``; nothing where a component has gone."""
    return dict(_parsed(name))


@cache
def _parsed(name: str) -> dict[str, Any]:
    inside = Path(dd.__file__).parent / "conf"
    path = (inside if inside.is_dir() else inside.parent.parent / "conf") / name
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.is_file() else {}


def made_by(rows: pd.DataFrame, name: str) -> tuple[list[str], int]:
    """Commands that make a table: of a known experiment its preset, of others what :func:`commands` finds.

    Args:
        rows: the table's runs.
        name: the table.

    Returns:
        The first few commands, and the number of all.
    """
    known = experiments.command(name)
    return commands(rows, name) if known is None else ([known], 1)


def commands(rows: pd.DataFrame, name: str) -> tuple[list[str], int]:
    """Commands that make the runs of a table, each a sweep over a grid.

    Args:
        rows: the table's runs.
        name: the table.

    Returns:
        The first few commands, and the number of all.
    """
    found = settings_of(rows)
    every = list(_grids(found.typed.drop_duplicates()))
    return [_line(grid, found, name) for grid in every[:MOST]], len(every)


def _grids(typed: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Parts of the settings that are full crossings; components are parted first."""
    levels = {c: typed[c].nunique() for c in typed if typed[c].nunique() > 1}
    meaningless = [c for c in levels if (typed[c] == "").any()]  # for some runs
    if not meaningless and np.prod(list(levels.values()), initial=1, dtype=float) == len(typed):
        yield typed
        return
    order = sorted(levels, key=lambda c: (c not in GROUPS, levels[c]))
    for _, part in split(typed, order[:1]):
        yield from _grids(part)


def _line(grid: pd.DataFrame, found: Settings, name: str) -> str:
    """One command; keys at their defaults, and without a meaning, are left out."""
    part = Settings(grid, found.default.loc[grid.index])
    words = [f"{key}={_values(list(dict.fromkeys(grid[key])))}" for key in part.changed()]
    several = " -m" if len(grid) > 1 else ""
    return " ".join(["python -m dd.run" + several, *map(_quoted, words), _quoted(f"name={name}")])


def _quoted(word: str) -> str:
    """A word for a POSIX shell, in quotes where it needs them."""
    return word if all(c.isalnum() or c in "=.,+-_/:" for c in word) else shlex.quote(word)


def _values(values: list[str]) -> str:
    """Several values as Hydra takes them: a range where that is shorter.

    >>> _values(["10", "60", "110", "160", "210"]), _values(["2", "1"]), _values(["1e-6", "0.1"])
    ('range(10,260,50)', '1,2', '1e-6,0.1')
    """
    try:
        numbers = sorted(int(v) for v in values)
    except ValueError:
        return ",".join(sorted(values, key=_place))
    steps = set(np.diff(numbers))
    listed = ",".join(map(str, numbers))
    if len(steps) != 1:
        return listed
    step = int(steps.pop())
    return min(listed, f"range({numbers[0]},{numbers[-1] + step},{step})", key=len)


def _place(value: str) -> tuple[float, str]:
    """Numbers in their order, words behind them."""
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value
