"""Theory beside measurement, and effective parameters as x.

Covers: analysis/effective.py.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from analysis.effective import draw_effective, has_effective
from analysis.panels import draw
from analysis.theory import reference
from tests.analysis.synthetic import runs


def of_a_teacher(**columns: object) -> pd.DataFrame:
    frame = runs((5, 20, 50, 100), optimizer=("min_norm",))
    frame = frame.assign(targets="given", model_bias=False, feature_rank=np.minimum(frame["width"], 20))
    return frame.assign(**({"n_train": 20, "data_noise": 0.5, "data_inputs": "gaussian", "data_dim": 100} | columns))


def test_the_exact_risk_is_drawn_beside_least_squares_on_a_linear_teacher() -> None:
    rows = of_a_teacher(model="linear", data="linear_teacher")
    got = reference(rows)
    assert got is not None
    # p < n - 1: (noise² + what is not seen) p/(n - p - 1) + what is not seen
    assert got.value[0] == (0.25 + 0.95) * 5 / 14 + 0.95
    assert np.isnan(got.value[1])
    figure = draw(rows, "title", ["optimizer"])
    line = next(line for line in figure.axes[1].get_lines() if line.get_linestyle() == "-.")
    np.testing.assert_array_equal(line.get_ydata(), got.value)
    assert "exact mean" in [t.get_text() for t in figure.legends[0].get_texts()]
    plt.close(figure)


def test_the_bound_is_drawn_beside_a_target_of_noise_alone() -> None:
    rows = of_a_teacher(data="hermite_teacher", data_c1=0.0, data_c2=0.0, data_c3=0.0, data_noise=2.0)
    got = reference(rows)
    assert got is not None
    assert got.value.tolist() == [4 * 5 / 16, 4 * 20, 4 * 20 / 31, 4 * 20 / 81]
    assert reference(rows.assign(data_c1=0.8)) is None


def test_other_set_ups_have_no_theory() -> None:
    assert reference(runs()) is None
    assert reference(of_a_teacher(model="linear", data="linear_teacher", optimizer="gd")) is None
    assert reference(of_a_teacher(model="linear", data="linear_teacher", data_inputs="sphere")) is None
    for changed in (
        {"standardize": "feature"},
        {"normalization": "scale"},
        {"targets": "linear"},
        {"model_bias": True},
    ):
        assert reference(of_a_teacher(model="linear", data="linear_teacher", **changed)) is None
    noise = {"data": "hermite_teacher", "data_c1": 0.0, "data_c2": 0.0, "data_c3": 0.0}
    assert reference(of_a_teacher(**noise)) is not None
    assert reference(of_a_teacher(**noise, feature_rank=3)) is None


def test_effective_parameters_are_an_x_of_their_own() -> None:
    rows = of_a_teacher(steps=np.nan, interpolation_width=20.0)
    rows["effective_parameters_test"] = rows["width"] * 2.0
    assert has_effective(rows)
    assert not has_effective(rows.assign(steps=10))
    assert not has_effective(rows.drop(columns="effective_parameters_test"))
    figure = draw_effective(rows, "title", ["optimizer"])
    medians = rows.groupby("width")["test_loss"].median()
    solid, dashed = figure.axes[-1].get_lines()
    assert solid.get_xdata().tolist() == [10, 40]
    assert dashed.get_xdata().tolist() == [40, 100, 200]
    np.testing.assert_array_equal(dashed.get_ydata(), medians.loc[20:])
    plt.close(figure)
