"""Exact dynamics against plain NumPy iterations, and their limits.

Covers: dd/closed/design.py, dd/trainers/exact.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse.linalg

from dd.closed import design
from dd.packs.plan import Pack
from dd.packs.solve import Solved, solve
from dd.runs.settings import Settings
from tests.helpers import network_of, row_of, run_of, solve_rows

N = 40
WIDTHS = (25, N, 90)
BASE = (f"data.n_train={N}", "data.n_test=60", "batch_size=full", "model.activation=tanh", "init.scale=0.7")
Arrays = dict[str, np.ndarray]


def problem(*overrides: str) -> Arrays:
    network = network_of(run_of(*BASE, "optimizer=gd", *overrides))
    readout = network.named(network.theta).named["readout"][0]
    return {
        "z": network.exact_train.inputs[0].numpy(),
        "y": network.exact_train.targets.numpy(),
        "z_test": network.exact_test.inputs[0].numpy(),
        "y_test": network.exact_test.targets.numpy(),
        "w": readout.T.numpy().copy(),
    }


def gradient(p: Arrays, w: np.ndarray, decay: float) -> np.ndarray:
    return 2 / p["y"].size * p["z"].T @ (p["z"] @ w - p["y"]) + decay * w


def descend(p: Arrays, lr: float, steps: int, decay: float) -> np.ndarray:
    w = p["w"]
    for _ in range(steps):
        w = w - lr * gradient(p, w, decay)
    return w


def with_momentum(p: Arrays, lr: float, steps: int, decay: float, *, ahead: bool) -> np.ndarray:
    w, v = p["w"], 0.0
    for _ in range(steps):
        g = gradient(p, w, decay)
        v = 0.9 * v + g
        w = w - lr * (g + 0.9 * v if ahead else v)
    return w


def conjugate(p: Arrays, lr: float, steps: int, decay: float) -> np.ndarray:
    """On the normal equations of all outputs at once, with every gradient made orthogonal to all before."""
    w = p["w"]
    g = gradient(p, w, decay)
    d, seen = -g, []
    for _ in range(steps):
        if np.linalg.norm(g) < 1e-15 * np.linalg.norm(gradient(p, p["w"], decay)):
            break
        seen.append(g.ravel() / np.linalg.norm(g))
        h = 2 / p["y"].size * p["z"].T @ (p["z"] @ d) + decay * d
        alpha = (g * g).sum() / (d * h).sum()
        w = w + alpha * d
        new = (g + alpha * h).ravel()
        for _ in range(2):
            new = new - np.array(seen).T @ (np.array(seen) @ new)
        new = new.reshape(g.shape)
        d = -new + (new * new).sum() / (g * g).sum() * d
        g = new
    return w


def chebyshev(p: Arrays, lr: float, steps: int, decay: float) -> np.ndarray:
    s = np.linalg.svd(p["z"], compute_uv=False)
    low, high = (2 / p["y"].size * x * x + decay for x in (s[-1], s[0]))
    middle, radius = (high + low) / 2, (high - low) / 2
    w, d, rho = p["w"], 0.0, radius / middle
    for k in range(steps):
        g = gradient(p, w, decay)
        if k == 0:
            d = -g / middle
        else:
            new = 1 / (2 * middle / radius - rho)
            d, rho = new * rho * d - 2 * new / radius * g, new
        w = w + d
    return w


ITERATIONS: dict[str, Callable[..., np.ndarray]] = {
    "gd": descend,
    "sgd": descend,
    "momentum": lambda *a: with_momentum(*a, ahead=False),
    "nesterov": lambda *a: with_momentum(*a, ahead=True),
    "conjugate_gradient": conjugate,
    "chebyshev": chebyshev,
}


@pytest.mark.parametrize("decay", [0.0, 1e-3])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("optimizer", ITERATIONS)
def test_exact_dynamics_are_those_of_a_plain_loop(optimizer: str, width: int, decay: float) -> None:
    """Below, at and above the threshold, with any start and weight decay."""
    runs = [
        run_of(*BASE, f"optimizer={optimizer}", f"width={width}", f"steps={t}", f"optimizer.weight_decay={decay}")
        for t in (1, 2, 10, 1000)
    ]
    rows = solve_rows(*runs)
    p = problem(f"width={width}")
    for run, row in zip(runs, rows, strict=True):
        assert (row["status"], row["solver"], row["dtype"]) == ("ok", "exact", "float64")
        w = ITERATIONS[optimizer](p, row.get("lr_absolute"), run.steps, decay)
        residual = p["z"] @ w - p["y"]
        rel = 1e-9
        assert row["test_loss"] == pytest.approx(np.mean((p["z_test"] @ w - p["y_test"]) ** 2), rel=rel)
        assert row["weight_norm"] == pytest.approx(np.linalg.norm(w), rel=rel)
        assert row["train_loss"] == pytest.approx(np.mean(residual**2), rel=rel, abs=1e-20)
        slope = 2 / p["y"].size * p["z"].T @ residual
        assert row["gradient_norm"] == pytest.approx(np.linalg.norm(slope), rel=rel, abs=1e-13)
        guess = (p["z_test"] @ w).argmax(axis=1)
        assert row["test_error"] == np.mean(guess != p["y_test"].argmax(axis=1))
        assert row["train_error"] == np.mean((p["z"] @ w).argmax(axis=1) != p["y"].argmax(axis=1))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("optimizer", ITERATIONS)
def test_iterative_solver_agrees(optimizer: str, width: int) -> None:
    overrides = (*BASE, f"optimizer={optimizer}", f"width={width}", "dtype=float64", "model.bias=true")
    for t in (1, 2, 10, 1000):
        exact, iterated = (row_of(*overrides, f"steps={t}", f"solver={s}") for s in ("exact", "iterative"))
        for column in ("train_loss", "test_loss", "weight_norm", "train_error", "test_error"):
            assert exact[column] == pytest.approx(iterated[column], rel=1e-9, abs=1e-19), (t, column)


@pytest.mark.parametrize("width", WIDTHS)
def test_plain_conjugate_gradients_lag_but_stay_at_the_minimum(width: int) -> None:
    """Steps beyond convergence must not follow rounding into directions that the loss does not see."""
    base = (*BASE, "optimizer=conjugate_gradient", f"width={width}", "dtype=float64")
    plain = row_of(*base, "steps=20", "optimizer.reorthogonalize=false")
    assert plain["solver"] == "iterative"
    assert plain["train_loss"] > row_of(*base, "steps=20")["train_loss"] * (1 + 1e-6)
    late = row_of(*base, "steps=3000", "optimizer.reorthogonalize=false")
    assert late["test_loss"] == pytest.approx(row_of(*base, "steps=3000")["test_loss"], rel=1e-4)


@pytest.mark.parametrize("optimizer", [*ITERATIONS, "gradient_flow"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_limit_is_least_squares_nearest_to_the_start(optimizer: str, width: int) -> None:
    row = row_of(*BASE, f"optimizer={optimizer}", f"width={width}", "steps=1000000000000")
    p = problem(f"width={width}")
    w = p["w"] + np.linalg.lstsq(p["z"], p["y"] - p["z"] @ p["w"], rcond=1e-13)[0]
    assert row["test_loss"] == pytest.approx(np.mean((p["z_test"] @ w - p["y_test"]) ** 2), rel=1e-7)
    assert row["weight_norm"] == pytest.approx(np.linalg.norm(w), rel=1e-7)
    if width >= N:
        assert row["train_loss"] < 1e-25
    zero = row_of(*BASE, f"optimizer={optimizer}", f"width={width}", "steps=1000000000000", "init=zero")
    assert zero["test_loss"] == pytest.approx(zero["min_norm_test_loss"], rel=1e-7)


def test_gradient_flow_is_the_matrix_exponential() -> None:
    p = problem("width=25")
    row = row_of(*BASE, "width=25", "optimizer=gradient_flow", "steps=300", "optimizer.weight_decay=1e-3")
    hessian = 2 / p["y"].size * p["z"].T @ p["z"] + 1e-3 * np.eye(25)
    minimum = np.linalg.solve(hessian, 2 / p["y"].size * p["z"].T @ p["y"])
    w = minimum + scipy.linalg.expm(-300 * row["lr_absolute"] * hessian) @ (p["w"] - minimum)
    assert row["test_loss"] == pytest.approx(np.mean((p["z_test"] @ w - p["y_test"]) ** 2), rel=1e-9)


def test_conjugate_gradients_are_scipys() -> None:
    """SciPy's on the same quadratic in all parameters, ten steps from the same start."""
    p = problem("width=90")
    hessian = np.kron(2 / p["y"].size * p["z"].T @ p["z"], np.eye(10))
    start = p["w"].ravel()
    slope = (2 / p["y"].size * p["z"].T @ p["y"]).ravel()
    w, _ = scipy.sparse.linalg.cg(hessian, slope, x0=start, maxiter=10, rtol=0, atol=0)
    row = row_of(*BASE, "width=90", "optimizer=conjugate_gradient", "steps=10")
    assert row["weight_norm"] == pytest.approx(np.linalg.norm(w), rel=1e-9)
    assert row["test_loss"] == pytest.approx(np.mean((p["z_test"] @ w.reshape(90, 10) - p["y_test"]) ** 2), rel=1e-9)


def test_losses_keep_their_accuracy_far_below_rounding() -> None:
    """At p > n the loss falls geometrically: its logarithm at T is known from the smallest singular value."""
    s = np.linalg.svd(problem("width=90")["z"], compute_uv=False)
    h = 0.5 * (s[-1] / s[0]) ** 2
    losses = []
    first = int(40 / h)
    for t in (first, 2 * first):
        losses.append(row_of(*BASE, "width=90", "optimizer=gd", f"steps={t}")["train_loss"])
    assert losses[1] < 1e-60
    assert np.log(losses[1] / losses[0]) == pytest.approx(2 * first * np.log1p(-h), rel=1e-9)


def solved(*overrides: str) -> Solved:
    out = Solved()
    solve(Pack((run_of(*BASE, *overrides),)), Settings(device="cpu"), out)
    return out


def test_curves_pass_through_the_outcomes_of_shorter_budgets() -> None:
    long = solved("optimizer=momentum", "width=60", "steps=1000000000000")
    assert len(long.curves) < 110, "the cost of a curve does not grow with the steps"
    for t in (1, 10, 56, 1000):
        row = row_of(*BASE, "optimizer=momentum", "width=60", f"steps={t}")
        point = next(point for point in long.curves if point["step"] == t)
        for column in ("train_loss", "test_loss", "train_error", "test_error"):
            assert point[column] == row[column]


def test_bits_do_not_depend_on_neighbours() -> None:
    alone = run_of(*BASE, "optimizer=gd", "width=60", "steps=777", "lr=0.3")
    crowd = [
        run_of(*BASE, f"optimizer={o}", "width=60", f"steps={t}", f"lr={lr}", f"init={i}")
        for o in ("gd", "nesterov") for t in (5, 777, 10**9) for lr in (0.3, 1.2) for i in ("default", "zero")
    ]  # fmt: skip
    expected = solve_rows(alone)[0]
    for pack in ([*crowd, alone], [alone, *reversed(crowd)]):
        row = next(row for row in solve_rows(*dict.fromkeys(pack)) if row["run_id"] == alone.run_id)
        assert {k: v for k, v in row.items() if k != "seconds"} == {k: v for k, v in expected.items() if k != "seconds"}


@pytest.mark.parametrize("optimizer", ["gd", "momentum", "nesterov"])
def test_too_large_steps_diverge_and_are_told(optimizer: str) -> None:
    out = solved(f"optimizer={optimizer}", "width=60", "lr=5", "steps=1000000")
    row = out.rows[0]
    assert row["status"] == "diverged"
    assert 0 < row["steps_done"] < 10**6
    assert np.isfinite(row["test_loss"])
    assert max(point["step"] for point in out.curves) == row["steps_done"]
    short = row_of(*BASE, f"optimizer={optimizer}", "width=60", "lr=5", "steps=20")
    plain = row_of(*BASE, f"optimizer={optimizer}", "width=60", "lr=5", "steps=20", "solver=iterative", "dtype=float64")
    assert short["status"] == plain["status"] == "ok"
    assert short["test_loss"] == pytest.approx(plain["test_loss"], rel=1e-9)


@pytest.mark.parametrize(("width", "lr"), [(60, 0.5), (60, 1.9), (25, 2.2)])
def test_stop_loss_is_the_first_step_there(width: int, lr: float) -> None:
    overrides = (*BASE, "optimizer=gd", f"width={width}", f"lr={lr}", "steps=5000", "dtype=float64", "init=zero")
    level = row_of(*overrides[:-3], "steps=12", "init=zero")["train_loss"] * 1.0001
    exact, plain = (row_of(*overrides, f"stop_loss={level}", f"solver={s}") for s in ("exact", "iterative"))
    assert exact["steps_done"] == plain["steps_done"]
    assert exact["train_loss"] == pytest.approx(plain["train_loss"], rel=1e-9)
    assert exact["train_loss"] <= level


def test_stop_loss_is_found_where_a_step_changes_less_than_rounding() -> None:
    base = (*BASE, "optimizer=gd", "width=60", "lr=1e-17", "steps=1000000000000000000")
    whole = row_of(*base)["train_loss"]
    row = row_of(*base, f"stop_loss={3 * whole:.6g}")
    assert 0 < row["steps_done"] < 10**18
    assert row["train_loss"] == pytest.approx(3 * whole, rel=1e-5)


def test_duplicate_samples_and_dead_features_are_finite() -> None:
    """Directions below the tolerance belong to the unseen part: no rounding is amplified however long one trains."""
    raw = ("model=linear", "width=64", "data.standardize=none")
    for optimizer in [*ITERATIONS, "gradient_flow"]:
        row = row_of(*raw, "data.n_train=300", "batch_size=full", f"optimizer={optimizer}", "steps=1000000000000")
        assert row["feature_rank"] < 64
        assert row["test_loss"] < 2
        assert np.isfinite(row["weight_norm"])


@pytest.mark.parametrize(
    ("options", "kept"), [(("cutoff=0.05",), None), (("rank=7",), 7), (("cutoff=0.5", "rank=0"), 0)]
)
def test_truncated_svd_is_numpys(options: tuple[str, ...], kept: int | None) -> None:
    p = problem("width=60")
    u, s, vh = np.linalg.svd(p["z"], full_matrices=False)
    keep = slice(kept) if kept is not None else s >= 0.05 * s[0]
    w = vh[keep].T @ ((u.T @ p["y"])[keep] / s[keep][:, None])
    row = row_of(*BASE, "width=60", "optimizer=truncated_svd", *(f"optimizer.{o}" for o in options))
    assert row["test_loss"] == pytest.approx(np.mean((p["z_test"] @ w - p["y_test"]) ** 2), rel=1e-9)
    assert row["weight_norm"] == pytest.approx(np.linalg.norm(w), rel=1e-9)


def test_a_ridge_path_and_all_budgets_share_one_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = design.factorize
    monkeypatch.setattr(design, "factorize", lambda matrix: calls.append(matrix.shape) or original(matrix))
    runs = [run_of(*BASE, "width=60", "optimizer=ridge", f"optimizer.penalty={p}") for p in (1e-6, 1e-3, 1.0)]
    runs += [run_of(*BASE, "width=60", "optimizer=gd", f"steps={t}", f"lr={lr}") for t in (3, 10**9) for lr in (0.1, 1)]
    runs += [run_of(*BASE, "width=60", "optimizer=truncated_svd", f"optimizer.rank={r}") for r in (3, 9)]
    assert all(row["status"] == "ok" for row in solve_rows(*runs))
    assert calls == [(N, 60)]
