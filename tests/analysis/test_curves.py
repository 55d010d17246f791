"""Which axes tell curves apart, what curves are called and run over, where a model can just fit its training set."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.curves import LINE_AXES, band, label_of, thresholds, varying_axes, x_axis
from analysis.labels import legend_of
from analysis.peaks import table
from tests.analysis.synthetic import runs


def test_x_is_the_width_if_it_varies_else_the_samples_else_the_penalty() -> None:
    sizes, penalties = (20, 50, 100), (1e-4, 1e-2)
    assert x_axis(runs(n_train=sizes)) == "width"
    assert x_axis(runs((50,), n_train=sizes)) == "n_train"
    assert x_axis(runs((50,), optimizer_penalty=penalties)) == "optimizer_penalty"
    assert x_axis(runs((50,))) == "width"


def test_bands_run_over_any_axis() -> None:
    rows = runs((50,), n_train=(100, 20))
    got = band(rows, "test_loss", "n_train")
    assert got.x.tolist() == [20, 100]
    assert got.median.tolist() == [rows["test_loss"].median()] * 2
    assert band(rows.assign(status="failed"), "test_loss", "n_train").seeds == 0


def test_bands_are_the_quantiles_of_pandas() -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"width": rng.integers(1, 30, 300) * 10, "x": rng.standard_normal(300), "status": "ok"})
    rows.loc[rng.random(300) < 0.2, "x"] = np.nan
    rows.loc[rng.random(300) < 0.2, "x"] = np.inf
    rows.loc[rng.random(300) < 0.1, "status"] = "diverged"
    got = band(rows, "x")
    good = rows[(rows["status"] == "ok") & rows["x"].notna()].groupby("width")["x"]
    assert got.x.tolist() == sorted(good.groups)
    assert got.seeds == good.size().max()
    for share, values in ((0.1, got.low), (0.5, got.median), (0.9, got.high)):
        np.testing.assert_array_equal(values, good.quantile(share).to_numpy())


def test_against_samples_the_threshold_is_where_they_meet_the_width() -> None:
    """A two-layer net of H units on d inputs and C outputs has (d + 1) H + (H + 1) C parameters and fits n C values."""
    d, c, width = 64, 10, 8
    sizes = (20, 40, 80, 100)
    rows = runs((width,), n_train=sizes).assign(model="two_layer")
    rows["interpolation_width"] = (rows["n_train"] * c - c) / (d + 1 + c)
    np.testing.assert_allclose(thresholds(rows, "n_train"), [((d + 1) * width + (width + 1) * c) / c])
    assert thresholds(rows.assign(width=1000), "n_train") == []
    assert thresholds(rows, "optimizer_penalty") == []
    both = pd.concat([runs(), runs(interpolation_width=(49.0,))])
    assert thresholds(both) == [49.0, 50.0]


def frame_of(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"optimizer": "sgd", "seed": 0, "data_seed": 0, "n_train": 200} | columns)


def test_what_dd_chose_by_itself_splits_no_curve() -> None:
    """With mini-batches wide models go by the dual; with full batches all are exact."""
    frame = frame_of(
        width=[100, 400, 100, 400],
        batch_size=[50, 50, 200, 200],
        solver=["iterative", "dual", "exact", "exact"],
        dtype=["float32", "float64", "float64", "float64"],
    )
    assert varying_axes(frame, (*LINE_AXES, "dtype"), ()) == ["batch_size"]


def test_what_the_user_chose_does() -> None:
    frame = frame_of(width=[100, 400, 100, 400], solver=["iterative", "iterative", "exact", "exact"], dtype="float64")
    assert varying_axes(frame, LINE_AXES, ()) == ["solver"]
    frame = frame_of(width=[100, 400, 100, 400], solver="iterative", dtype=["float32", "float32", "float64", "float64"])
    assert varying_axes(frame, ("solver", "dtype"), ()) == ["dtype"]


def test_two_schedules_are_two_conditions_with_their_names() -> None:
    frame = runs(schedule=("constant", "cosine")).assign(schedule_per="step", schedule_warmup=0)
    frame["schedule_final"] = np.where(frame["schedule"] == "cosine", 0.1, np.nan)
    options = ("optimizer_", "schedule_")
    assert varying_axes(frame, LINE_AXES, options) == ["schedule"]
    assert sorted(table(frame)["condition"]) == ["schedule constant", "schedule cosine"]
    assert legend_of({"optimizer": "gd", "schedule": "cosine", "schedule_per": "epoch"}) == (
        "gd, schedule cosine, per epoch"
    )
    frame["schedule_warmup"] = np.where(frame["seed"] == 1, 5, 0)
    assert varying_axes(frame, LINE_AXES, options) == ["schedule", "schedule_warmup"]
    without = runs(optimizer=("gd", "min_norm")).assign(schedule=lambda r: r["optimizer"].map(
        {"gd": "cosine", "min_norm": "constant"}))  # fmt: skip
    assert varying_axes(without, LINE_AXES, options) == ["optimizer"], "a closed form has none"


def test_labels_leave_out_nulls_and_tell_close_numbers_apart() -> None:
    assert label_of({"optimizer": "ridge", "lr": None, "steps": float("nan"), "model_bias": True}) == (
        "ridge, model bias True"
    )
    assert label_of({"lr": 0.1}) != label_of({"lr": 0.1 + 1e-12})
    assert label_of({"steps": 1e5}, number="{:.0f}".format) == "steps 100000"
    assert label_of({}) == "all runs"


def test_an_axis_that_repeats_the_width_splits_no_curve() -> None:
    frame = frame_of(data="linear_teacher", width=[5, 10, 20, 40], data_dim=[5, 10, 20, 40], data_noise=[0.0, 0.5] * 2)
    assert varying_axes(frame, ("width",), ("data_",)) == ["width", "data_noise"]
    assert varying_axes(frame.assign(data_dim=[5, 10, 20, 20]), (), ("data_",)) == ["data_dim", "data_noise"]


def test_contents_tell_curves_apart_only_where_nothing_else_does() -> None:
    frame = runs().assign(data="mnist")
    both = pd.concat([frame.assign(data_content="a"), frame.assign(data_content=None)])
    assert varying_axes(both, (), ("data_",)) == ["data_content"]
    # a generator from outside has another content for every training set
    drawn = frame.assign(data_content=frame["data_seed"].astype(str))
    assert varying_axes(drawn, (), ("data_",)) == []
