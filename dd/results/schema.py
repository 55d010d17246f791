"""The declared schema of a results table, and rows of Python values in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache

import pyarrow as pa
import pyarrow.json

from dd.arrow import floats
from dd.runs.registry import option_axes
from dd.runs.run import core_axes

TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}

OUTCOME = (
    "train_loss", "train_error", "test_loss", "test_error", "weight_norm", "gradient_norm",
    "min_norm_train_loss", "min_norm_test_loss", "min_norm_test_error",
    "effective_parameters_train", "effective_parameters_test",
    "train_loss_clean", "train_error_clean", "train_loss_noisy", "train_error_noisy",
    "best_test_loss", "validation_loss", "validation_error",
)  # fmt: skip
CONDITIONING = (
    "feature_condition", "feature_sigma_max", "feature_sigma_min",
    "feature_condition_init", "feature_sigma_max_init", "feature_sigma_min_init",
    "hessian_condition", "hessian_lambda_max", "hessian_lambda_min", "hessian_trace", "hessian_effective_rank",
    "preconditioned_condition", "jacobi_condition", "ntk_condition", "ntk_condition_init",
    "sharpness_init", "interpolation_width",
)  # fmt: skip
RANKS = ("feature_rank", "feature_rank_init", "hessian_rank", "ntk_rank", "ntk_rank_init")


@cache
def runs_schema() -> pa.Schema:
    """Schema of ``runs``: the same in every part, whatever the pack; what does not apply is a typed null."""
    fields: list[tuple[str, type]] = [("run_id", str), ("name", str), ("status", str), ("error", str)]
    fields += [("status_note", str), ("parameters", int), ("inputs", int), ("outputs", int), ("trained_features", bool)]
    fields += [(name, axis.kind) for name, axis in core_axes().items()]
    fields += [("epochs", float), ("validation", float), ("lr_absolute", float)]
    fields += [(key.replace(".", "_"), axis.kind) for key, axis in option_axes()]
    fields += [(key, float) for key in OUTCOME] + [("steps_done", int), ("best_step", int), ("dead_units", int)]
    fields += [(key, float) for key in CONDITIONING]
    fields += [(key, int) for key in RANKS] + [("measure", str), ("measure_method", str)]
    fields += [("data_source", str), ("data_sha256", str)]
    fields += [("trainer", str), ("device", str), ("torch_version", str), ("git_commit", str), ("seconds", float)]
    columns = [pa.field(key, TYPES[kind]) for key, kind in fields]
    return pa.schema([*columns, pa.field("finished_at", pa.timestamp("us", tz="UTC"))])


CURVES_SCHEMA = pa.schema(
    [("run_id", pa.string()), ("step", pa.int64()), ("epoch", pa.float64())]
    + [(key, pa.float64()) for key in ("train_loss", "train_error", "test_loss", "test_error")]
    + [("curve_samples", pa.int64()), ("validation_loss", pa.float64()), ("validation_error", pa.float64())]
)
"""Schema of ``curves``: one row a logged step of a run."""


def table_of(rows: Sequence[Mapping[str, object]], schema: pa.Schema) -> pa.Table:
    """Rows of Python values as a table; absent columns are null.

    Raises:
        KeyError: a row has a column that the schema lacks.
    """
    known = set(schema.names)
    for row in rows:
        if unknown := row.keys() - known:
            raise KeyError(f"columns {sorted(unknown)} are not in the schema")
    if not rows:
        return empty(schema)
    # by way of JSON: pyarrow's own conversion of Python values imports pandas, half a second in a short run
    infinite = {key for row in rows for key, value in row.items() if isinstance(value, float) and math.isinf(value)}
    plain = [{k: v for k, v in row.items() if k not in infinite} for row in rows]
    lines = "\n".join(json.dumps(row, allow_nan=False, default=datetime.isoformat) for row in plain)
    options = pyarrow.json.ParseOptions(explicit_schema=schema.remove_metadata(), unexpected_field_behavior="error")
    alone = pyarrow.json.ReadOptions(use_threads=False)  # threads of Arrow abort some short processes at their end
    table = pyarrow.json.read_json(pa.BufferReader(lines.encode()), alone, options).cast(schema.remove_metadata())
    for key in infinite:  # JSON has no infinity
        values = (row.get(key) for row in rows)
        column = floats([value if isinstance(value, float) else None for value in values])
        table = table.set_column(schema.get_field_index(key), schema.field(key), column)
    return table.replace_schema_metadata(schema.metadata)


def empty(schema: pa.Schema) -> pa.Table:
    """A table without rows; pyarrow's own way to one imports pandas."""
    return pa.Table.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table in the given schema: absent columns are null, others are dropped."""
    held = set(table.column_names)
    arrays = [table[f.name].cast(f.type) if f.name in held else pa.nulls(table.num_rows, f.type) for f in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def unite(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Tables one below the other, in the schema and with every further column that one of them has.

    Parts of an older dd may have columns of components that have gone since; what is rewritten keeps them.
    """
    known = set(schema.names)
    fields = {name: table.schema.field(name) for table in tables for name in table.column_names if name not in known}
    whole = schema.remove_metadata()
    for field in fields.values():
        whole = whole.append(field.remove_metadata())
    return pa.concat_tables([conform(table, whole) for table in tables])
