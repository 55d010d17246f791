"""The verdict on planted conditions, and conditions from real and made-up rows."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import claim
from analysis.association import Estimate
from analysis.conditions import conditions, noise_floor, of_the_study, training_time
from tests.analysis.synthetic import runs

LEVEL = -2.5


def planted(height, seed: int = 0, count: int = 160) -> pd.DataFrame:
    """Conditions whose heights are ``height(log10 train loss, factor level, generator)``."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-5, -0.5, count)
    optimizer = rng.choice(["gd", "momentum", "adam"], count)
    heights = height(x, optimizer, rng)
    return pd.DataFrame(
        {
            "family": "random features on digits, n = 200", "noisy": True, "outputs": 10,
            "train_loss": 10**x, "height": heights, "cluster": rng.integers(0, 40, count).astype(str),
            "condition": [f"number {i}" for i in range(count)], "table": "planted", "floor": 0.02,
            "prominence": heights, "prominence_at_threshold": heights, "trained": False,
            "decision": np.where(heights > 0.2, "peak", "no peak"), "step_size": "1 sharpness",
            "optimizer": optimizer, "steps": rng.choice([100, 1000], count), "batch_size": 200,
            "init": "default", "init_scale": 1.0, "normalization": "none", "standardize": "global",
            "model_activation": "tanh", "schedule": "constant",
            "feature_condition": np.exp(rng.standard_normal(count)), "preconditioned_condition": np.nan,
            "train_loss_at_measured": 10**x, "train_loss_at_peak": 10**x, "method": optimizer,
            "metric": "test_loss", "test_loss_at_threshold": 10 ** (-x) * 1e-4, "excluded": 0,
        }
    )  # fmt: skip


def by_loss(x: np.ndarray, optimizer: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.where(x < LEVEL, 0.3 + 0.8 * (LEVEL - x), 0.05) + 0.02 * rng.standard_normal(len(x))


def statistic(verdict: claim.Verdict, name: str) -> Estimate:
    row = verdict.statistics.set_index("name").loc[name]
    return Estimate(row["value"], row["low"], row["high"])


def test_a_claim_that_is_planted_is_found_to_hold() -> None:
    (verdict,) = claim.verdicts(planted(by_loss), resamples=100)
    assert verdict.family == "random features on digits, n = 200, noisy labels"
    assert '"If" holds' in verdict.text
    assert '"Only if" holds' in verdict.text
    assert "No condition violates" in verdict.text
    assert np.log10(verdict.level) == pytest.approx(LEVEL, abs=0.1)
    assert np.log10(verdict.l50) == pytest.approx(LEVEL, abs=0.1)
    assert statistic(verdict, "AUC of the train loss for a peak").value == pytest.approx(1, abs=0.005)
    slope = statistic(verdict, "slope of log test loss on log train loss at the threshold")
    assert slope.value == pytest.approx(-1)
    found = verdict.conditions
    rho = stats.spearmanr(found["train_loss"], found["height"]).statistic
    assert statistic(verdict, "Spearman of train loss and height").value == pytest.approx(rho)


def test_a_claim_that_does_not_hold_is_refuted() -> None:
    (verdict,) = claim.verdicts(planted(lambda x, optimizer, rng: rng.choice([0.05, 1.0], len(x))), resamples=100)
    assert "does not tell peak from no peak" in verdict.text
    assert "the claim finds no support here" in verdict.text
    assert '"If"' not in verdict.text
    auc = statistic(verdict, "AUC of the train loss for a peak")
    assert auc.low < 0.5 < auc.high


def test_low_loss_without_a_peak_breaks_if_but_not_only_if() -> None:
    def half(x: np.ndarray, optimizer: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.where(rng.random(len(x)) < 0.5, by_loss(x, optimizer, rng), 0.0)

    (verdict,) = claim.verdicts(planted(half, count=300), resamples=100)
    assert '"If" fails' in verdict.text
    assert '"Only if" holds' in verdict.text
    assert set(verdict.violators["side"]) == {"low loss, no peak"}
    worst = verdict.violators.iloc[0]
    assert worst["distance"] == pytest.approx(verdict.violators["distance"].max())
    assert worst["condition"] in verdict.text


def test_a_factor_that_acts_beside_the_train_loss_is_named() -> None:
    def shifted(x: np.ndarray, optimizer: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return by_loss(x - np.where(optimizer == "adam", 1.0, 0.0), optimizer, rng)

    (verdict,) = claim.verdicts(planted(shifted, count=240), resamples=100)
    factors = verdict.factors.set_index("factor")
    assert factors["explained"].idxmax() == "optimizer"
    assert factors.loc["optimizer", "l50_spread"] == pytest.approx(1, abs=0.25)
    assert factors.loc["optimizer", "p_value"] < 0.05
    assert "Beside the train loss these act: optimizer" in verdict.text
    (without,) = claim.verdicts(planted(by_loss, count=240), resamples=100)
    assert "No factor is shown to act" in without.text


def test_a_condition_number_that_matters_given_the_loss_is_told_from_one_that_does_not() -> None:
    found = planted(by_loss)
    (verdict,) = claim.verdicts(found, resamples=100)
    assert statistic(verdict, "... given the train loss (κ of the features)").low < 0
    assert "adds nothing that shows" in verdict.text
    found["feature_condition"] = np.exp(found["height"] + 0.1 * np.random.default_rng(9).standard_normal(len(found)))
    (verdict,) = claim.verdicts(found, resamples=100)
    assert statistic(verdict, "... given the train loss (κ of the features)").low > 0
    assert "still tells something" in verdict.text


def test_without_peaks_the_verdict_says_how_low_the_loss_came() -> None:
    (verdict,) = claim.verdicts(planted(lambda x, optimizer, rng: np.zeros(len(x))), resamples=10)
    low = int((verdict.conditions["train_loss"] <= 1e-3).sum())
    assert "0 rise above their surroundings" in verdict.text
    assert f"{low} conditions bring the train loss" in verdict.text
    assert f"0 of them have a peak, {low} have none by the test" in verdict.text
    assert np.isnan(verdict.level)


def test_what_is_undecided_violates_nothing() -> None:
    found = planted(lambda x, optimizer, rng: np.where(rng.random(len(x)) < 0.5, by_loss(x, optimizer, rng), 0.0))
    found["decision"] = "undecided"
    (verdict,) = claim.verdicts(found, resamples=20)
    assert verdict.violators.empty
    assert "0 no peak, 160 undecided" in verdict.text


def test_without_clusters_to_resample_nothing_is_said_to_hold() -> None:
    (verdict,) = claim.verdicts(planted(by_loss).assign(cluster="one"), resamples=20)
    assert "If" not in verdict.text
    assert "Whether the train loss tells peak from no peak cannot be judged" in verdict.text
    assert "condition number" not in verdict.text


def test_few_conditions_are_not_judged() -> None:
    assert claim.verdicts(planted(by_loss, count=15)) == []
    assert claim.verdicts(pd.DataFrame()) == []


def test_noise_floor_is_the_variance_of_the_labels() -> None:
    rng = np.random.default_rng(0)
    classes, share, samples = 10, 0.3, 200_000
    label = rng.integers(0, classes, samples)
    redrawn = np.where(rng.random(samples) < share, rng.integers(0, classes, samples), label)
    for over, noisy in (
        ("all", redrawn),
        ("other", np.where(rng.random(samples) < share, (label + rng.integers(1, classes, samples)) % classes, label)),
    ):
        onehot = np.eye(classes)[noisy]
        spread = np.mean([onehot[label == c].var(axis=0).mean() for c in range(classes)])
        got = noise_floor(pd.Series([share]), pd.Series([over]), pd.Series([classes])).iloc[0]
        assert got == pytest.approx(spread, rel=0.01)


def rows_of_a_study(tables: dict[str, list[int]]) -> dict[str, pd.DataFrame]:
    """Gradient descent at some budgets: the longer, the lower the train loss and the higher the bump at width 40."""
    widths, found = [5, 10, 20, 30, 40, 50, 80, 160], {}
    for name, budgets in tables.items():
        rows = []
        for steps, seed, width in itertools.product(budgets, range(3), widths):
            loss = 1.0 / steps * (1 + 40 / width)
            bump = np.log10(steps) * np.exp(-(np.log(width / 40) ** 2) / 0.02)
            rows.append(
                {
                    "run_id": f"{steps}-{seed}-{width}", "status": "ok", "model": "random_features", "data": "digits",
                    "n_train": 40, "n_test": 100, "loss": "mse", "label_noise": 0.0, "label_noise_over": "all",
                    "seed": seed, "data_seed": seed, "width": width, "optimizer": "gd", "steps": steps, "epochs": steps,
                    "lr": 1.0, "lr_unit": "sharpness", "batch_size": 40, "init": "default", "init_scale": 1.0,
                    "normalization": "none", "standardize": "global", "model_activation": "tanh", "model_bias": False,
                    "model_bandwidth": 1.0, "stop_loss": None, "solver": "exact", "dtype": "float64", "outputs": 10,
                    "interpolation_width": 40.0, "train_loss": loss, "test_error": 0.5,
                    "test_loss": np.exp(0.3 * bump - 0.1 * np.log(width) + 0.01 * seed),
                    "feature_condition": 10.0 * width, "feature_condition_init": 10.0, "hessian_condition": 100.0,
                    "preconditioned_condition": 100.0, "feature_rank": width, "measure": "basic",
                }
            )  # fmt: skip
        found[name] = pd.DataFrame(rows)
    return found


def test_conditions_hold_what_the_rows_hold_at_the_threshold() -> None:
    found = conditions(rows_of_a_study({"iterations": [10, 1000]}))
    assert found["condition"].tolist() == ["gd, steps 10", "gd, steps 1000"]
    assert found["train_loss"].tolist() == pytest.approx([0.2, 0.002])
    assert found["feature_condition"].tolist() == pytest.approx([400, 400])
    assert found["height"].is_monotonic_increasing
    assert set(found["table"]) == {"iterations"}
    assert not found["noisy"].any()


def test_a_run_in_two_tables_counts_once() -> None:
    found = conditions(rows_of_a_study({"iterations": [10, 100, 1000], "learning_rate": [100, 10_000]}))
    assert found[["condition", "table"]].to_numpy().tolist() == [
        ["gd, steps 10", "iterations"], ["gd, steps 100", "iterations"], ["gd, steps 1000", "iterations"],
        ["gd, steps 10000", "learning_rate"],
    ]  # fmt: skip


def test_runs_that_diverged_at_the_threshold_leave_the_condition_without_a_train_loss() -> None:
    tables = rows_of_a_study({"iterations": [10, 1000]})
    frame = tables["iterations"]
    frame.loc[(frame["steps"] == 1000) & (frame["width"] == 40), "status"] = "diverged"
    found = conditions(tables)
    assert np.isfinite(found["train_loss"].iloc[0])
    gone = found[found["steps"] == 1000].iloc[0]
    assert gone["decision"] == "undecided"
    assert np.isnan([gone["train_loss"], gone["height"], gone["feature_condition"]]).all()


def test_of_a_run_in_two_tables_the_finished_one_counts() -> None:
    tables = rows_of_a_study({"iterations": [10, 100], "learning_rate": [100]})
    tables["iterations"].loc[tables["iterations"]["steps"] == 100, "status"] = "failed"
    found = conditions(tables).set_index("steps")
    assert found.loc[100, "train_loss"] == pytest.approx(0.02)
    assert found.loc[100, "table"] == "learning_rate"


def false_peak() -> pd.DataFrame:
    """Two budgets, five seeds: of the longer one two seeds have dead units at width 40, which make a peak of 30."""
    frame = rows_of_a_study({"iterations": [10, 1000]})["iterations"]
    more = [frame.assign(seed=frame["seed"] + i, run_id=frame["run_id"] + f"+{i}") for i in (0, 3)]
    rows = pd.concat(more, ignore_index=True).query("seed < 5").assign(data_seed=lambda found: found["seed"])
    rows["test_loss"] = np.exp(-0.1 * np.log(rows["width"]) + 0.01 * rows["seed"])
    dead = (rows["steps"] == 1000) & (rows["width"] == 40) & (rows["seed"] < 3)
    rows["test_loss"] *= np.where(dead, 30.0, 1.0)
    return rows.assign(dead_units=np.where(dead, 2.0, np.nan))


def test_runs_with_dead_units_do_not_count() -> None:
    rows = false_peak()
    flagged = rows["dead_units"] > 0
    assert flagged.sum() == 3, "of five seeds: the median is theirs"
    before = conditions({"iterations": rows.drop(columns="dead_units")}).set_index("steps")
    assert before["excluded"].tolist() == [0, 0]
    assert before.loc[1000, "height"] == pytest.approx(np.log(30), abs=0.2)
    after, missing = (
        conditions({"iterations": found}).set_index("steps")
        for found in (rows.assign(dead_units=rows["dead_units"].where(rows["seed"] < 2)), rows[~flagged])
    )
    assert after["excluded"].tolist() == [0, 2]
    assert after.loc[1000, "height"] == pytest.approx(0.0, abs=0.02)
    assert before.loc[10, "height"] == after.loc[10, "height"]
    gone = conditions({"iterations": rows}).set_index("steps").drop(columns="excluded")
    pd.testing.assert_frame_equal(gone, missing.drop(columns="excluded"))


def test_an_older_table_of_the_same_run_does_not_bring_it_back() -> None:
    rows = false_peak()
    tables = {"iterations": rows.drop(columns="dead_units"), "learning_rate": rows}
    assert conditions(tables)["excluded"].tolist() == [0, 3]
    nothing = rows.assign(dead_units=None)
    assert conditions({"iterations": nothing})["excluded"].tolist() == [0, 0]
    zero = rows.assign(dead_units=pd.array([0] * len(rows), dtype="Int64"))
    assert conditions({"iterations": zero})["excluded"].tolist() == [0, 0]


def test_the_verdict_tells_how_many_runs_were_left_out() -> None:
    found = planted(by_loss)
    (verdict,) = claim.verdicts(found, resamples=20)
    assert "dead units" not in verdict.text
    found.loc[:4, "excluded"], found.loc[5, ["excluded", "train_loss"]] = 2, [10, np.nan]
    (verdict,) = claim.verdicts(found, resamples=20)
    assert (
        "1 more have no train loss at the threshold (diverged, dead units, or no widths there). 20 runs with dead"
        in (verdict.text)
    )
    assert "20 runs with dead units were left out." in verdict.text
    (flat,) = claim.verdicts(found.assign(height=0.0, excluded=[1] + [0] * 159), resamples=20)
    assert "1 run with dead units was left out." in flat.text


def rmt_rows(**columns: object) -> pd.DataFrame:
    """Four conditions at widths 2 to 32 whose test loss peaks at width 6, below the counted threshold."""
    rows = runs((2, 4, 6, 8, 10, 16, 32), optimizer=("adam", "muon"), init=("default", "fan_in"))
    bump = np.exp(-(np.log(rows["width"] / 6) ** 2) / 0.002)
    return rows.assign(
        **{"model": "rmt", "label_noise": 0.2, "interpolation_width": 8.9, "feature_condition_init": 1.0,
           "feature_rank": rows["width"], "test_loss": (1 + 0.01 * rows["seed"]) * np.exp(bump) / rows["width"]}
        | columns
    )  # fmt: skip


def test_the_budget_of_gradient_steps_is_a_time() -> None:
    tables = rows_of_a_study({"iterations": [10, 1000]})
    frame = tables["iterations"]
    frame["sharpness_init"], frame["lr_absolute"] = 4.0, 0.25
    assert conditions(tables)["tau"].tolist() == pytest.approx([10, 1000])
    assert conditions(tables)["time"].tolist() == pytest.approx([2.5, 250])
    tables["iterations"] = frame.assign(optimizer="momentum", optimizer_momentum=0.9, lr=0.5)
    assert conditions(tables)["tau"].tolist() == pytest.approx([50, 5000])
    tables["iterations"] = frame.assign(lr_unit="absolute", lr=0.5, lr_absolute=0.5)
    assert conditions(tables)["tau"].tolist() == pytest.approx([20, 2000])
    tables["iterations"] = frame.assign(optimizer="adam")
    assert conditions(tables)["tau"].isna().all()


def test_a_schedule_shortens_the_time_to_the_sum_of_its_step_sizes() -> None:
    row = {"optimizer": "gd", "steps": 1000, "batch_size": 10, "n_train": 10, "schedule": "cosine"}
    row |= {"schedule_per": "step", "schedule_warmup": 0, "schedule_final": 0.0, "optimizer_momentum": np.nan}
    sizes = (1 + np.cos(np.pi * np.arange(1000) / 1000)) / 2  # torch's CosineAnnealingLR, in closed form
    assert training_time(row, 0.5) == pytest.approx(0.5 * sizes.sum())


def test_the_train_loss_is_looked_at_where_the_family_fits_and_at_the_peak() -> None:
    tables = rows_of_a_study({"iterations": [10, 100, 300]})
    frame = tables["iterations"]
    frame.loc[(frame["steps"] == 300) & (frame["width"] >= 20), "train_loss"] = 1e-6  # fits from 20 on
    frame.loc[frame["steps"] == 10, "test_loss"] = 1 / frame["width"]  # no peak
    found = conditions(tables).set_index("steps")
    fitted = found.loc[300, "threshold_measured"]
    assert 10 < fitted <= 20
    medians = frame[frame["steps"] == 10].groupby("width")["train_loss"].median()
    expected = np.exp(np.interp(np.log(fitted), np.log(medians.index), np.log(medians)))
    assert found.loc[10, "train_loss_at_measured"] == pytest.approx(expected)
    assert found.loc[300, "decision"] == "peak"
    assert found.loc[10, "decision"] == "no peak"
    assert found.loc[10, "train_loss_at_peak"] == pytest.approx(medians[found.loc[300, "location"]])


def test_the_verdict_follows_from_the_exported_conditions_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = planted(by_loss).assign(tau=np.tile([1e2, 1e4], 80), weight_norm=1.5)
    found.to_csv(tmp_path / "conditions.csv", index=False)
    (verdict,) = claim.verdicts(found)
    assert claim.main(["--conditions", str(tmp_path / "conditions.csv")]) == 0
    assert verdict.text in capsys.readouterr().out
    found.drop(columns="height").to_csv(tmp_path / "other.csv", index=False)
    assert claim.main(["--conditions", str(tmp_path / "other.csv")]) == 1
    assert "lacks the columns height" in capsys.readouterr().err
    assert claim.main(["--conditions", str(tmp_path / "none.csv")]) == 1
    assert "none.csv" in capsys.readouterr().err


def test_shares_of_noisy_labels_are_not_pooled() -> None:
    rows = pd.concat([rmt_rows(label_noise=share) for share in (0.0, 0.1, 0.2)], ignore_index=True)
    rows["run_id"] = np.arange(len(rows)).astype(str)
    found = conditions({"rmt_width_digits": rows})
    name = "RMT width variants on digits, n = 50"
    assert set(found["family"]) == {name, f"{name}, label noise 0.1", f"{name}, label noise 0.2"}
    teacher = rmt_rows(label_noise=0.0, data="linear_teacher", data_noise=0.5)
    (family,) = set(conditions({"rmt_width_digits": teacher})["family"])
    assert family.endswith("n = 50, noise 0.5")


def test_budgets_of_one_net_are_one_cluster() -> None:
    rows = pd.concat([rmt_rows(steps=steps, epochs=float(steps)) for steps in (50, 500)], ignore_index=True)
    rows["run_id"] = np.arange(len(rows)).astype(str)
    found = conditions({"rmt_width_digits": rows})
    assert len(found) == 8
    assert found["cluster"].nunique() == 4
    assert found.groupby("cluster")["steps"].nunique().eq(2).all()


def test_the_height_of_a_trained_backbone_is_that_of_its_most_prominent_peak() -> None:
    found = conditions({"rmt_width_digits": rmt_rows()})
    assert found["condition"].tolist() == ["adam", "adam, fan in", "muon", "muon, fan in"]
    assert set(found["family"]) == {"RMT width variants on digits, n = 50"}
    assert found["trained"].all()
    assert (found["location"] == 6).all()
    assert found["height"].tolist() == pytest.approx([1 + np.log(4 / 6)] * 4)
    assert found["cluster"].nunique() == 4
    assert set(found["factor"]) == {"crossing"}


def test_initialization_is_a_factor_where_it_varies() -> None:
    heights = {"default": 0.0, "fan_in": 1.0}
    found = planted(by_loss).assign(init=np.tile(list(heights), 80))
    found["height"] += found["init"].map(heights)
    (verdict,) = claim.verdicts(found, resamples=20)
    assert verdict.factors.iloc[0]["factor"] == "init"
    assert verdict.factors.iloc[0]["explained"] > 0.5
    (constant,) = claim.verdicts(planted(by_loss), resamples=20)
    assert "init" not in set(constant.factors["factor"])


def test_a_cross_entropy_is_not_measured_in_variances_of_the_labels() -> None:
    squared, entropy = (conditions({"rmt_batch_size": rmt_rows(loss=loss)}) for loss in ("mse", "cross_entropy"))
    assert (squared["floor"] > 0).all()
    assert entropy["floor"].isna().all()
    assert set(entropy["family"]) == {"RMT width variants on digits, n = 50, cross entropy"}
    (verdict,) = claim.verdicts(planted(by_loss).assign(floor=np.nan), resamples=20)
    assert "variance" not in verdict.text
    assert "as likely as not at a train loss of" in verdict.text


def test_a_verdict_on_trained_features_says_where_its_threshold_is() -> None:
    found = planted(by_loss).assign(trained=True, model="rmt", threshold_counted=8.9)
    (verdict,) = claim.verdicts(found, resamples=20)
    assert "(parameters = samples × outputs, at width k = 8.9)" in verdict.text
    found.loc[0, "threshold_counted"] = 9.25
    (verdict,) = claim.verdicts(found.assign(model="two_layer"), resamples=20)
    assert "at width = 8.9 to 9.25)" in verdict.text
    (frozen,) = claim.verdicts(planted(by_loss), resamples=20)
    assert "counted" not in frozen.text


def test_tables_of_rmt_by_any_name_belong_to_the_study_after_those_with_a_place() -> None:
    tables = {"rmt_mine": rmt_rows(steps=50, epochs=50.0), "rmt_conditioning": rmt_rows(), "rmt_batch_size": rmt_rows()}
    tables["rmt_mine"]["run_id"] += "b"
    found = of_the_study(tables)
    assert set(found["table"]) == {"rmt_batch_size", "rmt_mine"}
    assert len(found) == 8
