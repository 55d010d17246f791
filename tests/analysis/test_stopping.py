"""Early stopping along the width: which runs a line takes, and which tables have the figure."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from analysis.layout import layout_of
from analysis.peaks import table
from analysis.setups import draw_table
from analysis.stopping import draw_stopping, has_stopping
from analysis.tables import load_runs
from tests.analysis.synthetic import WIDTHS, peaked, runs


def stopped(row: dict[str, object]) -> dict[str, float]:
    """The peak goes where the best step is taken, or samples are held out."""
    width = float(row["width"])  # type: ignore[arg-type]
    numbers = peaked(row) | {"best_test_loss": 2 / width}
    return numbers if row["validation"] == 0 else numbers | {"test_loss": 3 / width, "best_test_loss": 2.5 / width}


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    found = runs(numbers=stopped, validation=(0.0, 0.2), optimizer=("adam", "sgd"), batch_size=(10,))
    held = found["validation"] > 0
    own = {"n_validation": (10, 0), "interpolation_width": (40.0, 50.0), "steps": (80, 100), "epochs": (20.0, 20.0)}
    return found.assign(**{name: np.where(held, *values) for name, values in own.items()})


def test_a_line_is_a_way_of_stopping_and_a_panel_a_setting(rows: pd.DataFrame) -> None:
    assert layout_of(rows).line_axes == ["optimizer", "validation"]
    figure = draw_stopping(rows, "title", ["optimizer", "validation"])
    assert [ax.get_title() for ax in figure.axes] == ["adam", "sgd"]
    lines = [line.get_ydata() for line in figure.axes[0].get_lines() if len(line.get_xdata()) == len(WIDTHS)]
    end = [1.1 * peaked({"width": w, "seed": 0})["test_loss"] for w in WIDTHS]
    np.testing.assert_allclose(lines, [end, 2 / np.array(WIDTHS), 3 / np.array(WIDTHS)])
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["at the end", "at the best step of the curve", "by validation, 0.2 held out"]
    plt.close(figure)


def test_tables_with_and_without_samples_held_out_have_it(rows: pd.DataFrame, tmp_path: Path) -> None:
    assert not has_stopping(rows, ["optimizer"])
    assert not has_stopping(rows[rows["validation"] > 0], ["optimizer", "validation"])
    assert not has_stopping(pd.concat(rows.assign(lr=lr) for lr in (1, 2, 3)), ["optimizer", "lr", "validation"])
    drawings = draw_table(rows[(rows["seed"] == 0) & (rows["optimizer"] == "sgd")], "t", tmp_path)
    assert [drawing.png.name for drawing in drawings] == ["t.png", "t-stopping.png"]
    assert "for the best step of the same runs" in drawings[1].caption


def test_runs_of_the_same_samples_are_one_figure_also_beside_rows_of_an_older_dd(
    rows: pd.DataFrame, tmp_path: Path
) -> None:
    folder = tmp_path / "t" / "runs"
    folder.mkdir(parents=True)
    rows.assign(n_train=rows["n_train"] - rows["n_validation"]).to_parquet(folder / "new.parquet")
    old = rows[rows["validation"] == 0].drop(columns=["validation", "n_validation"])
    old.assign(run_id="old " + old["run_id"]).to_parquet(folder / "old.parquet")
    found = load_runs(tmp_path, "t")
    assert found["n_train"].tolist() == [50] * len(found)
    assert found.groupby("validation").size().tolist() == [2 * len(old), len(old)]


def test_full_batches_of_other_shares_are_one_setting(rows: pd.DataFrame) -> None:
    full = rows.assign(batch_size=rows["n_train"] - rows["n_validation"])
    assert layout_of(full).line_axes == ["optimizer", "validation"]
    sizes = pd.concat(full.assign(n_train=n, batch_size=n - full["n_validation"]) for n in (20, 40, 60, 80))
    along = table(sizes[(sizes["width"] == 50) & (sizes["optimizer"] == "sgd")], "n_train")
    assert along["condition"].tolist() == ["validation 0", "validation 0.2"]
