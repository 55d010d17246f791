"""Which axes tell curves apart, and what the curves are called."""

from __future__ import annotations

import pandas as pd

from analysis.curves import LINE_AXES, label_of, varying_axes


def runs(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"optimizer": "sgd", "seed": 0, "data_seed": 0, "n_train": 200} | columns)


def test_what_dd_chose_by_itself_splits_no_curve() -> None:
    """With mini-batches wide models go by the dual; with full batches all are exact."""
    frame = runs(
        width=[100, 400, 100, 400],
        batch_size=[50, 50, 200, 200],
        solver=["iterative", "dual", "exact", "exact"],
        dtype=["float32", "float64", "float64", "float64"],
    )
    assert varying_axes(frame, (*LINE_AXES, "dtype"), ()) == ["batch_size"]


def test_what_the_user_chose_does() -> None:
    frame = runs(width=[100, 400, 100, 400], solver=["iterative", "iterative", "exact", "exact"], dtype="float64")
    assert varying_axes(frame, LINE_AXES, ()) == ["solver"]
    frame = runs(width=[100, 400, 100, 400], solver="iterative", dtype=["float32", "float32", "float64", "float64"])
    assert varying_axes(frame, ("solver", "dtype"), ()) == ["dtype"]


def test_labels_leave_out_nulls_and_tell_close_numbers_apart() -> None:
    assert label_of({"optimizer": "ridge", "lr": None, "steps": float("nan"), "model_bias": True}) == (
        "ridge, model bias True"
    )
    assert label_of({"lr": 0.1}) != label_of({"lr": 0.1 + 1e-12})
    assert label_of({"steps": 1e5}, number="{:.0f}".format) == "steps 100000"
    assert label_of({}) == "all runs"
