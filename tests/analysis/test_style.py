"""Style: readable ticks at any range, files that do not depend on the day, and what a small figure looks like.

Covers: analysis/panels.py.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.testing.compare import compare_images
from PIL import Image

from analysis.maps import Map, draw_maps
from analysis.panels import draw
from analysis.style import SHEET, log_ticks, mark_thresholds, save, subplots
from tests.analysis.synthetic import runs

BASELINES = Path(__file__).parent / "baselines"
TOLERANCE = 12
"""Root mean square of the 256 levels: room for another version's text, none for another line."""


@pytest.mark.parametrize(
    ("low", "high"), [(9, 2100), (2, 6e4), (1, 39), (180, 220), (1e-10, 0.1), (0.03, 0.09), (4, 80)]
)
def test_a_logarithmic_axis_has_some_labels_and_not_too_many(low: float, high: float) -> None:
    figure, ax = plt.subplots()
    ax.set(xscale="log", xlim=(low, high))
    log_ticks(ax.xaxis, low, high)
    figure.draw_without_rendering()
    inside = [t for t in ax.get_xticks() if low <= t <= high]
    labels = [t.get_text() for t in ax.get_xticklabels() if low <= t.get_position()[0] <= high]
    assert 2 <= len(inside) <= 9
    assert len(set(labels)) == len(labels)
    plt.close(figure)


def _ticks(shared: bool) -> plt.Figure:
    """Logarithmic axes with ticks of all kinds: few decades, many, less than one, of a shared scale, and plain ones."""
    figure, ((a, b), (c, d)) = plt.subplots(2, 2, figsize=(5, 4), sharex="col" if shared else "none")
    a.set(xscale="log", yscale="log", xlim=(9, 2100), ylim=(1e-9, 3))
    log_ticks(a.yaxis, 1e-9, 3)
    b.set(xscale="log", yscale="log", xlim=(3, 7), ylim=(2, 80), xlabel="x")
    log_ticks(b.xaxis, 3, 7)
    log_ticks(b.yaxis, 2, 80, most=3)
    c.set(xscale="log", xlim=(9, 2100), ylabel="y")
    log_ticks(c.xaxis, 9, 2100)
    d.set(yscale="log", ylim=(100, 0.1))  # downwards, and with matplotlib's own labels
    for i, ax in enumerate((a, b, c, d)):
        ax.plot([1, 10, 100], [1, 10, i + 1])
    return figure


@pytest.mark.parametrize("shared", [True, False])
def test_files_look_as_matplotlib_draws_the_figure(shared: bool, tmp_path: Path) -> None:
    with plt.style.context(SHEET):
        figure = _ticks(shared)
        engine = figure.get_layout_engine()
        assert engine is not None
        engine.execute(figure)
        figure.set_layout_engine("none")
        figure.savefig(tmp_path / "plain.png")
        plt.close(figure)
        save(_ticks(shared), tmp_path / "saved")
    plain, saved = (
        np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int) for name in ("plain", "saved")
    )
    assert plain.shape == saved.shape
    assert np.abs(plain - saved).max() < 32  # 256 colours


def test_thresholds_outside_the_limits_are_not_drawn() -> None:
    figure, ax = plt.subplots()
    ax.set(xscale="log", xlim=(10, 100))
    mark_thresholds(ax, [5.0, 49.0, 50.0], named=True)
    assert [line.get_xdata()[0] for line in ax.get_lines()] == [49, 50]
    assert [t.get_text() for t in ax.texts] == ["threshold 49, 50"]
    plt.close(figure)


def test_the_same_figure_gives_the_same_bytes(tmp_path: Path) -> None:
    paths = []
    for name in ("a", "b"):
        with plt.style.context(SHEET):
            figure, ((ax,),) = subplots(figsize=(2, 1))
            ax.plot([1, 2])
            paths.append(save(figure, tmp_path / name))
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    with Image.open(paths[0]) as image:
        assert image.mode == "P"
        assert image.size == (400, 200)


def _panels(factor: float) -> plt.Figure:
    rows = runs(lr=(0.1, 1.0))
    return draw(rows.assign(test_loss=rows.test_loss * (1 + (rows.width == 50) * (factor - 1))), "title", ["lr"])


def _map(factor: float) -> plt.Figure:
    x, y = np.array([1.0, 10.0, 100.0]), np.array([1.0, 10.0, 100.0, 1000.0])
    values = np.outer(1 / y, x)
    values[2, 1] *= factor
    return draw_maps([Map("a map", x, y, values, values, (10.0,))], "title", "test_loss", "epoch", level=0.5)


@pytest.mark.parametrize(("name", "make"), [("panels", _panels), ("map", _map)])
def test_small_figures_look_as_they_did(name: str, make: object, tmp_path: Path) -> None:
    """Save ``actual.png`` as the baseline where a change is meant."""
    for factor, file in ((1.0, "actual"), (40.0, "changed")):
        with plt.style.context(SHEET):
            figure = make(factor)  # type: ignore[operator]
            figure.savefig(tmp_path / f"{file}.png", dpi=50, metadata={"Software": None})
            plt.close(figure)
    baseline = tmp_path / "baseline.png"
    with Image.open(BASELINES / f"{name}.png") as image:
        image.convert("RGB").save(baseline)
    for file in ("actual", "changed"):
        with Image.open(tmp_path / f"{file}.png") as image:
            image.convert("RGB").save(tmp_path / f"{file}.png")
    assert compare_images(str(baseline), str(tmp_path / "actual.png"), TOLERANCE) is None
    assert compare_images(str(baseline), str(tmp_path / "changed.png"), TOLERANCE) is not None, "it sees nothing"
