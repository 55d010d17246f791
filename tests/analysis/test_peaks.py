"""Tables of peaks: conditions, thresholds, units, every kind of x."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.judgement import judge
from analysis.peaks import curves, table
from analysis.tables import curve_rows, load_runs
from dd.packs.plan import Pack
from dd.packs.solve import Solved, solve
from dd.results import Store
from dd.runs.settings import Settings
from tests.helpers import run_of

WIDTHS = (5, 10, 20, 30, 36, 40, 44, 50, 80, 200)
QUANTITIES = (
    "location", "prominence", "height_over_plateau", "height_over_minimum", "width_at_half_height", "final_descent",
    "peak_value", "plateau_value", "minimum_value", "minimum_location", "prominence_at_threshold",
)  # fmt: skip


def synthetic(x: str, values: np.ndarray, curve: np.ndarray, seeds: int = 3, **columns: object) -> pd.DataFrame:
    """Rows of one curve with a little noise; no axis but the given ones."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        for at, loss in zip(values, curve, strict=True):
            row = {
                "run_id": f"{columns}{seed}{at}", "status": "ok", "optimizer": "sgd", "width": 100, "n_train": 40,
                "n_test": 1000, "batch_size": 10, "steps": 100, "epochs": 25.0, "seed": seed, "data_seed": seed,
                "test_loss": loss * np.exp(0.01 * rng.standard_normal()), "test_error": 0.0, "train_loss": 1 / at,
                "interpolation_width": 40.0, "lr": 0.1, "optimizer_penalty": np.nan,
            }  # fmt: skip
            rows.append(row | columns | {x: at})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exact gradient descent on digits, n = 40: too short to form a peak, and long enough."""
    base = run_of("data.n_train=40", "data.n_test=200", "model.activation=tanh", "data.standardize=global",
                  "data.label_noise=0.1", "optimizer=gd", "lr=1", "batch_size=full", "steps=10")  # fmt: skip
    runs = [base.replace(width=w, seed=s, steps=t) for w in WIDTHS for s in range(7) for t in (10, 10**7)]
    solved = Solved()
    solve(Pack(tuple(runs)), Settings(device="cpu"), solved)
    results = tmp_path_factory.mktemp("results")
    store = Store(results, "gd")
    store.open()
    store.append("a", solved.rows, solved.curves, {}, {})
    return results


def test_real_runs_peak_where_they_can_just_fit(trained: Path) -> None:
    runs = load_runs(trained, "gd")
    got = table(runs).set_index("steps")
    assert got["condition"].tolist() == ["steps 10", "steps 10⁷"]
    assert got["decision"].tolist() == ["no peak", "peak"]
    long = got.loc[10**7]
    assert long["location"] in (36, 40, 44)
    medians = runs[runs.steps == 10**7].groupby("width")[["test_loss", "train_loss"]].median()
    assert long["peak_value"] == pytest.approx(medians["test_loss"].max())
    assert long["plateau_value"] == pytest.approx(medians["test_loss"][200])
    assert long["train_loss_at_threshold"] == pytest.approx(medians["train_loss"][40])
    below = medians.index[medians["train_loss"] <= 1e-3]
    assert medians.index[medians.index < below[0]][-1] < long["threshold_measured"] <= below[0]
    assert (long["threshold_counted"], long["seeds"], long["points"], long["dropped"]) == (40, 7, len(WIDTHS), 0)
    assert np.isnan(got.loc[10, "threshold_measured"])


def test_columns_are_the_documented_ones(trained: Path) -> None:
    columns = list(table(load_runs(trained, "gd"), resamples=20))
    assert columns[0] == "condition"
    for name in QUANTITIES:
        assert {name, f"{name}_low", f"{name}_high"} <= set(columns)
        assert f"``{name}``" in str(table.__doc__)
    for name in columns[columns.index("metric") :]:
        assert f"``{name.removesuffix('_low').removesuffix('_high')}``" in str(table.__doc__)
    assert {"optimizer", "lr", "n_train", "label_noise", "model_activation"} <= set(columns)
    assert not {"width", "seed", "data_seed", "lr_absolute", "sharpness_init", "data_dim"} & set(columns)


def test_logged_steps_make_curves_of_their_own(trained: Path) -> None:
    runs, long = load_runs(trained, "gd"), curve_rows(trained, "gd")
    parts = pd.read_parquet(trained / "gd/curves")
    assert len(long) == len(parts)
    last = long.sort_values("step").groupby("run_id").last()
    np.testing.assert_allclose(last["test_loss"], runs.set_index("run_id").loc[last.index, "test_loss"], rtol=1e-5)
    got = table(long[long.width.isin((40, 200))], x="epoch", resamples=20)
    assert got["condition"].tolist() == [f"steps {t}, width {w}" for t in ("10", "10⁷") for w in (40, 200)]
    assert got["threshold_counted"].isna().all()
    # epoch 0 is left out: there is no logarithm of it
    epochs = long[(long.steps == 10**7) & (long.epoch > 0)]["epoch"].nunique()
    assert got["points"].tolist()[2:] == [epochs, epochs]


def test_an_epoch_wise_peak_is_found() -> None:
    epochs = np.geomspace(1, 1000, 10)
    frame = synthetic("epoch", epochs, np.array([1, 0.5, 0.3, 0.5, 1, 1.5, 1, 0.4, 0.2, 0.1]))
    start = frame[frame.epoch == 1].assign(epoch=0.0, test_loss=1e9)
    got = table(pd.concat([start, frame]), x="epoch").iloc[0]
    assert (got["condition"], got["decision"], got["ends_below_minimum"]) == ("all runs", "peak", "yes")
    assert got["location"] == pytest.approx(epochs[5])
    assert got["points"] == 10


def test_along_n_train_budgets_in_epochs_and_full_batches_are_one_curve() -> None:
    sizes = np.array([10, 20, 40, 80, 100, 120, 200, 400])
    bump = np.array([1, 0.9, 0.8, 1.5, 4, 1.5, 0.5, 0.3])
    frames = []
    for epochs in (25.0, 50.0):
        for batch in (10, None):
            one = synthetic("n_train", sizes, bump, epochs=epochs)
            one["interpolation_width"] = one["n_train"].astype(float)
            one["batch_size"] = one["n_train"] if batch is None else batch
            one["steps"] = (epochs * one["n_train"] / one["batch_size"]).astype(int)
            frames.append(one)
    got = table(pd.concat(frames), x="n_train", resamples=50)
    assert got["decision"].tolist() == ["peak"] * 4
    assert set(got["condition"]) == {f"batch size {b}, epochs {e}" for b in ("10", "full") for e in (25, 50)}
    assert got["location"].tolist() == [100] * 4
    assert got["threshold_counted"].tolist() == pytest.approx([100] * 4)  # the width


def test_a_ridge_penalty_is_an_x() -> None:
    penalties = np.geomspace(1e-6, 1, 7)
    ridge = synthetic("optimizer_penalty", penalties, np.array([3, 2, 1, 0.5, 0.3, 0.5, 1.0]), optimizer="ridge")
    other = synthetic("width", np.array([5, 10, 20, 40]), np.ones(4))
    got = table(pd.concat([ridge, other]), x="optimizer_penalty")
    assert len(got) == 1
    assert got.loc[0, "decision"] == "no peak"
    assert got.loc[0, "condition"] == "all runs"


def test_diverged_runs_are_missing_and_counted() -> None:
    widths = np.array([10, 20, 30, 40, 50, 60, 80])
    frame = synthetic("width", widths, np.array([1, 0.8, 0.7, 2, 0.7, 0.6, 0.5]))
    assert table(frame).loc[0, "decision"] == "peak"
    gone = frame.assign(status=np.where((frame.width == 40) & (frame.seed > 0), "diverged", "ok"))
    got = table(gone).iloc[0]
    assert (got["decision"], got["diverged"], got["dropped"], got["points"]) == ("undecided", 2, 1, 6)
    assert "threshold 40" in got["reason"]
    absent = frame[~((frame.width == 10) & (frame.seed > 0))]
    assert table(absent).loc[0, "dropped"] == 1


def test_errors_are_floored_at_half_a_sample() -> None:
    widths = np.array([10, 20, 30, 40, 50, 60])
    frame = synthetic("width", widths, np.ones(6))
    frame["test_error"] = np.where(frame.width == 40, 0.1, 0.0)
    got = table(frame, metric="test_error").iloc[0]
    assert got["prominence"] == pytest.approx(np.log(0.1 / 0.0005))
    assert got["plateau_value"] == pytest.approx(0.0005)


def test_train_loss_at_the_threshold_and_the_measured_threshold_lie_between_points() -> None:
    """Train loss 1/width at widths beside the threshold of 40: log-log interpolation is exact."""
    frame = synthetic("width", np.array([10, 20, 50, 100, 200]), np.ones(5))
    got = table(frame, fitted=0.015).iloc[0]
    assert got["train_loss_at_threshold"] == pytest.approx(1 / 40)
    # linear in the loss: 0.015 is half-way from 1/50 to 1/100
    assert got["threshold_measured"] == pytest.approx(50 * 2**0.5)


def test_conditions_have_distinct_names_and_their_own_axes() -> None:
    frames = [
        synthetic("width", np.array([10, 20, 40, 80]), np.ones(4), optimizer=o, lr=lr, n_train=n)
        for o in ("adam", "sgd")
        for lr in (0.01, 0.1)
        for n in (40, 50)
    ]
    got = table(pd.concat(frames), resamples=20)
    assert got["condition"].is_unique
    assert "adam, lr 0.01, training samples 40" in set(got["condition"])
    assert len(got) == 8
    for row in got.itertuples():
        assert row.condition == f"{row.optimizer}, lr {row.lr}, training samples {row.n_train}"


def test_axes_of_a_curve_are_those_of_its_rows_one_by_one() -> None:
    frames = [
        synthetic("width", np.array([10, 20, 40, 80]), np.ones(4), optimizer=o, lr=lr).assign(
            optimizer_momentum=None if o == "adam" else 0.9, solver=lambda f: np.where(f["width"] < 20, "exact", "dual")
        )
        for o in ("sgd", "adam")
        for lr in (0.01, 0.1)
    ]
    rows = pd.concat(frames, ignore_index=True)
    found = list(curves(rows))
    assert len(found) == 4
    assert pd.concat([curve.rows for curve in found]).sort_index().equals(rows)
    for curve in found:
        assert set(curve.values) == {"optimizer", "lr"}
        for axis, value in curve.axes.items():
            distinct = curve.rows[axis].drop_duplicates().tolist()
            expected = distinct[0] if len(distinct) == 1 else None
            assert value == expected or pd.isna([value, expected]).all(), axis
        assert curve.axes["solver"] is None


def test_several_metrics_are_judged_as_each_by_itself() -> None:
    frame = synthetic("width", np.array([10, 20, 40, 80]), np.array([1.0, 1.0, 9.0, 1.0]), optimizer="sgd", lr=0.1)
    frame["test_error"] = frame["test_loss"] / 20
    both = table(frame, metric=["test_loss", "test_error"], resamples=20)
    alone = [table(frame, metric=metric, resamples=20) for metric in ("test_loss", "test_error")]
    pd.testing.assert_frame_equal(both, pd.concat(alone, ignore_index=True))


def test_seeds_that_share_training_sets_are_judged_by_the_sets() -> None:
    """Curves of the training sets are the medians over their seeds, and count as much as one seed each."""
    widths, curve = np.array([10, 20, 30, 40, 50, 60, 80]), np.array([1, 0.8, 0.7, 2, 0.7, 0.6, 0.5])
    frame = synthetic("width", widths, curve, seeds=15)
    frame["test_loss"] *= np.exp(0.1 * np.random.default_rng(1).standard_normal(len(frame)))
    frame["data_seed"] = frame["seed"] % 3
    got = table(frame, resamples=50).iloc[0]
    assert (got["seeds"], got["training_sets"]) == (15, 3)
    logs = np.log(frame.pivot(index=["data_seed", "seed"], columns="width", values="test_loss"))
    expected = judge(widths, logs.groupby("data_seed").median().to_numpy(), 40.0, resamples=50)
    assert got["p_value"] == pytest.approx(expected.p_value)
    assert got["prominence_bound"] == pytest.approx(expected.prominence_bound)
    assert got["prominence"] == pytest.approx(expected.prominence.value)
    assert got["p_value"] > 2 * table(frame.assign(data_seed=frame["seed"])).loc[0, "p_value"]


def test_two_training_sets_decide_nothing_and_one_is_given() -> None:
    widths, curve = np.array([10, 20, 30, 40, 50, 60, 80]), np.array([1, 0.8, 0.7, 2, 0.7, 0.6, 0.5])
    frame = synthetic("width", widths, curve, seeds=10)
    two = table(frame.assign(data_seed=frame["seed"] % 2), resamples=50).iloc[0]
    assert (two["decision"], two["reason"]) == ("undecided", "2 training sets, fewer than 3")
    assert (two["seeds"], two["training_sets"]) == (10, 2)
    # one training set for all: what is inferred holds for that one, and seeds are independent
    one, own = (table(frame.assign(data_seed=sets), resamples=50) for sets in (0, frame["seed"]))
    assert (one.loc[0, "decision"], one.loc[0, "training_sets"], own.loc[0, "training_sets"]) == ("peak", 1, 10)
    judged = ["p_value", "prominence_bound", "prominence_low", "seeds"]
    pd.testing.assert_frame_equal(one[judged], own[judged])


def test_a_training_set_counts_where_half_of_its_seeds_do() -> None:
    widths, curve = np.array([10, 20, 30, 40, 50, 60, 80]), np.array([1, 0.8, 0.7, 2, 0.7, 0.6, 0.5])
    frame = synthetic("width", widths, curve, seeds=12)
    frame["data_seed"] = frame["seed"] // 3
    gone = (frame["width"] == 20) & (frame["seed"] % 3 > 0)  # one run of three is left in each set
    got = table(frame[~gone], resamples=50).iloc[0]
    assert (got["points"], got["dropped"]) == (6, 1)
    some = gone & (frame["data_seed"] < 2)  # two sets of four are left
    got = table(frame[~some], resamples=50).iloc[0]
    assert (got["points"], got["dropped"], got["decision"]) == (7, 0, "peak")


def test_what_does_not_apply_gives_no_row_or_no_decision(trained: Path) -> None:
    runs = load_runs(trained, "gd")
    assert table(runs, x="optimizer_penalty").empty
    got = table(runs.assign(test_error=np.nan), metric="test_error")
    assert got["reason"].tolist() == ["0 points, fewer than 4"] * 2
