"""Heat maps: what is in the mesh, which runs it is from."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from analysis.maps import draw_maps, edges, longest, map_of
from tests.analysis.synthetic import WIDTHS, logged, runs

STEPS = (0, 1, 10, 100)


def _loss(step: int, run: pd.Series) -> float:
    return float(run["width"]) * (1 + 0.1 * run["seed"]) / (1 + step)


def test_cells_are_medians_over_seeds_and_zero_is_left_out() -> None:
    long = logged(runs(), STEPS, _loss)
    got = map_of(long, "test_error", "epoch")
    assert got.x.tolist() == list(WIDTHS)
    assert got.y.tolist() == [1, 10, 100]
    np.testing.assert_allclose(got.values, [[1.1 * w / (1 + e) for w in WIDTHS] for e in (1, 10, 100)])
    np.testing.assert_allclose(got.train_loss, got.values)
    assert got.thresholds == (50.0,)


def test_the_longest_budget_counts() -> None:
    both = pd.concat([logged(runs(steps=(10,)), STEPS, lambda s, r: 7.0), logged(runs(steps=(100,)), STEPS, _loss)])
    assert longest(both, ["optimizer"])["steps"].unique().tolist() == [100]
    np.testing.assert_allclose(map_of(longest(both, []), "test_loss", "epoch").values[0, 0], 1.1 * 10 / 2)


def test_borders_lie_halfway_in_logarithms() -> None:
    centres = np.array([1.0, 4.0, 100.0])
    got = edges(centres)
    np.testing.assert_allclose(got[1:-1], np.sqrt(centres[1:] * centres[:-1]))
    np.testing.assert_allclose([got[0] * got[1], got[-1] * got[-2]], centres[[0, -1]] ** 2)
    np.testing.assert_allclose(edges(np.array([5.0])), [5 * np.exp(-0.5), 5 * np.exp(0.5)])


def test_mesh_holds_the_map_and_the_contour_is_where_the_train_loss_is_at_the_level() -> None:
    data = map_of(logged(runs(), (1, 3, 9, 27, 81, 100), _loss), "test_loss", "epoch", "here")
    figure = draw_maps([data, data], "title", "test_loss", "epoch", level=5.0)
    panels = [ax for ax in figure.axes if ax.get_title() == "here"]
    assert len(panels) == 2
    mesh = panels[0].collections[0]
    np.testing.assert_allclose(np.asarray(mesh.get_array()).ravel(), data.values.ravel())
    np.testing.assert_allclose(mesh.get_coordinates()[0, :, 0], edges(data.x))
    contour = panels[0].collections[1]
    points = np.concatenate([p.vertices for p in contour.get_paths()])
    assert len(points)
    # on a grid point's column the crossing is between the two logged steps around it
    for x, y in points:
        if x in WIDTHS:
            above, below = data.train_loss[data.y <= y][-1], data.train_loss[data.y >= y][0]
            column = WIDTHS.index(int(x))
            assert above[column] >= 5.0 * (1 - 1e-9)
            assert below[column] <= 5.0 * (1 + 1e-9)
    plt.close(figure)


def test_a_level_that_is_not_reached_has_no_contour() -> None:
    data = map_of(logged(runs(), STEPS, _loss), "test_loss", "epoch")
    figure = draw_maps([data], "title", "test_loss", "epoch", level=1e-9)
    assert len(figure.axes[0].collections) == 1
    plt.close(figure)


def test_penalties_go_up_and_widths_to_the_right() -> None:
    rows = runs(optimizer_penalty=(1e-4, 1.0), optimizer=("ridge",))
    got = map_of(rows, "test_loss", "optimizer_penalty")
    assert got.y.tolist() == [1e-4, 1.0]
    expected = rows.groupby(["optimizer_penalty", "width"])["test_loss"].median().to_numpy().reshape(2, -1)
    np.testing.assert_allclose(got.values, expected)
