"""Rows of the results table: what is known of a run before it is computed, and where it failed."""

from __future__ import annotations

import math

import torch

from dd.errors import in_one_line
from dd.measure.solution import CurvePoint
from dd.runs.axis import Value
from dd.runs.run import Run

Row = dict[str, Value]


def run_axes(run: Run) -> Row:
    """Every axis of a run by its column's name."""
    return {key.replace(".", "_"): value for key, value in run.values.items()} | {
        "epochs": run.epochs,
        "validation": run.validation,
    }


def axes_row(run: Run) -> Row:
    """Identity and axes of a run, the part of its row that is known before it is computed."""
    return {"run_id": run.run_id} | run_axes(run) | {"trained_features": not run.model.frozen_features}


def failed_row(run: Run, error: BaseException) -> Row:
    """The row of a run that raised; ``error`` names exception and place."""
    text = in_one_line(error)
    if short_of_memory(error):
        text = f"out of memory: {text}"
    return axes_row(run) | {"status": "failed", "error": text}


def curve_rows(run: Run, curve: list[CurvePoint]) -> list[Row]:
    """The rows of a run in the table of curves."""
    per_epoch = run.batches_per_epoch or 1
    return [{"run_id": run.run_id, "epoch": p.step / per_epoch, **vars(p)} for p in curve]


def storable(column: str, value: Value) -> Value:
    """Null for numbers that are not finite; but a matrix of zeros has an infinite condition number."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return value if column.removesuffix("_init").endswith("_condition") and value == math.inf else None


def without_memory(error: Exception) -> Exception:
    """The error; where memory was short, without the frames that hold what was allocated before."""
    return error.with_traceback(None) if short_of_memory(error) else error


def short_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed; PyTorch has no exception of its own for the memory of a CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
