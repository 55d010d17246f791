"""Effective parameters against smoother matrices built target by target."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import scipy.linalg

from tests.helpers import network_of, row_of, run_of, solve_rows

N = 40
WIDTHS = (25, N, 90)
BASE = (f"data.n_train={N}", "data.n_test=60", "batch_size=full", "model.activation=tanh", "init.scale=0.7")
OUTPUTS = 10


@cache
def designs(*overrides: str) -> tuple[np.ndarray, np.ndarray]:
    network = network_of(run_of(*BASE, "optimizer=gd", *overrides))
    return network.exact_train.inputs[0].numpy(), network.exact_test.inputs[0].numpy()


def counted(smoother: np.ndarray) -> float:
    """Mean squared norm of a row [inputs, n], times n."""
    return N * float(np.mean([row @ row for row in smoother]))


def check(row: dict, z: np.ndarray, z_test: np.ndarray, weights: np.ndarray, rel: float = 1e-8) -> None:
    """``weights`` are what the targets np.eye(N) are mapped to, [columns, N]."""
    assert row["effective_parameters_train"] == pytest.approx(counted(z @ weights), rel=rel)
    assert row["effective_parameters_test"] == pytest.approx(counted(z_test @ weights), rel=rel)


@pytest.mark.parametrize("bias", ["false", "true"])
@pytest.mark.parametrize("width", WIDTHS)
def test_min_norm_smooths_by_the_pseudo_inverse(width: int, bias: str) -> None:
    row = row_of(*BASE, "optimizer=min_norm", f"width={width}", f"model.bias={bias}")
    z, z_test = designs(f"width={width}", f"model.bias={bias}")
    check(row, z, z_test, np.linalg.pinv(z), rel=1e-6)
    assert row["effective_parameters_train"] == pytest.approx(min(N, z.shape[1]), rel=1e-12)


@pytest.mark.parametrize(("width", "penalty"), [(25, 1e-6), (N, 0.1), (90, 0.1), (90, 100.0)])
def test_ridge_smooths_by_its_normal_equations(width: int, penalty: float) -> None:
    row = row_of(*BASE, "optimizer=ridge", f"width={width}", f"optimizer.penalty={penalty}")
    z, z_test = designs(f"width={width}")
    check(row, z, z_test, np.linalg.solve(z.T @ z + penalty * np.eye(width), z.T))


@pytest.mark.parametrize("width", WIDTHS)
def test_truncation_counts_the_directions_kept(width: int) -> None:
    row = row_of(*BASE, "optimizer=truncated_svd", "optimizer.rank=7", f"width={width}")
    z, z_test = designs(f"width={width}")
    u, s, vh = np.linalg.svd(z, full_matrices=False)
    check(row, z, z_test, (vh[:7].T / s[:7]) @ u[:, :7].T)
    assert row["effective_parameters_train"] == pytest.approx(7, rel=1e-12)


def test_batch_statistics_of_the_training_set_are_part_of_the_smoother() -> None:
    row = row_of(*BASE, "width=30", "optimizer=ridge", "normalization=batch_norm", "model.bias=true")
    z, z_test = designs("width=30")
    mean, spread = z.mean(0), np.sqrt(z.var(0) + 1e-5)
    z, z_test = (np.hstack([(x - mean) / spread, np.ones((len(x), 1))]) for x in (z, z_test))
    check(row, z, z_test, np.linalg.solve(z.T @ z + 1e-3 * np.eye(31), z.T))


def loop(z: np.ndarray, lr: float, steps: int, decay: float, momentum: float, *, ahead: bool) -> np.ndarray:
    w, v = np.zeros((z.shape[1], N)), 0.0
    for _ in range(steps):
        g = 2 / (N * OUTPUTS) * z.T @ (z @ w - np.eye(N)) + decay * w
        v = momentum * v + g
        w = w - lr * (g + momentum * v if ahead else v)
    return w


def chebyshev(z: np.ndarray, lr: float, steps: int, decay: float) -> np.ndarray:
    h = 2 / (N * OUTPUTS) * z.T @ z + decay * np.eye(z.shape[1])
    s = 2 / (N * OUTPUTS) * np.linalg.svd(z, compute_uv=False) ** 2 + decay
    middle, radius = (s[0] + s[-1]) / 2, (s[0] - s[-1]) / 2
    w, d, rho = np.zeros((z.shape[1], N)), 0.0, radius / middle
    for k in range(steps):
        g = h @ w - 2 / (N * OUTPUTS) * z.T
        new = 1 / (2 * middle / radius - rho)
        d, rho = (-g / middle, rho) if k == 0 else (new * rho * d - 2 * new / radius * g, new)
        w = w + d
    return w


def flow(z: np.ndarray, lr: float, steps: int, decay: float) -> np.ndarray:
    """Solve d w/dt = b - h w from w = 0, by one matrix exponential of the extended system."""
    p = z.shape[1]
    h, b = 2 / (N * OUTPUTS) * z.T @ z + decay * np.eye(p), 2 / (N * OUTPUTS) * z.T
    system = np.block([[-h, b], [np.zeros((N, p + N))]])
    return scipy.linalg.expm(lr * steps * system)[:p, p:]


LOOPS: dict[str, Callable[[np.ndarray, float, int, float], np.ndarray]] = {
    "gd": lambda *a: loop(*a, 0.0, ahead=False),
    "sgd": lambda *a: loop(*a, 0.0, ahead=False),
    "momentum": lambda *a: loop(*a, 0.9, ahead=False),
    "nesterov": lambda *a: loop(*a, 0.9, ahead=True),
    "chebyshev": chebyshev,
    "gradient_flow": flow,
}


@pytest.mark.parametrize(("width", "decay"), [(25, 1e-3), (N, 0.0), (90, 1e-3)])
@pytest.mark.parametrize("optimizer", LOOPS)
def test_exact_dynamics_smooth_as_a_plain_loop_on_unit_targets(optimizer: str, width: int, decay: float) -> None:
    run = run_of(*BASE, f"optimizer={optimizer}", f"width={width}", f"optimizer.weight_decay={decay}")
    runs = [run.replace(steps=t) for t in (1, 10, 300)]
    z, z_test = designs(f"width={width}")
    for run, row in zip(runs, solve_rows(*runs), strict=True):
        check(row, z, z_test, LOOPS[optimizer](z, row.get("lr_absolute"), run.steps, decay))


def test_zero_steps_smooth_nothing_and_many_interpolate() -> None:
    none, many = (row_of(*BASE, "optimizer=gd", "width=25", f"steps={t}") for t in (0, 10**12))
    assert none["effective_parameters_train"] == none["effective_parameters_test"] == 0
    limit = row_of(*BASE, "optimizer=min_norm", "width=25")
    for column in ("effective_parameters_train", "effective_parameters_test"):
        assert many[column] == pytest.approx(limit[column], rel=1e-6)


def test_neighbours_with_the_same_features_change_nothing() -> None:
    runs = [run_of(*BASE, f"optimizer={o}", f"width={w}") for w in (25, 90) for o in ("min_norm", "ridge", "gd")]
    found = {row["run_id"]: row["effective_parameters_test"] for row in solve_rows(*runs)}
    for run in runs:
        assert solve_rows(run)[0]["effective_parameters_test"] == found[run.run_id]


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer=conjugate_gradient", "steps=5"),
        ("optimizer=gd", "steps=50", "stop_loss=0.05"),
        ("optimizer=gd", "steps=5", "solver=iterative"),
        ("optimizer=sgd", "steps=5", "batch_size=10"),
        ("optimizer=adam", "steps=5"),
        ("optimizer=gd", "steps=5", "model=two_layer"),
    ],
    ids=" ".join,
)
def test_what_is_not_known_to_be_linear_in_the_targets_is_null(overrides: tuple[str, ...]) -> None:
    row = row_of(*BASE, "width=20", *overrides)
    assert row.get("effective_parameters_train") is None
    assert row.get("effective_parameters_test") is None
