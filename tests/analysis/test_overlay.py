"""Theory beside random features: what is drawn, where, and what has none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from analysis import overlay
from analysis.layout import layout_of
from analysis.panels import draw
from analysis.setups import _figures as figures_of
from dd.packs.content import identified
from dd.runs.settings import Settings
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
    runs = identified([run_of(*overrides, f"width={width}") for width in widths], Settings())
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
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [
        "min norm", "ridge", "min-norm limit", "theory", "≤ 10⁻¹⁰, or zero",
    ]  # fmt: skip
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


def caption_of(rows: pd.DataFrame) -> str:
    figure, caption = next((f, c) for _, f, c in figures_of(rows, layout_of(rows), pd.DataFrame()))
    assert ("-." in {line.get_linestyle() for ax in figure.axes for line in ax.get_lines()}) == ("Dash-dot" in caption)
    plt.close("all")
    return caption


def test_captions_say_whether_theory_was_drawn(closed: pd.DataFrame, descent: pd.DataFrame, small: None) -> None:
    assert "Dash-dotted: random-matrix theory" in caption_of(closed)
    assert "Dash-dotted: random-matrix theory" in caption_of(descent.assign(optimizer="adam"))  # of the limit
    assert "theory" not in caption_of(closed.assign(model_bias=True))
    digits = closed.assign(data="digits", data_sha256="of other digits")
    assert overlay._has_limit(digits)  # known only after a look at the samples
    assert "theory" not in caption_of(digits)


def test_the_condition_number_of_all_lines_is_that_of_the_line_with_most_points(
    closed: pd.DataFrame, descent: pd.DataFrame
) -> None:
    own = closed[closed["optimizer"] == "min_norm"]
    figure = draw(pd.concat([descent.assign(optimizer="gd"), own]), "title", ["optimizer"])
    assert len(dash_dotted(figure, "test loss")[0].get_xdata()) == len(WIDTHS)  # gradient descent comes first
    (condition,) = dash_dotted(figure, "condition number of the features")
    assert len(condition.get_xdata()) > 40
    plt.close(figure)


def test_a_value_between_unknown_ones_is_drawn_as_a_point(descent: pd.DataFrame) -> None:
    unstable = descent["width"].isin([20, 50])
    figure = draw(descent.assign(sharpness_init=np.where(unstable, 1e9, 1e-9)), "title", ["optimizer"])
    (line,) = dash_dotted(figure, "test loss")
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert np.isfinite(y).tolist() == [False, True, False, True]
    assert x[line.get_markevery()].tolist() == [30, 100]
    plt.close(figure)


@pytest.mark.parametrize(("optimizer", "limit"), [
    ("gradient_flow", np.inf), ("gd", 2.0), ("sgd", 2.0), ("momentum", 3.8),
])  # fmt: skip
def test_steps_beyond_the_stability_limit_have_no_flow(descent: pd.DataFrame, optimizer: str, limit: float) -> None:
    rows = descent.assign(optimizer=optimizer, lr_absolute=0.01, optimizer_momentum=0.9)
    below, beyond = (rows.assign(sharpness_init=100 * c) for c in (min(limit, 1e6) - 0.01, limit + 0.01))
    assert overlay.predict(below, "width") is not None
    assert (overlay.predict(beyond, "width") is None) == np.isfinite(limit)
    assert overlay.predict(rows.drop(columns="sharpness_init"), "width") is not None
    mixed = below.assign(sharpness_init=below["sharpness_init"].where(rows["width"] != 30, 1e9))
    assert np.isnan(at(overlay.predict(mixed, "width"), "test_loss", 30)) == np.isfinite(limit)
    assert np.isfinite(at(overlay.predict(mixed, "width"), "test_loss", 20))


def test_fewer_than_ten_samples_or_features_have_no_theory() -> None:
    few = table(*TEACHER, "optimizer=min_norm", seeds=1, widths=(1, 9, 10, 20))
    got = overlay.predict(few, "width")
    for column in ("test_loss", "train_loss", "feature_condition"):
        assert np.isnan([at(got, column, width) for width in (1, 9)]).all()
        assert np.isfinite([at(got, column, width) for width in (10, 20)]).all()
    samples = few.iloc[[2, 3]].assign(width=40, n_train=[9, 10])
    assert np.isfinite(at(overlay.predict(samples, "n_train"), "test_loss", 10))
    assert overlay.predict(samples.iloc[[0]], "n_train") is None


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_lines_without_finished_runs_have_no_theory(closed: pd.DataFrame, status: str) -> None:
    assert overlay.predict(closed[closed["optimizer"] == "min_norm"].assign(status=status), "width") is None
    assert overlay.predict_limit(closed.assign(status=status), "width") is None


def test_against_samples_and_penalties_theory_is_at_the_points() -> None:
    runs = [run_of(*TEACHER[:2], "data.n_test=200", f"data.n_train={n}", "width=40", "optimizer=min_norm")
            for n in (20, 40, 60)]  # fmt: skip
    got = overlay.predict(pd.DataFrame(solve_rows(*runs)), "n_train")
    for n in (20, 41, 60):  # 41 is no measured one
        assert at(got, "test_loss", n) == pytest.approx(ridge_risk(spectrum(), n, 40, 0.0, 0.25).excess)
    assert np.isnan(at(got, "test_loss", 40))
    assert got is not None
    assert len(got.x) > 30
    runs = [run_of(*TEACHER, "width=40", "optimizer=ridge", f"optimizer.penalty={c}") for c in (0.1, 5.0)]
    got = overlay.predict(pd.DataFrame(solve_rows(*runs)), "optimizer_penalty")
    assert at(got, "test_loss", 5.0) == pytest.approx(ridge_risk(spectrum(), 50, 40, 5.0 / 40, 0.25).excess)


@pytest.mark.parametrize("changed", [
    {"model": "linear"}, {"model_bias": True}, {"normalization": "layer_norm"}, {"loss": "cross_entropy"},
    {"targets": "linear"}, {"standardize": "feature"}, {"model_activation": "fourier"}, {"inputs": 5},
])  # fmt: skip
def test_other_set_ups_have_no_theory(closed: pd.DataFrame, changed: dict[str, object]) -> None:
    rows = closed[closed["optimizer"] == "min_norm"]
    assert overlay.predict(rows, "width") is not None
    assert overlay.predict(rows.assign(**changed), "width") is None


@pytest.mark.parametrize("changed", [
    {"optimizer": "adam"}, {"batch_size": 10}, {"stop_loss": 1e-3}, {"optimizer_weight_decay": 0.1},
    {"steps": 50}, {"init": "of_my_own"}, {"schedule": "cosine"}, {"schedule": "constant", "schedule_warmup": 9},
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


@pytest.mark.parametrize("column", [
    "status", "optimizer", "model_activation", "model_weights", "data", "standardize", "outputs", "n_train", "width",
    "inputs", "data_noise", "lr_absolute", "stop_loss", "batch_size", "init", "init_scale", "steps",
    "optimizer_momentum",
])  # fmt: skip
def test_tables_that_lack_a_column_have_no_theory(descent: pd.DataFrame, column: str) -> None:
    assert overlay.predict(descent.drop(columns=column), "width") is None


def test_a_ridge_of_unknown_penalty_and_a_hermite_teacher_of_unknown_degrees_have_no_theory(
    closed: pd.DataFrame,
) -> None:
    ridge = closed[closed["optimizer"] == "ridge"]
    assert overlay.predict(ridge.drop(columns="optimizer_penalty"), "width") is None
    assert overlay.predict(ridge.assign(optimizer_penalty=np.nan), "width") is None
    hermite = ridge.assign(data="hermite_teacher", data_c1=1.0, data_c2=0.5, data_c3=0.0)
    assert overlay.predict(hermite, "width") is not None
    assert overlay.predict(hermite.drop(columns="data_c2"), "width") is None
    assert overlay.predict(ridge.drop(columns="model_bandwidth", errors="ignore"), "width") is not None
    cosine = ridge.assign(model_activation="cosine", model_bandwidth=1.0)
    assert overlay.predict(cosine, "width") is not None
    assert overlay.predict(cosine.drop(columns="model_bandwidth"), "width") is None


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A population that is decomposed in no time."""
    monkeypatch.setattr(overlay, "POPULATION", 500)
    overlay._data_problem.cache_clear()


def test_digits_have_the_theory_of_their_own_spectrum(small: None) -> None:
    rows = table("data.n_train=100", "data.n_test=1000", "optimizer=min_norm", seeds=3, widths=(30, 60, 200, 400))
    got = overlay.predict(rows, "width")
    medians = rows.groupby("width").median(numeric_only=True)
    for width in (30, 60, 200, 400):
        assert at(got, "test_loss", width) == pytest.approx(medians.loc[width, "test_loss"], rel=0.2)
        assert at(got, "feature_condition", width) == pytest.approx(medians.loc[width, "feature_condition"], rel=0.25)
    assert overlay.predict(rows.assign(model_bandwidth=np.nan), "width") is not None
    assert overlay._data_problem.cache_info().misses == 1
    assert overlay.predict(rows.assign(label_noise=[0, 0.1] * 6), "width") is None
    assert overlay.predict(rows.assign(data_sha256="of other digits"), "width") is None
    assert overlay.predict(rows.assign(n_train=600), "width") is None


NOISY = ("data.label_noise=0.3",)
SPHERE = ("data.n_train=100", "data.n_test=1000", "data.standardize=sphere")


@pytest.mark.parametrize("changed", [
    NOISY, (*NOISY, "data.label_noise_over=all"), ("normalization=scale",), ("normalization=standardize",),
    (*NOISY, "normalization=standardize"),
])  # fmt: skip
def test_noisy_labels_and_normalised_features_have_their_theory(small: None, changed: tuple[str, ...]) -> None:
    line = (*SPHERE, "optimizer=ridge", "optimizer.penalty=10", *changed)
    rows = table(*line, seeds=6, widths=(50, 300))
    got, means = overlay.predict(rows, "width"), rows.groupby("width").mean(numeric_only=True)
    for width in (50, 300):
        assert at(got, "test_loss", width) == pytest.approx(means.loc[width, "test_loss"], rel=0.08)
        assert at(got, "train_loss", width) == pytest.approx(means.loc[width, "train_loss"], rel=0.15)
    # what clean labels or plain features would have is elsewhere
    plain = overlay.predict(rows.assign(label_noise=0.0, normalization="none"), "width")
    away = [at(plain, c, w) / means.loc[w, c] - 1 for c in ("test_loss", "train_loss") for w in (50, 300)]
    assert max(map(abs, away)) > 0.2


@pytest.mark.parametrize("kind", ["scale", "standardize"])
def test_normalised_features_of_a_teacher_have_their_theory(kind: str) -> None:
    line = (*TEACHER[:2], "data.n_train=80", "data.n_test=1000", "model.weights=sphere", f"normalization={kind}",
            "optimizer=gd", "batch_size=full", "steps=100")  # fmt: skip
    rows = table(*line, seeds=20, widths=(30, 240))
    got, groups = overlay.predict(rows, "width"), rows.groupby("width")
    for column in ("test_loss", "train_loss"):
        for width in (30, 240):
            measured = groups[column].get_group(width)
            error = measured.std() / np.sqrt(len(measured))
            assert abs(at(got, column, width) - measured.mean()) < 3 * error + 0.05 * measured.mean()
    plain = overlay.predict(rows.assign(normalization="none"), "width")
    assert abs(at(plain, "train_loss", 240) / groups["train_loss"].mean()[240] - 1) > 0.2
    # standardised features lose the mean of the samples: the threshold is one sample earlier
    at_threshold = table(*TEACHER, "optimizer=min_norm", f"normalization={kind}", widths=(30, 49, 50, 100))
    infinite = 49 if kind == "standardize" else 50
    limit = overlay.predict(at_threshold, "width")
    assert [w for w in (30, 49, 50, 100) if np.isnan(at(limit, "test_loss", w))] == [infinite]


def test_some_classes_have_the_theory_of_their_own_spectrum(small: None) -> None:
    line = ("data.n_train=100", "data.n_test=500", "optimizer=min_norm")
    rows = table(*line, "data.classes=0,1,2,3,4", seeds=2, widths=(30, 400))
    got = overlay.predict(rows, "width")
    medians = rows.groupby("width").median(numeric_only=True)
    for width in (30, 400):
        assert at(got, "test_loss", width) == pytest.approx(medians.loc[width, "test_loss"], rel=0.25)
    every = overlay.predict(rows.drop(columns="classes"), "width")
    assert at(every, "test_loss", 400) != pytest.approx(medians.loc[400, "test_loss"], rel=0.25)
    assert overlay.predict(rows.assign(n_train=600), "width") is None


def test_a_file_has_the_theory_of_its_own_spectrum(small: None, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(700, 20))
    np.savez(tmp_path / "a.npz", x=x, y=np.tanh(x[:, :1]))
    path = f"data.path={tmp_path}/a.npz"
    rows = table(
        "data=file", path, "data.n_train=100", "data.n_test=500", "optimizer=min_norm", seeds=2, widths=(30, 400)
    )
    got = overlay.predict(rows, "width")
    medians = rows.groupby("width").median(numeric_only=True)
    assert at(got, "test_loss", 400) == pytest.approx(medians.loc[400, "test_loss"], rel=0.3)
    (tmp_path / "a.npz").unlink()
    assert overlay.predict(rows.assign(data_path="elsewhere.npz"), "width") is None
