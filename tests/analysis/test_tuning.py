"""Tuning on samples held out: which logged state each choice takes, what is left of a peak, and the command."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import dd
from analysis.curves import band
from analysis.setups import draw_table
from analysis.tables import curve_rows, load_runs
from analysis.tuning import (
    CHOICES,
    DECAY,
    LR,
    STEP,
    Choice,
    chosen,
    draw_tuning,
    has_tuning,
    judged,
    main,
    medians,
)
from tests.analysis.synthetic import WIDTHS, logged, peaked, runs

STEPS = (0, 10, 100)
SEEDS = 6
RATES, DECAYS = (0.1, 1.0, 10.0), (0.0, 0.5)


def crossing() -> pd.DataFrame:
    """Runs of every learning rate and weight decay; the largest rate has diverged at width 50 and seed 0."""
    found = runs(
        seeds=SEEDS, lr=RATES, optimizer_weight_decay=DECAYS, optimizer=("momentum",), validation=(0.2,),
        n_validation=(10,), batch_size=(40,),
    )  # fmt: skip
    gone = (found["width"] == 50) & (found["seed"] == 0) & (found["lr"] == 10)
    return found.assign(status=found["status"].mask(gone, "diverged"))


def at_random() -> pd.DataFrame:
    """Logged steps whose losses say nothing of one another; the middle rate fits best at the end."""
    points = logged(crossing(), STEPS, lambda step, run: 1.0)
    random = np.random.default_rng(0)
    losses = {name: random.uniform(1, 2, len(points)) for name in ("test_loss", "test_error", "validation_loss")}
    fits = np.where(points["lr"] == 1, 1e-3, 1e-2) * random.uniform(0.9, 1.1, len(points))
    return points.assign(**losses, train_loss=np.where(points["step"] == 100, fits, 1.0))


def tamed() -> pd.DataFrame:
    """Logged steps with a peak at the end of training without weight decay; either remedy removes it, a rate does not.

    Held-out losses are those of the test set times a factor of the seed, so that both choose alike.
    """
    random = np.random.default_rng(1)
    scatter = {seed: random.uniform(0.97, 1.03, len(WIDTHS)) for seed in range(SEEDS)}

    def loss(step: int, run: pd.Series) -> float:
        wild = run[DECAY] == 0 and step == 100
        level = peaked({"width": run["width"], "seed": 0})["test_loss"] if wild else 0.1 / run["width"] ** 0.5
        return level * (1 + abs(np.log10(run["lr"]))) * scatter[run["seed"]][WIDTHS.index(run["width"])]

    points = logged(crossing(), (10, 100), loss)
    fits = np.where(points["lr"] == 1, 1e-3, 1e-2)
    return points.assign(validation_loss=points["test_loss"] * (1 + points["seed"]), train_loss=fits)


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.name)
def test_each_choice_takes_the_lowest_of_what_is_allowed(choice: Choice) -> None:
    """Against a search state by state."""
    points = at_random()
    found = chosen(points.sample(frac=1, random_state=0), choice)
    assert list(found[["width", "seed"]].itertuples(index=False, name=None)) == [
        (width, seed) for width in WIDTHS for seed in range(SEEDS)
    ]
    for row in found.itertuples():
        states = []
        for state in points[(points["width"] == row.width) & (points["seed"] == row.seed)].itertuples():
            rate = LR in choice.free or state.lr == 1
            decay = DECAY in choice.free or state.optimizer_weight_decay == 0
            step = STEP in choice.free or state.step == 100
            if rate and decay and step and state.status == "ok":
                states.append((getattr(state, choice.by), state.run_id, state.step))
        whole = (3 if LR in choice.free else 1) * (2 if DECAY in choice.free else 1) * (3 if STEP in choice.free else 1)
        assert len(states) == whole or row.width == 50
        assert (getattr(row, choice.by), row.run_id, row.step) == min(states)


def test_states_of_equal_loss_are_chosen_at_the_earliest_step() -> None:
    points = at_random().assign(validation_loss=1.0)
    assert set(chosen(points, Choice("", (STEP,)))[STEP]) == {0}


def test_where_all_runs_diverged_nothing_is_chosen() -> None:
    points = at_random()
    lost = (points["width"] == 20) & (points["seed"] == 1)
    found = chosen(points.assign(status=points["status"].mask(lost, "diverged")), CHOICES[-2])
    assert len(found) == len(WIDTHS) * SEEDS - 1
    assert not ((found["width"] == 20) & (found["seed"] == 1)).any()
    some = points["status"].mask((points["lr"] == 1) & (points["seed"] < 4), "diverged")
    assert set(chosen(points.assign(status=some), CHOICES[0])[LR]) <= {0.1, 10}, "a rate at which most diverge fits"
    every = points["status"].mask(points[DECAY] == 0, "diverged")
    assert chosen(points.assign(status=every), CHOICES[0]).empty
    assert len(chosen(points.assign(status=every), CHOICES[2])) == len(WIDTHS) * SEEDS
    assert "untuned" not in set(judged(points.assign(status=every))["choice"])


def test_the_peak_is_left_by_the_choices_that_leave_its_cause() -> None:
    found = judged(tamed())
    assert found["choice"].tolist() == [c.name for c in CHOICES for _ in range(2)]
    decisions = found[found["metric"] == "test_loss"].set_index("choice")["decision"].to_dict()
    assert decisions == {
        "untuned": "peak", "learning rate": "peak", "weight decay": "no peak", "early stopping": "no peak",
        "all three": "no peak", "all three, by the test loss": "no peak",
    }  # fmt: skip
    peaks = found[(found["metric"] == "test_loss") & (found["decision"] == "peak")]
    assert peaks["location"].tolist() == [50.0, 50.0]


def test_medians_are_those_of_the_states_that_were_chosen() -> None:
    points = at_random()
    found = medians(points)
    assert list(found[["choice", "width"]].itertuples(index=False, name=None)) == [
        (c.name, width) for c in CHOICES for width in WIDTHS
    ]
    for choice in CHOICES:
        states = chosen(points, choice)
        mine = found[found["choice"] == choice.name]
        for column in ("test_loss", "test_error", LR, DECAY, STEP):
            expected = [np.median(states.loc[states["width"] == width, column]) for width in WIDTHS]
            np.testing.assert_allclose(mine[column], expected)


def test_a_line_is_a_choice() -> None:
    points = at_random()
    figure = draw_tuning(points, "title")
    assert [ax.get_ylabel() for ax in figure.axes] == ["test loss", "test error (0-1)"]
    for ax, column in zip(figure.axes, ("test_loss", "test_error"), strict=True):
        lines = [line.get_ydata() for line in ax.get_lines() if len(line.get_xdata()) == len(WIDTHS)]
        np.testing.assert_allclose(lines, [band(chosen(points, c), column).median for c in CHOICES])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [c.name for c in CHOICES]
    plt.close(figure)


def test_crossings_of_rates_and_decays_with_samples_held_out_have_it(tmp_path: Path) -> None:
    points = at_random()
    assert has_tuning(points, [LR, DECAY])
    assert not has_tuning(points, [LR])
    assert not has_tuning(points, [LR, DECAY, "batch_size"])
    assert not has_tuning(points.drop(columns="validation_loss"), [LR, DECAY])
    assert not has_tuning(points.assign(validation_loss=np.nan), [LR, DECAY])
    assert not has_tuning(pd.DataFrame(), [LR, DECAY])
    names = [drawing.png.name for drawing in draw_table(crossing(), "t", tmp_path, points)]
    assert names.count("t-tuning.png") == 1
    assert (tmp_path / "t-tuning.pdf").stat().st_size > 0


def test_real_runs_stop_where_the_choice_of_steps_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows of dd, which itself ends at the best step on samples held out, are the states that the choice finds."""
    monkeypatch.chdir(tmp_path)
    line = (
        "model=two_layer", "optimizer=adamw", "width=4,8,16,32", "seed=0,1", "data.n_train=50", "data.n_test=50",
        "data.label_noise=0.2,0.4", "lr=1e-3,1e-2", "optimizer.weight_decay=0,1", "epochs=40", "batch_size=20",
    )  # fmt: skip
    rows = dd.sweep(*line, "validation=0.2", "name=tuned", n_jobs=1)
    assert set(rows["n_validation"]) == {10}
    points = curve_rows(tmp_path / "results", "tuned", load_runs(tmp_path / "results", "tuned"))
    stopped = chosen(points[points["label_noise"] == 0.2], Choice("", (LR, DECAY, STEP))).set_index(["width", "seed"])
    best = rows[rows["label_noise"] == 0.2].sort_values("validation_loss").groupby(["width", "seed"]).head(1)
    best = best.set_index(["width", "seed"]).loc[stopped.index]
    assert len(best) == 8
    assert best["run_id"].tolist() == stopped["run_id"].tolist()
    assert best["steps_done"].tolist() == stopped[STEP].tolist()
    assert (best["steps_done"] < best["steps"]).any()
    np.testing.assert_allclose(best["test_loss"], stopped["test_loss"], rtol=1e-5)

    dd.sweep(*line, "name=whole", n_jobs=1)
    assert main(["--results", "results"]) == 0
    told = capsys.readouterr().out
    assert [text.split(",")[-1] for text in told.splitlines() if text.startswith(("tuned:", "whole:"))] == [
        " label noise 0.2", " label noise 0.4",
    ]  # fmt: skip
    assert told.count("all three, by the test loss") == 2 * (2 + 4)
    assert main(["--results", "results", "--name", "whole"]) == 1
    assert "no table in results/ crosses learning rates with weight decays" in capsys.readouterr().err
    (tmp_path / "results" / "tuned" / "runs" / "broken.parquet").write_bytes(b"no table")
    assert main(["--results", "results"]) == 1
    assert "broken.parquet is not a readable parquet file" in capsys.readouterr().err
