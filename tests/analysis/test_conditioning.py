"""Conditioning along the width: solid at the end, dashed at the start, for trained features measured in full.

Covers: analysis/conditions.py.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from analysis.conditioning import draw_conditioning, has_conditioning
from analysis.conditions import trained_features
from analysis.setups import draw_table
from tests.analysis.synthetic import WIDTHS, peaked, runs


def measured(row: dict[str, object]) -> dict[str, float]:
    width = float(row["width"])  # type: ignore[arg-type]
    own = {"feature_condition_init": 3 * width, "ntk_condition": 1e6 / width, "ntk_condition_init": 1e8 / width}
    return peaked(row) | own | {"hessian_lambda_max": width**0.5}


@pytest.fixture(scope="module")
def full() -> pd.DataFrame:
    return runs(numbers=measured, model=("rmt",), measure=("full",), optimizer=("adam", "muon"))


def test_only_trained_features_measured_in_full_have_it(full: pd.DataFrame) -> None:
    assert has_conditioning(full)
    assert has_conditioning(full.assign(ntk_condition=np.nan))
    assert not has_conditioning(full.assign(measure="basic"))
    assert not has_conditioning(full.assign(model="random_features"))
    assert not has_conditioning(full.assign(ntk_condition=np.nan, hessian_lambda_max=np.nan))


def test_panels_hold_end_and_start(full: pd.DataFrame) -> None:
    figure = draw_conditioning(full, "title", ["optimizer"])
    panels = {ax.get_ylabel(): ax for ax in figure.axes}
    assert list(panels) == [
        "test loss", "condition number of the features", "condition number of the tangent kernel",
        "largest eigenvalue of the Hessian",
    ]  # fmt: skip
    widths = np.array(WIDTHS, float)
    lines = {name: [k for k in ax.get_lines() if len(k.get_xdata()) == len(WIDTHS)] for name, ax in panels.items()}
    styles = {name: [line.get_linestyle() for line in found] for name, found in lines.items()}
    assert list(styles.values()) == [["-"] * 2, ["-", "--"] * 2, ["-", "--"] * 2, ["-"] * 2]
    features, kernel, hessian = list(lines.values())[1:]
    np.testing.assert_allclose(features[1].get_ydata(), 3 * widths)
    np.testing.assert_allclose([kernel[0].get_ydata(), kernel[1].get_ydata()], [1e6 / widths, 1e8 / widths])
    np.testing.assert_allclose(hessian[0].get_ydata(), np.sqrt(widths))
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["adam", "muon", "at the start"]
    plt.close(figure)


def test_a_table_measured_in_full_has_the_figure_beside_its_panels(full: pd.DataFrame, tmp_path) -> None:
    small = full[(full["seed"] == 0) & (full["optimizer"] == "adam")]
    drawings = draw_table(small, "t", tmp_path)
    assert [d.png.name for d in drawings] == ["t.png", "t-conditioning.png"]
    assert "Dashed: at its start." in drawings[1].caption


def test_trained_features_are_a_column_and_older_tables_go_by_the_models_name() -> None:
    rows = pd.DataFrame({"model": ["rmt", "random_features", "mine", "two_layer"]})
    assert trained_features(rows).tolist() == [True, False, False, True]
    mixed = rows.assign(trained_features=[None, None, True, None])
    assert trained_features(mixed).tolist() == [True, False, True, True]
    assert trained_features(mixed.assign(trained_features=False)).tolist() == [False] * 4
