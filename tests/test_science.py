"""What dd exists to show: the peak at n on digits, the exact risk of the linear teacher, more training more peak."""

from __future__ import annotations

import statistics
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import dd
from dd.theory.isotropic import min_norm_risk
from tests.helpers import network_of, row_of, run_of, solve_rows

pytestmark = pytest.mark.rounding

SEEDS = range(5)


@cache
def median_loss(width: int, noise: float) -> float:
    """Of minimum-norm fits to digits."""
    line = (f"width={width}", "optimizer=min_norm", f"data.label_noise={noise}")
    return statistics.median(row["test_loss"] for row in solve_rows(*(run_of(*line, f"seed={s}") for s in SEEDS)))


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_min_norm_on_digits_peaks_at_n(noise: float) -> None:
    loss = {w: median_loss(w, noise) for w in (100, 200, 400, 490, 500, 510, 530, 600, 2000)}
    assert max(loss, key=loss.get) == 500
    assert loss[500] > 10 * loss[2000]
    assert loss[490] > 5 * loss[2000]
    assert loss[510] > 5 * loss[2000]
    rising = [loss[w] for w in (200, 400, 490)]
    falling = [loss[w] for w in (510, 530, 600, 2000)]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize(
    ("width", "reference"), [(100, 0.288), (200, 0.261), (400, 0.504), (600, 0.516), (1000, 0.194), (2000, 0.139)]
)
def test_levels_on_digits_are_those_of_an_independent_implementation(width: int, reference: float) -> None:
    """Medians of five seeds of a separate QR program (mean squared error summed over classes), other splits."""
    assert 10 * median_loss(width, 0.0) == pytest.approx(reference, rel=0.15)


@pytest.mark.parametrize("width", [20, 160, 240, 1000])
def test_isotropic_teacher_has_its_exact_mean_risk(width: int) -> None:
    n, repeats = 200, 120 if width < 300 else 30  # in many dimensions risks are alike
    # the noise is redrawn with every training set, so the spread of the mean is known from the sample
    runs = [
        run_of("model=linear", "data=linear_teacher", f"data.dim={width}", f"width={width}", "optimizer=min_norm",
               f"data.n_train={n}", "data.n_test=2000", "data.noise=0.5").replace(data_seed=seed)
        for seed in range(repeats)
    ]  # fmt: skip
    risks = [row["test_loss"] for row in solve_rows(*runs)]
    assert np.mean(risks) == pytest.approx(min_norm_risk(n, width, 0.5), rel=0.05)


@pytest.mark.parametrize("width", [60, 400])
def test_unseen_inputs_act_as_noise(width: int) -> None:
    base = ("model=linear", "data=linear_teacher", "data.dim=600", f"width={width}", "optimizer=min_norm")
    runs = [run_of(*base, "data.n_test=2000").replace(data_seed=seed) for seed in range(40)]
    risks = [row["test_loss"] for row in solve_rows(*runs)]
    assert np.mean(risks) == pytest.approx(min_norm_risk(200, width, 0.5, 600), rel=0.05)


def test_gradient_descent_follows_its_exact_iterates() -> None:
    """In the singular basis every direction shrinks by (1 - lr lambda)^T, and the rest of the start never moves."""
    overrides = (
        "width=120",
        "data.n_train=80",
        "optimizer=gd",
        "batch_size=full",
        "steps=400",
        "dtype=float64",
        "lr=1.5",
    )
    row = row_of(*overrides)
    network = network_of(run_of(*overrides))
    z, y = network.exact_train.inputs[0].numpy(), network.exact_train.targets.numpy()
    u, s, vt = np.linalg.svd(z, full_matrices=False)
    eigenvalues = 2 * s**2 / y.size
    start = network.theta.view(10, 120).numpy().T
    limit = (u.T @ y) / s[:, None]
    remaining = (1 - row["lr_absolute"] * eigenvalues) ** 400
    modal = limit + remaining[:, None] * (vt @ start - limit)
    final = start + vt.T @ (modal - vt @ start)
    assert row["lr_absolute"] * eigenvalues.max() == pytest.approx(1.5)
    assert row["train_loss"] == pytest.approx(np.mean((z @ final - y) ** 2), rel=1e-8)
    assert row["weight_norm"] == pytest.approx(np.linalg.norm(final), rel=1e-8)
    z_test, y_test = network.exact_test.inputs[0].numpy(), network.exact_test.targets.numpy()
    assert row["test_loss"] == pytest.approx(np.mean((z_test @ final - y_test) ** 2), rel=1e-8)


def test_peak_appears_only_where_the_train_loss_gets_low() -> None:
    """The claim under test, at its two ends: few steps give no peak at n, the limit of many steps does."""
    few = {w: row_of(f"width={w}", "epochs=50", "data.label_noise=0.1") for w in (100, 500, 2000)}
    limit = {w: row["min_norm_test_loss"] for w, row in few.items()}
    assert few[500]["test_loss"] < 1.3 * max(few[100]["test_loss"], few[2000]["test_loss"])
    assert few[500]["train_loss"] > 1e-3
    assert limit[500] > 10 * max(limit[100], limit[2000])


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [("batch_size=50", "batch_size=10", 1.0), ("init.scale=1", "init.scale=10", 1.0), ("lr=0.1", "lr=1", 1.0)],
)
def test_axes_change_what_they_should(one: str, other: str, ratio: float) -> None:
    """At equal epochs, smaller batches and larger steps fit better; a larger start is remembered beyond n."""
    a, b = row_of("width=900", "epochs=60", one), row_of("width=900", "epochs=60", other)
    if one.startswith("init"):
        assert b["test_loss"] > 3 * a["test_loss"]
    else:
        assert b["train_loss"] < ratio * a["train_loss"]


def test_the_peak_rises_with_the_budget_of_gradient_descent(tmp_path: Path) -> None:
    """The ladder of experiment=iterations: none after 10³ steps, then higher with every decade, at the threshold."""
    widths = "20,60,100,160,180,200,240,400,1000"
    runs = dd.sweep(
        "+experiment=iterations", f"width={widths}", "seed=0,1,2", "data.label_noise=0.1", f"results_dir={tmp_path}",
        n_jobs=1,
    )  # fmt: skip
    medians = runs.groupby(["steps", "width"])["test_loss"].median().unstack()
    valleys = np.maximum(medians.loc[:, :160].min(axis=1), medians.loc[:, 240:].min(axis=1))
    heights = np.log(medians[200] / valleys)
    assert heights[1000] < 0.1
    ladder = heights.loc[10**5 :]
    assert ladder.is_monotonic_increasing
    assert np.diff(ladder).min() > 0.5
