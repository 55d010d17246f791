"""Budgets side by side: what is in the artists, and which tables have them."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import setups
from analysis.budgets import draw_budgets
from tests.analysis.synthetic import WIDTHS, peaked, runs

BUDGETS = (20, 40, 80, 160, 320)


def outcome(row: dict[str, object]) -> dict[str, float]:
    """Losses that tell budgets and settings apart."""
    factor = float(row["lr"]) / float(row["steps"]) * (2 if row["optimizer"] == "muon" else 1)  # type: ignore[arg-type]
    return {name: value * factor for name, value in peaked(row).items()}


@pytest.fixture(scope="module")
def crossing() -> pd.DataFrame:
    axes = {"model": ("rmt",), "optimizer": ("adam", "muon"), "lr": (0.003, 0.01), "steps": BUDGETS}
    return runs(numbers=outcome, **axes)


def test_a_column_is_a_setting_and_a_line_a_budget(crossing: pd.DataFrame) -> None:
    figure = draw_budgets(crossing, "title", "steps", ["optimizer", "lr"])
    columns = ["adam, lr 0.003", "adam, lr 0.01", "muon, lr 0.003", "muon, lr 0.01"]
    grid = np.array(figure.axes).reshape(3, 4)
    assert [ax.get_title() for ax in grid[0]] == columns
    assert [ax.get_ylabel() for ax in grid[:, 0]] == ["test error (0-1)", "test loss", "train loss"]
    assert {ax.get_xlabel() for ax in grid[-1]} == {"width k"}
    assert all([t.get_text() for t in ax.texts] == ["threshold 50"] for ax in grid[0])
    own = crossing[(crossing.optimizer == "muon") & (crossing.lr == 0.003)]
    lines = [line for line in grid[1, 2].get_lines() if len(line.get_xdata()) == len(WIDTHS)]
    expected = own.groupby(["steps", "width"])["test_loss"].median().unstack().loc[list(BUDGETS)]
    np.testing.assert_allclose([line.get_ydata() for line in lines], expected)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [f"steps {b}" for b in BUDGETS]
    greens = [line.get_color()[1] for line in lines]
    assert greens == sorted(greens), "an ordered axis has an ordered colour"
    plt.close(figure)


def test_a_budget_that_diverged_is_marked(crossing: pd.DataFrame) -> None:
    lost = (crossing["steps"] == 320) & (crossing["width"] == 200) & (crossing["optimizer"] == "adam")
    rows = crossing.assign(status=crossing["status"].mask(lost, "diverged"))
    figure = draw_budgets(rows, "title", "steps", ["optimizer"])
    crosses = [[line for line in ax.get_lines() if line.get_marker() == "x"] for ax in figure.axes[:2]]
    assert [[list(line.get_xdata()) for line in found] for found in crosses] == [[[200]], []]
    plt.close(figure)


def names_of(rows: pd.DataFrame, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that a table would have."""

    def close(figure: Figure, stem: Path) -> Path:
        plt.close(figure)
        return stem.with_name(stem.name + ".png")

    monkeypatch.setattr(setups, "save", close)
    return [drawing.png.name for drawing in setups.draw_table(rows, "t", folder)]


def test_a_crossing_with_budgets_has_them_side_by_side_and_each_alone(
    crossing: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = [f"t-steps={b}.png" for b in BUDGETS]
    assert names_of(crossing, tmp_path, monkeypatch) == ["t-budgets.png", *each]
    few = crossing[crossing["steps"] <= 40]
    assert names_of(few, tmp_path, monkeypatch) == ["t.png"]
    more = pd.concat([crossing, crossing[crossing.lr == 0.01].assign(lr=0.03)])
    parts = ["t-optimizer=adam-budgets.png", "t-optimizer=muon-budgets.png"]
    assert names_of(more, tmp_path, monkeypatch) == ["t.png", *parts], "a bundle of 30 curves, and its budgets"
