"""Bundles: every curve is in the picture, in the colour of its train loss."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection

from analysis.bundle import bundle, draw_bundle
from tests.analysis.synthetic import WIDTHS, peaked, runs


def _by_lr(row: dict[str, object]) -> dict[str, float]:
    scale = float(row["lr"])  # type: ignore[arg-type]
    return {k: v * (scale if k == "train_loss" else 1 / scale) for k, v in peaked(row).items()}


def test_curves_are_medians_and_the_train_loss_is_that_at_the_threshold() -> None:
    rows = runs(numbers=_by_lr, lr=(0.1, 1.0, 10.0))
    data = bundle(rows, "test_loss", ["lr"])
    expected = rows.groupby(["lr", "width"])["test_loss"].median().to_numpy().reshape(3, -1)
    np.testing.assert_allclose(data.values, expected)
    np.testing.assert_allclose(data.train_loss, 1.1e-2 * np.array([0.1, 1, 10]))
    assert data.x.tolist() == list(WIDTHS)


def test_train_loss_between_widths_is_interpolated_in_logarithms() -> None:
    rows = runs(numbers=_by_lr, lr=(1.0,)).assign(interpolation_width=np.sqrt(20 * 50))
    low, high = rows[rows.width == 20].train_loss.median(), rows[rows.width == 50].train_loss.median()
    np.testing.assert_allclose(bundle(rows, "test_loss", ["lr"]).train_loss, [np.sqrt(low * high)])
    beyond = bundle(rows.assign(interpolation_width=1e4), "test_loss", ["lr"])
    assert np.isnan(beyond.train_loss).all()


def test_artists_hold_curves_and_colours() -> None:
    rows = runs(numbers=_by_lr, lr=(0.1, 1.0, 10.0))
    rows.loc[(rows.lr == 1.0) & (rows.width == 20), "status"] = "diverged"
    figure = draw_bundle(rows, "title", ["lr"])
    assert [ax.get_ylabel() for ax in figure.axes] == ["test error (0-1)", "test loss", "train loss at the threshold"]
    panel = figure.axes[1]
    lines = next(c for c in panel.collections if isinstance(c, LineCollection) and c.get_array() is not None)
    np.testing.assert_allclose(lines.get_array(), 1.1e-2 * np.array([10, 1, 0.1]))  # the lowest is drawn last
    drawn = lines.get_segments()
    middle = rows[(rows.lr == 1.0) & (rows.status == "ok")].groupby("width")["test_loss"].median()
    np.testing.assert_allclose(drawn[1][:, 0], middle.index)
    np.testing.assert_allclose(drawn[1][:, 1], middle)
    assert len(drawn[0]) == len(WIDTHS)
    plt.close(figure)
