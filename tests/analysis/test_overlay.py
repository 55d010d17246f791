"""Theory beside random features: what is drawn, where, and what has none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from analysis import overlay
from analysis.figures import _panel_caption
from analysis.panels import draw
from dd.theory import units
from dd.theory.activations import coefficients
from dd.theory.edges import feature_condition
from dd.theory.flow import flow_risk
from dd.theory.random_features import ridge_risk
from dd.theory.spectrum import FeatureSpectrum, isotropic
from tests.analysis import synthetic
from tests.helpers import run_of, solve_rows

WIDTHS = (20, 30, 50, 100)
TEACHER = ("data=linear_teacher", "data.dim=40", "data.n_train=50", "data.n_test=200")


def table(*overrides: str, seeds: int = 2, widths: tuple[int, ...] = WIDTHS) -> pd.DataFrame:
    runs = [run_of(*overrides, f"width={width}") for width in widths]
    return pd.DataFrame(solve_rows(*(run.replace(seed=s, data_seed=s) for run in runs for s in range(seeds))))


def spectrum() -> FeatureSpectrum:
    return isotropic(coefficients("relu", 4), 40)


@pytest.fixture(scope="module")
def closed() -> pd.DataFrame:
    return pd.concat([table(*TEACHER, "optimizer=min_norm"), table(*TEACHER, "optimizer=ridge", "optimizer.penalty=2")])


@pytest.fixture(scope="module")
def descent() -> pd.DataFrame:
    return table(*TEACHER, "optimizer=momentum", "batch_size=full", "steps=200")


def dash_dotted(figure: plt.Figure, quantity: str) -> list[Line2D]:
    ax = next(ax for ax in figure.axes if ax.get_ylabel() == quantity)
    return [line for line in ax.get_lines() if line.get_linestyle() == "-."]


def at(prediction: overlay.Prediction | None, column: str, x: float) -> float:
    assert prediction is not None
    return float(prediction.values[column][np.flatnonzero(prediction.x == x)[0]])


def test_closed_forms_have_the_risk_of_their_penalty(closed: pd.DataFrame) -> None:
    for optimizer, penalty in (("min_norm", 0.0), ("ridge", 2.0)):
        got = overlay.predict(closed[closed["optimizer"] == optimizer], "width")
        for width in (30, 100):
            expected = ridge_risk(spectrum(), 50, width, units.ridge(penalty, width), 0.25)
            assert at(got, "test_loss", width) == pytest.approx(expected.excess)
            assert at(got, "feature_condition", width) == pytest.approx(feature_condition(spectrum(), 50, width))
        assert at(got, "train_loss", 30) == pytest.approx(
            ridge_risk(spectrum(), 50, 30, units.ridge(penalty, 30), 0.25).train
        )
    limit = overlay.predict(closed[closed["optimizer"] == "min_norm"], "width")
    assert np.isnan(at(limit, "test_loss", 50))  # infinite at the threshold
    assert np.isnan(at(limit, "train_loss", 100))  # interpolates
    assert limit is not None
    assert len(limit.x) > 40


def test_momentum_has_the_flow_of_its_effective_time(descent: pd.DataFrame) -> None:
    got = overlay.predict(descent, "width")
    assert got is not None
    assert got.x.tolist() == list(WIDTHS)
    lr = descent.loc[descent["width"] == 30, "lr_absolute"].median()
    expected = flow_risk(
        spectrum(), 50, 30, units.time("momentum", lr, 200, 30, 1, 0.9), 0.25, units.start("fan_in", 30, 1)
    )
    assert at(got, "test_loss", 30) == pytest.approx(expected.excess)
    assert at(got, "train_loss", 30) == pytest.approx(expected.train)


def test_every_line_gets_its_theory_in_its_colour_and_one_entry_in_the_legend(closed: pd.DataFrame) -> None:
    figure = draw(closed, "title", ["optimizer"])
    drawn = dash_dotted(figure, "test loss")
    handles = figure.legends[0].get_lines()
    assert [line.get_color() for line in drawn] == [handle.get_color() for handle in handles[:2]]
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["min norm", "ridge", "min-norm limit", "theory"]
    (condition,) = dash_dotted(figure, "condition number of the features")
    assert condition.get_color() == "black"  # the same features for both
    plt.close(figure)


def test_theory_does_not_stretch_the_axes(closed: pd.DataFrame) -> None:
    rows = closed[closed["optimizer"] == "min_norm"]
    tame = rows[rows["width"] != 50]
    figure = draw(tame, "title", ["optimizer"])
    ax = next(ax for ax in figure.axes if ax.get_ylabel() == "test loss")
    (line,) = dash_dotted(figure, "test loss")
    assert np.nanmax(line.get_ydata()) > ax.get_ylim()[1]
    assert ax.get_ylim()[1] < 2 * tame["test_loss"].max()
    plt.close(figure)


def test_captions_say_that_there_is_theory(closed: pd.DataFrame) -> None:
    assert "Dash-dotted: random-matrix theory" in _panel_caption(closed, "width", {})
    assert "theory" not in _panel_caption(closed.assign(model_bias=True), "width", {})


def test_against_samples_and_penalties_theory_is_at_the_points() -> None:
    runs = [run_of(*TEACHER[:2], "data.n_test=200", f"data.n_train={n}", "width=40", "optimizer=min_norm")
            for n in (20, 60)]  # fmt: skip
    got = overlay.predict(pd.DataFrame(solve_rows(*runs)), "n_train")
    for n in (20, 60):
        assert at(got, "test_loss", n) == pytest.approx(ridge_risk(spectrum(), n, 40, 0.0, 0.25).excess)
    runs = [run_of(*TEACHER, "width=40", "optimizer=ridge", f"optimizer.penalty={c}") for c in (0.1, 5.0)]
    got = overlay.predict(pd.DataFrame(solve_rows(*runs)), "optimizer_penalty")
    assert at(got, "test_loss", 5.0) == pytest.approx(ridge_risk(spectrum(), 50, 40, 5.0 / 40, 0.25).excess)


@pytest.mark.parametrize("changed", [
    {"model": "linear"}, {"model_bias": True}, {"normalization": "scale"}, {"loss": "cross_entropy"},
    {"targets": "linear"}, {"standardize": "feature"}, {"model_activation": "fourier"}, {"inputs": 5},
])  # fmt: skip
def test_other_set_ups_have_no_theory(closed: pd.DataFrame, changed: dict[str, object]) -> None:
    rows = closed[closed["optimizer"] == "min_norm"]
    assert overlay.predict(rows, "width") is not None
    assert overlay.predict(rows.assign(**changed), "width") is None
    assert not overlay.known(rows.assign(**changed))


@pytest.mark.parametrize("changed", [
    {"optimizer": "adam"}, {"batch_size": 10}, {"stop_loss": 1e-3}, {"optimizer_weight_decay": 0.1},
    {"steps": 50}, {"init": "of_my_own"},
])  # fmt: skip
def test_what_is_no_flow_has_the_theory_of_its_limit(descent: pd.DataFrame, changed: dict[str, object]) -> None:
    assert overlay.predict(descent, "width") is not None
    rows = descent.assign(**changed)
    assert overlay.predict(rows, "width") is None
    limit = overlay.predict_limit(rows, "width")
    assert at(limit, "test_loss", 30) == pytest.approx(ridge_risk(spectrum(), 50, 30, 0.0, 0.25).excess)
    figure = draw(rows, "title", ["optimizer"])
    assert "theory of the min-norm limit" in [t.get_text() for t in figure.legends[0].get_texts()]
    assert not dash_dotted(figure, "train loss")
    plt.close(figure)


def test_tables_without_the_columns_have_no_theory() -> None:
    assert overlay.predictions([({}, synthetic.runs())], synthetic.runs(), "width") == ([None], None)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A population that is decomposed in no time."""
    monkeypatch.setattr(overlay, "POPULATION", 500)
    overlay._data_spectrum.cache_clear()


def test_digits_have_the_theory_of_their_own_spectrum(small: None) -> None:
    rows = table("data.n_train=100", "data.n_test=1000", "optimizer=min_norm", seeds=3, widths=(30, 60, 200, 400))
    got = overlay.predict(rows, "width")
    medians = rows.groupby("width").median(numeric_only=True)
    for width in (30, 60, 200, 400):
        assert at(got, "test_loss", width) == pytest.approx(medians.loc[width, "test_loss"], rel=0.2)
        assert at(got, "feature_condition", width) == pytest.approx(medians.loc[width, "feature_condition"], rel=0.25)
    assert overlay.predict(rows.assign(label_noise=0.1), "width") is None
    assert overlay.predict(rows.assign(data_sha256="of other digits"), "width") is None
    assert overlay.predict(rows.assign(n_train=600), "width") is None
