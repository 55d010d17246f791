"""Rows: what is known before a run is computed, what cannot be stored, and failures."""

from __future__ import annotations

import math

import pytest
import torch

from dd.measure.solution import CurvePoint
from dd.packs.rows import axes_row, curve_rows, failed_row, short_of_memory, storable, without_memory
from tests.helpers import run_of


def test_a_row_holds_the_identity_and_every_axis() -> None:
    run = run_of("optimizer=momentum", "optimizer.momentum=0.5", "width=7", "epochs=3")
    row = axes_row(run)
    assert row["run_id"] == run.run_id
    assert (row["optimizer"], row["optimizer_momentum"], row["width"]) == ("momentum", 0.5, 7)
    assert (row["steps"], row["epochs"], row["trained_features"]) == (30, 3, False)
    assert axes_row(run_of("model=two_layer"))["trained_features"]
    closed = axes_row(run_of("optimizer=min_norm"))
    assert (closed["steps"], closed["epochs"], closed["init"], closed["dtype"]) == (None, None, None, "float64")
    assert all(isinstance(value, str | int | float | bool | None) for value in row.values())


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (MemoryError("no"), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes"), True),
        (RuntimeError("something else"), False),
        (ValueError("two\nlines"), False),
    ],
)
def test_a_failure_is_a_row_with_one_line(error: Exception, short: bool) -> None:
    error = raised(error)
    assert short_of_memory(error) == short
    run = run_of("width=7")
    row = failed_row(run, error)
    assert row["status"] == "failed"
    assert {k: row[k] for k in axes_row(run)} == axes_row(run)
    text = row["error"]
    assert isinstance(text, str)
    assert "\n" not in text
    assert type(error).__name__ in text
    assert text.startswith("out of memory: ") == short
    assert (without_memory(error).__traceback__ is None) == short, "its frames hold what was allocated"


def test_numbers_that_are_not_finite_are_null_but_for_conditions() -> None:
    assert storable("test_loss", 0.5) == 0.5
    assert storable("test_loss", math.inf) is None
    assert storable("hessian_condition", math.nan) is None
    assert storable("hessian_condition", math.inf) == storable("feature_condition_init", math.inf) == math.inf
    assert storable("hessian_condition", -math.inf) is None
    assert storable("status", "ok") == "ok"
    assert storable("steps_done", 3) == 3


def test_curves_count_epochs() -> None:
    run = run_of("data.n_train=50", "batch_size=20", "steps=6")
    rows = curve_rows(run, [CurvePoint(0, 1.0, 2.0, None, None), CurvePoint(6, 0.5, 1.5, 0.1, 0.2)])
    assert [row["epoch"] for row in rows] == [0, 2]
    assert {row["run_id"] for row in rows} == {run.run_id}
    assert [(row["train_loss"], row["test_error"]) for row in rows] == [(1.0, None), (0.5, 0.2)]
