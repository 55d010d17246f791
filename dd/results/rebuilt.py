"""From a row of a table back to what it was a run of; axes that an older table lacks have their defaults."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from dd.runs import registry
from dd.runs.axis import Axis, Value
from dd.runs.component import Component
from dd.runs.run import Run, core_axes

Columns = Mapping[str, object]


def component_of(group: str, row: Columns) -> Component | None:
    """The component of a group, its options from the columns ``<group>_<option>``; None where the row has none.

    A group that an older table lacks has its default.

    Raises:
        ConfigError: there is no such component any more.
    """
    name = value_of(group, row)
    if name is None:
        return None
    kind = registry.kind(group, str(name))
    return kind(**{field: _value(axis, row.get(f"{group}_{axis.column}")) for field, axis in kind.axes().items()})


def value_of(name: str, row: Columns) -> Value:
    """Value of an axis of a run itself."""
    return _value(core_axes()[name], row.get(name))


def completed(table: pa.Table) -> pa.Table:
    """Rows, some of an older dd perhaps: axes and options that those lack have their defaults."""
    for name, axis in core_axes().items():
        if name in table.column_names and not axis.nullable:
            table = _filled(table, name, axis, pc.is_null(table[name]))
    for group in registry.ROOMS:
        present = pc.unique(table[group]).to_pylist() if group in table.column_names else []
        for name in set(present).intersection(registry.names(group)):
            for axis in registry.kind(group, name).axes().values():
                column = f"{group}_{axis.column}"
                if column in table.column_names:
                    lacking = pc.and_(pc.equal(table[group], name), pc.is_null(table[column]))
                    table = _filled(table, column, axis, lacking)
    return table


def _filled(table: pa.Table, column: str, axis: Axis, lacking: pa.ChunkedArray) -> pa.Table:
    if axis.default is None or not pc.any(lacking).as_py():
        return table
    values = pc.if_else(lacking, pa.scalar(axis.default, table[column].type), table[column])
    return table.set_column(table.column_names.index(column), column, values)


def run_of(row: Columns) -> Run:
    """The run of a row.

    Raises:
        ConfigError: it has a component that there is no more.
    """
    values = {name: component_of(name, row) if name in registry.ROOMS else value_of(name, row) for name in core_axes()}
    return Run(**values)  # type: ignore[arg-type]


def _value(axis: Axis, given: object) -> Value:
    if given is None:
        return None if axis.nullable else axis.default
    assert isinstance(given, str | int | float)
    return given
