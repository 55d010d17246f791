"""Figures: what is in the artists, what users are told.

Covers: analysis/labels.py, analysis/words.py.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from analysis import figures, panels, setups
from analysis.curves import LINE_AXES, PANEL_AXES, band, split, varying_axes
from analysis.layout import layout_of
from analysis.tables import load_runs, table_names
from dd.results import Store
from tests.analysis import synthetic
from tests.helpers import run_of, solve_rows

WIDTHS = (20, 40, 60, 80)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    base = run_of("data.n_train=50", "data.n_test=60", "epochs=3")
    runs = [base.replace(width=w, seed=s, lr=lr) for w in WIDTHS for s in range(3) for lr in (0.3, 0.6)]
    runs += [run_of("data.n_train=50", "data.n_test=60", "optimizer=adam", "epochs=3", f"width={w}") for w in WIDTHS]
    return solve_rows(*runs)


@pytest.fixture
def table(rows: list[dict[str, object]], results: Path) -> Path:
    store = Store(results, "small")
    store.open()
    store.append("a", rows[:10], [], {}, {})
    store.append("b", rows[10:], [], {}, {})
    return results


def test_band_is_median_and_quantiles() -> None:
    values = [1, 2, 3, 4, 100, 5, 7, 1e9]
    frame = pd.DataFrame({"width": [10] * 5 + [20] * 3, "status": ["ok"] * 7 + ["diverged"], "x": values})
    got = band(frame, "x")
    assert got.x.tolist() == [10, 20]
    assert got.median.tolist() == [3, 6]
    np.testing.assert_allclose(got.low, [np.quantile([1, 2, 3, 4, 100], 0.1), 5.2])
    np.testing.assert_allclose(got.high, [np.quantile([1, 2, 3, 4, 100], 0.9), 6.8])
    assert got.seeds == 5


def test_lines_are_what_varies_within_an_optimizer(table: Path) -> None:
    frame = load_runs(table, "small")
    assert varying_axes(frame, LINE_AXES, ("optimizer_",)) == ["optimizer", "lr"]
    assert varying_axes(frame, PANEL_AXES, ("model_", "data_")) == []
    assert len(list(split(frame, ["optimizer", "lr"]))) == 3


def test_artists_hold_the_medians(table: Path) -> None:
    frame = load_runs(table, "small")
    figure = panels.draw(frame, "title", ["optimizer", "lr"])
    axes = {ax.get_ylabel(): ax for ax in figure.axes}
    assert list(axes) == ["test error (0-1)", "test loss", "train loss", "condition number of the features"]
    loss = axes["test loss"]
    assert loss.get_xscale() == loss.get_yscale() == "log"
    expected = frame[(frame.optimizer == "sgd") & (frame.lr == 0.3)].groupby("width").test_loss.median()
    drawn = [line for line in loss.get_lines() if len(line.get_xdata()) == len(WIDTHS)]
    assert any(np.allclose(line.get_ydata(), expected) for line in drawn)
    limit = frame.groupby("width").min_norm_test_loss.first()
    dashed = [line for line in drawn if line.get_linestyle() == "--"]
    assert len(dashed) == 1
    assert np.all(dashed[0].get_ydata() > 0)
    assert dashed[0].get_xdata().tolist() == limit.index.tolist()
    thresholds = [line for ax in figure.axes for line in ax.get_lines() if list(line.get_xdata()) == [50, 50]]
    assert len(thresholds) == 4
    assert len(loss.collections) == 2, "bands where there are several seeds"
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert labels == ["adam, lr 0.001", "sgd, lr 0.3", "sgd, lr 0.6", "min-norm limit", "theory of the min-norm limit"]
    plt.close(figure)


def test_frozen_features_have_one_condition_curve(table: Path) -> None:
    frame = load_runs(table, "small")
    one_seed = frame[frame.seed == 0]
    figure = panels.draw(one_seed, "title", ["optimizer", "lr"])
    panel = figure.axes[-1]
    assert len([line for line in panel.get_lines() if len(line.get_xdata()) == len(WIDTHS)]) == 1
    plt.close(figure)


def test_every_table_is_drawn_as_png_and_pdf(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table_names(table) == ["small"]
    assert figures.main(["--results", str(table), "--out", str(tmp_path / "out")]) == 0
    first, *printed, report = capsys.readouterr().out.splitlines()
    assert first.startswith("small: 1 figure, ")
    assert Path(report).name == "index.html"
    assert {Path(p).name for p in printed} == {"small.png", "small.pdf"}
    for path in (Path(p.strip()) for p in printed):
        assert path.stat().st_size > 10_000
    assert (tmp_path / "out/small.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out/small.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.usefixtures("unsaved")
def test_set_ups_get_figures_of_their_own(rows: list[dict[str, object]], tmp_path: Path) -> None:
    frame = pd.DataFrame(rows)
    noisy = frame.assign(label_noise=0.2, test_loss=frame.test_loss * 2)
    written = setups.draw_table(pd.concat([frame, noisy]), "both", tmp_path)
    assert {d.png.name for d in written} == {"both-label_noise=0.0.png", "both-label_noise=0.2.png"}


@pytest.mark.usefixtures("unsaved")
def test_many_lines_are_spread_over_figures(rows: list[dict[str, object]], tmp_path: Path) -> None:
    frame = pd.DataFrame(rows)
    many = pd.concat([frame.assign(batch_size=b) for b in (1, 2, 5, 10)])
    written = [d.png.name for d in setups.draw_table(many, "many", tmp_path)]
    assert written == ["many-optimizer=adam.png", "many-optimizer=sgd.png"]


def test_real_targets_have_no_error_panel() -> None:
    base = run_of("data=linear_teacher", "epochs=2")
    frame = pd.DataFrame(solve_rows(*(base.replace(width=w) for w in WIDTHS)))
    figure = panels.draw(frame, "t", ["optimizer"])
    assert [ax.get_ylabel() for ax in figure.axes] == ["test loss", "train loss", "condition number of the features"]
    plt.close(figure)


def test_options_follow_their_component_and_one_width_is_drawn(rows: list[dict[str, object]], tmp_path: Path) -> None:
    frame = pd.DataFrame(rows)
    normed = frame.assign(normalization="batch_norm", normalization_eps=1e-5, normalization_affine=True)
    both = pd.concat([frame, normed])
    assert varying_axes(both, LINE_AXES, ("normalization_",)) == ["optimizer", "lr", "normalization"]
    one = frame[frame.width == WIDTHS[0]]
    figure = panels.draw(one, "t", ["optimizer", "lr"])
    for ax in figure.axes:
        low, high = ax.get_xlim()
        assert low < WIDTHS[0] < high
        assert any(len(line.get_xdata()) == 1 for line in ax.get_lines())
    plt.close(figure)


def test_without_results_it_says_what_makes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert figures.main(["--results", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    assert "make sweep" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unreadable_part_is_one_line(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = table / "small/runs/a.parquet"
    part.write_bytes(part.read_bytes()[:50])
    assert figures.main(["--results", str(table), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "a.parquet is not a readable parquet file" in error
    assert error.count("\n") == 1


def test_a_table_that_cannot_be_drawn_leaves_the_others(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[dict[str, object]]
) -> None:
    for name in ("broken", "odd"):
        store = Store(table, name)
        store.open()
        store.append("a", rows[:3], [], {}, {})
    (table / "broken/runs/a.parquet").write_bytes(b"PAR1")
    part = table / "odd/runs/a.parquet"
    pd.read_parquet(part).drop(columns="width").to_parquet(part)
    assert figures.main(["--results", str(table), "--out", str(tmp_path / "out"), "--jobs", "1"]) == 1
    told = capsys.readouterr()
    assert "small: 1 figure" in told.out
    assert "broken/runs/a.parquet is not a readable parquet file" in told.err
    assert "figures: odd failed" in told.err
    assert "KeyError: 'width'" in told.err
    assert not (tmp_path / "out/index.html").exists()


def test_several_processes_draw_what_one_does(table: Path, tmp_path: Path, rows: list[dict[str, object]]) -> None:
    store = Store(table, "iterations")  # of the study
    store.open()
    store.append("a", rows[:10], [], {}, {})
    for jobs in ("1", "2"):
        assert figures.main(["--results", str(table), "--out", str(tmp_path / jobs), "--jobs", jobs]) == 0
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / jobs).iterdir()} for jobs in ("1", "2"))
    assert one == two
    assert len(one) == 2 * 4 + 2 + 3  # figures and cards, peaks of each table, and the page with its numbers


@pytest.mark.usefixtures("unsaved")
def test_a_figure_of_diverged_runs_alone_is_left_out(tmp_path: Path) -> None:
    """Many lines are spread over figures; one of them may have nothing to draw."""
    base = ("data.n_train=20", "data.n_test=20", "batch_size=full", "steps=2000")
    rows = [
        row
        for o in ("gd", "momentum", "nesterov") for lr in (0.1, 0.2, 0.3, 0.4) for w in (5, 30)
        for row in solve_rows(run_of(*base, f"width={w}", f"optimizer={o}", f"lr={lr * (100 if o == 'gd' else 1)}"))
    ]  # fmt: skip
    assert {row["status"] for row in rows if row["optimizer"] == "gd"} == {"diverged"}
    drawn = [d.png.name for d in setups.draw_table(pd.DataFrame(rows), "t", tmp_path)]
    assert drawn
    assert not any("optimizer=gd" in name for name in drawn)


@pytest.mark.usefixtures("unsaved")
def test_along_samples_full_batches_and_epochs_do_not_split_curves(tmp_path: Path) -> None:
    rows = synthetic.runs((50,), n_train=(20, 50, 100), lr=(0.1, 0.5)).assign(epochs=100.0)
    rows["batch_size"] = rows["n_train"]
    minibatches = rows.assign(batch_size=10, steps=rows["n_train"] * 10)
    for table in (rows, minibatches):
        layout = layout_of(table)
        assert (layout.x, layout.panel_axes, layout.line_axes) == ("n_train", [], ["lr"])
        assert [d.png.name for d in setups.draw_table(table, "samples", tmp_path)] == ["samples.png"]
    crossed = pd.concat([rows.assign(batch_size=b) for b in (5, 10)])
    assert layout_of(crossed).line_axes == ["lr", "batch_size"]


def test_a_budget_in_epochs_is_not_taken_for_steps() -> None:
    """Batch sizes at equal epochs differ in steps, but it is the batch size that is swept."""
    rows = pd.concat([synthetic.runs(batch_size=(b,), steps=(1000 // b,)) for b in (10, 50)])
    assert layout_of(rows).line_axes == ["batch_size"]
    swept = pd.concat([rows.assign(epochs=e, steps=rows["steps"] * e) for e in (100, 200)])
    assert layout_of(swept).line_axes == ["batch_size", "epochs"]


@pytest.mark.usefixtures("unsaved")
def test_a_large_crossing_is_one_bundle_for_each_label_noise(tmp_path: Path) -> None:
    axes = {"lr": (0.1, 0.2, 0.3), "steps": (10, 100, 1000), "init_scale": (0.0, 1.0, 2.0)}
    rows = synthetic.runs(seeds=1, label_noise=(0.0, 0.1), model_activation=("relu", "tanh"), **axes)
    layout = layout_of(rows)
    assert layout.crowded
    assert layout.panel_axes == ["label_noise"]
    assert set(layout.line_axes) == {"model_activation", *axes}
    names = [d.png.name for d in setups.draw_table(rows, "claim", tmp_path)]
    assert names == ["claim-label_noise=0.0.png", "claim-label_noise=0.1.png"]


@pytest.mark.usefixtures("unsaved")
def test_logged_steps_give_a_map_and_few_widths_a_figure_along_training(tmp_path: Path) -> None:
    rows = synthetic.runs(steps=(100,))
    curves = synthetic.logged(rows, (0, 1, 2, 5, 10, 100), lambda s, r: r["width"] / (1 + s))
    names = [d.png.name for d in setups.draw_table(rows, "t", tmp_path, curves)]
    assert names == ["t.png", "t-epochs.png", "t-map.png"]
    title = "title"
    figure = panels.draw(curves[curves.epoch > 0], title, ["width"], "epoch")
    assert [ax.get_ylabel() for ax in figure.axes][-1] == "train error (0-1)"
    narrow = curves[(curves.width == 10) & (curves.epoch > 0)].groupby("epoch")["test_loss"].median()
    lines = [line for line in figure.axes[1].get_lines() if len(line.get_xdata()) == len(narrow)]
    assert any(np.allclose(line.get_ydata(), narrow) for line in lines)
    plt.close(figure)


@pytest.mark.usefixtures("unsaved")
def test_penalties_beside_widths_have_a_map(tmp_path: Path) -> None:
    rows = synthetic.runs(optimizer=("ridge",), optimizer_penalty=(1e-4, 1e-2, 1.0))
    assert [d.png.name for d in setups.draw_table(rows, "ridge", tmp_path)] == ["ridge.png", "ridge-map.png"]


def test_all_tables_at_once_give_the_report(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--results", str(table), "--out", str(tmp_path)]
    assert figures.main([*arguments, "--name", "small"]) == 0
    assert not (tmp_path / "index.html").exists()
    assert figures.main(arguments) == 0
    assert str(tmp_path / "index.html") in capsys.readouterr().out
    page = (tmp_path / "index.html").read_text()
    assert "results/small" in page
    assert page.count("<img") == 2, "the card and the figure"
