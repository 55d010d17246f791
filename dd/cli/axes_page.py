"""``python -m dd.cli.axes_page``: the tables of docs/axes.md, from the fields that define the axes.

The page's text is written by hand; each table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from dd.cli.choices import axes, choices, settings, shown
from dd.cli.conf import conf_dir, content_of
from dd.runs.axis import Axis
from dd.runs.registry import GROUPS, ROOMS
from dd.runs.run import core_axes

PAGE = Path(__file__).parents[2] / "docs" / "axes.md"

TABLE = re.compile(r"(<!-- table: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)

TYPES = {int: "integer", float: "number", bool: "true or false", str: "word"}

COLUMNS = ("type", "default", "unit", "range")


def current(page: str) -> str:
    """The page with its tables made anew.

    Raises:
        KeyError: it has a table that there is not.
    """
    tables = {"axes": _axes, "settings": _settings}
    for group in GROUPS:
        tables |= {f"{group} choices": partial(_choices, group), f"{group} options": partial(_options, group)}
    return TABLE.sub(lambda found: found[1] + "\n".join(tables[found[2]]()) + "\n" + found[3], page)


def _axes() -> list[str]:
    """Axes of a run, those that are components first."""
    lines = []
    content = content_of(conf_dir() / "config.yaml")
    defaults = content["defaults"]
    assert isinstance(defaults, list)
    chosen = {group: name for entry in defaults if isinstance(entry, dict) for group, name in entry.items()}
    for group in ROOMS:
        axis = core_axes()[group]
        lines.append((f"`{group}`", "name", f"`{chosen[group]}`", "", "below", _scope(axis), axis.help))
    for axis, default in axes():
        lines.append((f"`{axis.key}`", *_described(axis, default), _scope(axis), axis.help))
    return _table(("key", *COLUMNS, "changes first", "meaning"), lines)


def _settings() -> list[str]:
    lines = [(f"`{axis.key}`", *_described(axis, default), axis.help) for axis, default in settings()]
    return _table(("key", *COLUMNS, "meaning"), lines)


def _choices(group: str) -> list[str]:
    lines = []
    for one in choices(group):
        sets = ", ".join(f"`{key}={shown(value)}`" for key, value in one.sets.items())
        lines.append((f"`{one.name}`", one.description, sets))
    return _table((f"`{group}`", "what it is", "sets"), lines)


def _options(group: str) -> list[str]:
    """Options of the components of a group; those that agree in everything share a line."""
    owners: dict[tuple[str, Axis], list[str]] = {}
    for one in choices(group):
        for key, axis in one.options.items():
            owners.setdefault((key, axis), []).append(f"`{one.name}`")
    lines = [
        (f"`{key}`", ", ".join(names), *_described(axis, axis.default), axis.help)
        for (key, axis), names in sorted(owners.items(), key=lambda item: item[0][0])
    ]
    return _table(("option", "of", *COLUMNS, "meaning"), lines)


def _described(axis: Axis, default: object) -> tuple[str, str, str, str]:
    """Type, default, unit and range."""
    return TYPES[axis.kind], f"`{shown(default)}`", axis.unit, _range(axis)


def _range(axis: Axis) -> str:
    """What is allowed.

    >>> _range(Axis("lr", float, None, "step size", low=0, low_open=True, nullable=True)), _range(Axis("x", int, 1, ""))
    ('> 0, or `null`', 'any')
    """
    bounds = [f"{'>' if axis.low_open else '>='} {axis.low:.10g}"] if axis.low is not None else []
    bounds += [f"<= {axis.high:.10g}"] if axis.high is not None else []
    allowed = ", ".join(f"`{choice}`" for choice in axis.choices) or " and ".join(bounds) or "any"
    return allowed + "".join(f", or `{word}`" for word in (*axis.words, *(["null"] if axis.nullable else [])))


def _scope(axis: Axis) -> str:
    """What an axis changes first."""
    assert axis.scope is not None
    own = axis.scope.name.lower()
    return own if axis.trained is None else f"{own}; {axis.trained.name.lower()} where features are trained"


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    rows = [head, ["---"] * len(head), *lines]
    return ["| " + " | ".join(map(_escaped, row)) + " |" for row in rows]


def _escaped(cell: str) -> str:
    """A cell's text: a bar would end the cell, and ``<name>`` be a tag."""
    return re.sub(r"<(?=\w)", "&lt;", cell).replace("|", "\\|")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or with ``--check`` say whether it is current.

    Returns:
        0; with ``--check`` 1 where the page is not current.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    before = PAGE.read_text(encoding="utf-8")
    now = current(before)
    if "--check" in arguments:
        if now != before:
            print(f"{PAGE} is not current: python -m dd.cli.axes_page writes it", file=sys.stderr)
        return int(now != before)
    PAGE.write_text(now, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
