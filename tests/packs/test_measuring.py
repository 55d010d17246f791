"""Rows of solved runs: norms, and what a closed form trains.

Covers: dd/measure/outcome.py, dd/measure/solution.py.
"""

from __future__ import annotations

import pytest

from tests.helpers import network_of, row_of, run_of, solve_rows, trained


def test_norms_are_those_of_the_solution() -> None:
    row = row_of("width=30", "optimizer=min_norm")
    assert row["gradient_norm"] < 1e-12
    run = run_of("width=30", "steps=20", "dtype=float64", "lr_unit=absolute", "lr=0.1")
    row = solve_rows(run)[0]
    network = network_of(run)
    theta = trained(network, 0.1).theta
    design, targets = network.exact_train.inputs[0], network.exact_train.targets
    readout = theta.view(10, 30).T
    gradient = 2 * design.T @ (design @ readout - targets) / targets.numel()
    assert row["weight_norm"] == pytest.approx(float(readout.norm()), rel=1e-12)
    assert row["gradient_norm"] == pytest.approx(float(gradient.norm()), rel=1e-10)


@pytest.mark.parametrize("normalization", ["layer_norm", "batch_norm", "standardize"])
def test_closed_forms_train_the_readout_alone(normalization: str) -> None:
    row = row_of("optimizer=min_norm", "width=50", "data.n_train=300", f"normalization={normalization}")
    assert row["parameters"] == 500
    assert row["gradient_norm"] < 1e-11
    assert row["feature_condition_init"] == row["feature_condition"]
    assert row["min_norm_test_loss"] == row["test_loss"]
