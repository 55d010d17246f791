"""Min-norm and ridge against SciPy and scikit-learn, around the threshold.

Covers: dd/measure/factors.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from sklearn.linear_model import Ridge

from tests.helpers import network_of, row_of, run_of

N = 100
WIDTHS = (10, 60, 90, 95, 98, 99, 100, 101, 102, 105, 110, 150, 400)
BASE = (f"data.n_train={N}", "data.n_test=300", "model.activation=tanh", "batch_size=full")


def parts(*overrides: str) -> list[np.ndarray]:
    network = network_of(run_of(*BASE, *overrides))
    return [
        network.exact_train.inputs[0].numpy(),
        network.exact_train.targets.numpy(),
        network.exact_test.inputs[0].numpy(),
        network.exact_test.targets.numpy(),
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_min_norm_is_lstsq(width: int) -> None:
    row = row_of(*BASE, f"width={width}", "optimizer=min_norm")
    z, y, z_test, y_test = parts(f"width={width}")
    solution, _, rank, s = scipy.linalg.lstsq(z, y, cond=N * np.finfo(float).eps)
    # two backward-stable solvers differ by eps times the condition number at most
    rtol = max(1e-10, 1e-14 * (s[0] / s[rank - 1]) ** 2)
    assert row["test_loss"] == pytest.approx(np.mean((z_test @ solution - y_test) ** 2), rel=rtol)
    assert row["train_loss"] == pytest.approx(np.mean((z @ solution - y) ** 2), rel=1e-6, abs=1e-18)
    assert row["weight_norm"] == pytest.approx(np.linalg.norm(solution), rel=rtol)
    assert row["feature_rank"] == rank == min(width, N)
    assert row["feature_condition"] == pytest.approx(s[0] / s[rank - 1], rel=1e-9)
    assert row["min_norm_test_loss"] == row["test_loss"]


@pytest.mark.parametrize("penalty", [1e-4, 1.0, 100.0])
@pytest.mark.parametrize("width", [60, 99, 100, 101, 150])
def test_ridge_is_scikit_learns(width: int, penalty: float) -> None:
    row = row_of(*BASE, f"width={width}", "optimizer=ridge", f"optimizer.penalty={penalty}", "model.bias=true")
    z, y, z_test, y_test = parts(f"width={width}", "model.bias=true")
    reference = Ridge(alpha=penalty, fit_intercept=False, solver="svd").fit(z, y)
    assert row["test_loss"] == pytest.approx(np.mean((reference.predict(z_test) - y_test) ** 2), rel=1e-8)
    assert row["train_loss"] == pytest.approx(np.mean((reference.predict(z) - y) ** 2), rel=1e-8)


def test_dead_and_duplicate_columns_do_not_count() -> None:
    """Uncentred digits have constant pixels; raw inputs are rank-deficient, and the kept spectrum says so."""
    row = row_of("model=linear", "width=64", "data.n_train=300", "batch_size=full", "data.standardize=none",
                 "optimizer=min_norm")  # fmt: skip
    network = network_of(run_of("model=linear", "width=64", "data.n_train=300", "data.standardize=none"))
    matrix = network.exact_train.inputs[0].numpy()
    assert row["feature_rank"] == np.linalg.matrix_rank(matrix) < 64
    s = np.linalg.svd(matrix, compute_uv=False)
    assert row["feature_condition"] == pytest.approx(s[0] / s[row["feature_rank"] - 1], rel=1e-9)
    assert np.isfinite(row["test_loss"])


def test_batch_norm_closed_form_uses_full_batch_statistics() -> None:
    row = row_of(*BASE, "width=40", "optimizer=ridge", "normalization=batch_norm", "model.bias=true")
    z = network_of(run_of(*BASE, "width=40")).exact_train
    features = z.inputs[0].numpy()
    normal = (features - features.mean(0)) / np.sqrt(features.var(0) + 1e-5)
    design = np.hstack([normal, np.ones((N, 1))])
    reference = Ridge(alpha=1e-3, fit_intercept=False, solver="svd").fit(design, z.targets.numpy())
    assert row["train_loss"] == pytest.approx(np.mean((reference.predict(design) - z.targets.numpy()) ** 2), rel=1e-8)
