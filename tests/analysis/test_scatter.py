"""Scatter figures: every mark is where its numbers say, steps needed are those of a known decay."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from analysis.scatter import RING, draw_steps, draw_summary, steps_needed
from tests.analysis.synthetic import logged, runs


@pytest.fixture
def conditions() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 24
    return pd.DataFrame(
        {
            "family": ["random_features"] * 16 + ["two_layer"] * 8,
            "table": ["optimizer", "steps"] * 12,
            "factor": ["optimizer", "steps"] * 12,
            "noisy": ([False] * 8 + [True] * 8) + [True] * 8,
            "condition": [f"condition {i}" for i in range(n)],
            "train_loss": 10.0 ** rng.uniform(-6, -1, n),
            "height": rng.uniform(0, 3, n),
            "decision": ["peak", "no peak", "undecided", "peak"] * 6,
        }
    )


def _marks(ax: plt.Axes) -> np.ndarray:
    # rings lie on marks that are there anyway
    return np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections if c.get_sizes()[0] < RING])


def _sorted(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort(points.T)]


def test_every_condition_is_a_mark_in_its_panel(conditions: pd.DataFrame) -> None:
    figure = draw_summary(conditions)
    panels = {ax.get_title(): ax for ax in figure.axes if ax.get_title()}
    assert list(panels) == [
        "random features, clean labels",
        "random features, noisy labels",
        "two-layer nets, noisy labels",
    ]
    for title, ax in panels.items():
        family = "two_layer" if title.startswith("two") else "random_features"
        own = conditions[(conditions.family == family) & (conditions.noisy == ("noisy" in title))]
        np.testing.assert_allclose(_sorted(_marks(ax)), _sorted(own[["train_loss", "height"]].to_numpy()))
        assert ax.get_xscale() == "log"
    plt.close(figure)


def test_fill_tells_the_decision(conditions: pd.DataFrame) -> None:
    figure = draw_summary(conditions[conditions.family == "two_layer"])
    alphas = {}
    for marks in figure.axes[0].collections:
        faces = marks.get_facecolors()
        for x, _ in np.asarray(marks.get_offsets()):
            decision = conditions.loc[conditions.train_loss == x, "decision"].item()
            alphas.setdefault(decision, set()).add(0.0 if len(faces) == 0 else round(float(faces[0][3]), 2))
    assert alphas == {"peak": {0.9}, "no peak": {0.0}, "undecided": {0.3}}
    plt.close(figure)


def test_violators_are_ringed_and_the_first_five_named(conditions: pd.DataFrame) -> None:
    violators = conditions.iloc[8:15]
    half = {("random_features", True): 1e-3}
    figure = draw_summary(conditions, half, violators)
    panel = next(ax for ax in figure.axes if ax.get_title() == "random features, noisy labels")
    rings = next(c for c in panel.collections if c.get_sizes()[0] == RING)
    np.testing.assert_allclose(np.asarray(rings.get_offsets()), violators[["train_loss", "height"]])
    assert [t.get_text() for t in panel.texts if t.get_text().isdigit()] == ["1", "2", "3", "4", "5"]
    key = next(t.get_text() for ax in figure.axes for t in ax.texts if "condition 8" in t.get_text())
    assert key.splitlines()[4:] == ["5  condition 12", "… and 2 more, listed in the report"]
    assert any(list(line.get_xdata()) == [1e-3, 1e-3] for line in panel.get_lines())
    plt.close(figure)


def test_numbers_of_neighbouring_violators_do_not_overlap(conditions: pd.DataFrame) -> None:
    close = conditions.iloc[8:13].assign(train_loss=1e-3 * (1 + 0.02 * np.arange(5)), height=1.0)
    figure = draw_summary(pd.concat([conditions, close]), violators=close)
    figure.draw_without_rendering()
    panel = next(ax for ax in figure.axes if ax.get_title() == "random features, noisy labels")
    # an annotation's own extent has its arrow in it
    boxes = [Text.get_window_extent(t) for t in panel.texts if t.get_text().isdigit()]
    assert len(boxes) == 5
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    plt.close(figure)


def test_conditions_without_numbers_are_an_error_in_words(conditions: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="no condition"):
        draw_summary(conditions.assign(height=np.nan))


def test_steps_needed_are_those_of_a_power_law() -> None:
    """A train loss of step^-1/2 is down at 0.01 after 10^4 steps, which a log-log interpolation finds exactly."""
    rows = runs(steps=(100, 10**6), optimizer=("gd",))
    long = logged(
        rows, (0, 1, 30, 100, 3000, 70000, 10**6), lambda s, r: 2.0 if s == 0 else (1 + r["seed"]) / np.sqrt(s)
    )
    got = steps_needed(rows, long, 0.01)
    assert len(got) == 3, "one a seed, at the width that is the threshold"
    np.testing.assert_allclose(np.sort(got["steps"]), [1e4, 4e4, 9e4])
    conditions = rows[rows.width == 50].groupby("seed")["feature_condition"].first()
    np.testing.assert_allclose(np.sort(got["hessian"]), np.sort(conditions**2))


def test_of_several_step_sizes_the_fastest_counts_and_runs_that_never_get_there_do_not() -> None:
    rows = runs(seeds=1, lr=(0.1, 1.0), steps=(10**6,), hessian_condition=(123.0,))
    long = logged(rows, (1, 10, 100, 10**4, 10**6), lambda s, r: 1 / (r["lr"] * s))
    got = steps_needed(rows, long, 1e-3)
    np.testing.assert_allclose(got["steps"], [1e3])
    assert got["hessian"].tolist() == [123.0]
    assert steps_needed(rows, long, 1e-9).empty
    assert steps_needed(rows, long.iloc[:0], 1e-3).empty


def test_the_squared_condition_number_of_trained_features_is_nobodys_hessian() -> None:
    rows = runs(seeds=1, steps=(10**6,))
    long = logged(rows, (1, 10**6), lambda s, r: 1 / s)
    assert len(steps_needed(rows, long, 1e-3)) == 1
    for model in ("two_layer", "rmt"):
        assert steps_needed(rows.assign(model=model), long, 1e-3).empty
        known = steps_needed(rows.assign(model=model, hessian_condition=7.0), long, 1e-3)
        assert known["hessian"].tolist() == [7.0]


def test_steps_are_drawn_against_both_condition_numbers() -> None:
    needed = pd.DataFrame(
        {
            "optimizer": ["gd", "gd", "adam"],
            "steps": [1e3, 1e4, 1e2],
            "hessian": [1e4, 1e5, 1e6],
            "preconditioned": [1e4, 1e5, np.nan],
        }
    )
    figure = draw_steps(needed, 1e-3)
    left, right = figure.axes[:2]
    np.testing.assert_allclose(_sorted(_marks(left)), _sorted(needed[["hessian", "steps"]].to_numpy()))
    np.testing.assert_allclose(_sorted(_marks(right)), _sorted(needed[["preconditioned", "steps"]].to_numpy()[:2]))
    slopes = [np.polyfit(np.log(g.get_xdata()), np.log(g.get_ydata()), 1)[0] for g in left.get_lines()]
    np.testing.assert_allclose(slopes, [1.0, 0.5])
    low, high = left.get_ylim()
    assert low < 1e2 < 1e4 < high
    assert to_rgba(left.get_lines()[1].get_color()) == to_rgba("#555555")
    plt.close(figure)
