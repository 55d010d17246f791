"""Spectra and Hessians against NumPy and dense autograd Hessians."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dd.measure import hessian
from dd.measure.spectrum import spectrum
from dd.solve import _exact_loss
from tests.helpers import network_of, row_of, run_of, solve_rows, trained

SMALL = ("data.n_train=50", "data.n_test=30", "batch_size=full", "width=6", "data=mnist1d")


def dense_hessian(network: object, flat: torch.Tensor) -> torch.Tensor:
    samples = network.exact_train

    def loss(x: torch.Tensor) -> torch.Tensor:
        outputs = network.outputs(network.named(x[None]), samples.inputs, dict(network.buffers), training=False)
        if network.run.loss == "mse":
            return torch.nn.functional.mse_loss(outputs[0], samples.targets)
        return torch.nn.functional.cross_entropy(outputs[0], samples.targets)

    return torch.autograd.functional.hessian(loss, flat)


def test_spectrum_of_random_and_deficient_matrices() -> None:
    matrix = torch.randn(30, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert spectrum(matrix).condition == pytest.approx(np.linalg.cond(matrix.numpy()), rel=1e-12)
    deficient = torch.cat([matrix, matrix[:, :5], torch.zeros(30, 3)], dim=1)
    found = spectrum(deficient)
    s = np.linalg.svd(deficient.numpy(), compute_uv=False)
    assert found.rank == np.linalg.matrix_rank(deficient.numpy()) == 20
    assert found.sigma_min == pytest.approx(s[19])
    zero = spectrum(torch.zeros(4, 3))
    assert zero.rank == 0
    assert zero.condition == math.inf


MODELS = [
    (),
    ("loss=cross_entropy",),
    ("model=two_layer",),
    ("model=two_layer", "model.activation=tanh", "loss=cross_entropy"),
    ("model=two_layer", "normalization=layer_norm"),
]


@pytest.mark.parametrize("overrides", MODELS, ids=" ".join)
def test_largest_eigenvalue_is_that_of_the_dense_hessian(overrides: tuple[str, ...]) -> None:
    network = network_of(run_of(*SMALL, *overrides))
    flat = network.theta[0]
    values = torch.linalg.eigvalsh(dense_hessian(network, flat))
    loss = _exact_loss(network, network.buffers)
    assert hessian.largest_eigenvalue(loss, flat) == pytest.approx(float(values[-1]), rel=1e-8)


def test_sharpness_of_least_squares_needs_no_iteration() -> None:
    row = row_of(*SMALL, "steps=1", "lr=0.25")
    network = network_of(run_of(*SMALL))
    top = float(torch.linalg.eigvalsh(dense_hessian(network, network.theta[0]))[-1])
    assert row["sharpness_init"] == pytest.approx(top, rel=1e-10)
    assert row["lr_absolute"] == pytest.approx(0.25 / top, rel=1e-10)


def test_sharpness_of_a_net_uses_its_own_initial_hessian() -> None:
    row = row_of(*SMALL, "model=two_layer", "steps=1", "lr=0.25")
    network = network_of(run_of(*SMALL, "model=two_layer"))
    top = float(torch.linalg.eigvalsh(dense_hessian(network, network.theta[0]))[-1])
    assert row["lr_absolute"] == pytest.approx(0.25 / top, rel=1e-6)


def test_least_squares_hessian_condition_is_that_of_the_dense_hessian() -> None:
    row = row_of(*SMALL, "steps=3")
    network = network_of(run_of(*SMALL))
    values = torch.linalg.eigvalsh(dense_hessian(network, network.theta[0]))
    assert row["hessian_condition"] == pytest.approx(float(values[-1] / values[0]), rel=1e-8)


def test_preconditioned_condition_for_adam() -> None:
    run = run_of(*SMALL, "optimizer=adam", "steps=40", "dtype=float64")
    row = row_of(*SMALL, "optimizer=adam", "steps=40", "dtype=float64")
    network = network_of(run)
    solution = trained(network, 1e-3)
    scale = solution.preconditioner.rsqrt()
    matrix = scale[:, None] * dense_hessian(network, solution.theta) * scale
    values = torch.linalg.eigvalsh((matrix + matrix.T) / 2).abs()
    kept = values[values > len(values) * 2.3e-16 * values.max()]
    assert row["preconditioned_condition"] == pytest.approx(float(kept.max() / kept.min()), rel=1e-4)
    assert row["preconditioned_condition"] != row["hessian_condition"]


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


@pytest.mark.parametrize("width", [40, 200])
@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_ridge_condition_is_that_of_the_penalised_hessian(width: int, penalty: float) -> None:
    overrides = ("optimizer=ridge", f"optimizer.penalty={penalty}", f"width={width}", "data.n_train=100")
    design = network_of(run_of(*overrides)).exact_train.inputs[0]
    values = torch.linalg.eigvalsh(design.T @ design + penalty * torch.eye(width))
    expected = float(values[-1] / values[0])
    assert row_of(*overrides)["hessian_condition"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("normalization", ["layer_norm", "batch_norm", "standardize"])
def test_closed_forms_train_the_readout_alone(normalization: str) -> None:
    row = row_of("optimizer=min_norm", "width=50", "data.n_train=300", f"normalization={normalization}")
    assert row["parameters"] == 500
    assert row["gradient_norm"] < 1e-11
    assert row["feature_condition_init"] == row["feature_condition"]
    assert row["min_norm_test_loss"] == row["test_loss"]


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=two_layer", "width=4", "optimizer=momentum", "lr=50", "dtype=float64", "normalization=batch_norm"),
        ("model=two_layer", "width=4", "init.scale=1e40", "optimizer=adam"),
        ("width=20", "init.scale=1e40"),
        ("model=two_layer", "width=8", "optimizer=adam", "optimizer.eps=0"),
    ],
    ids=" ".join,
)
def test_numbers_out_of_range_are_null_and_never_a_failure(overrides: tuple[str, ...]) -> None:
    row = row_of(*overrides, "epochs=60")
    assert row["status"] in ("ok", "diverged")
    conditions = {k for k, v in row.items() if isinstance(v, float) and "condition" in k and v == math.inf}
    assert all(math.isfinite(v) for k, v in row.items() if isinstance(v, float) and k not in conditions)


def test_one_sample_leaves_no_nan() -> None:
    row = row_of("data.n_train=1", "batch_size=full", "optimizer=min_norm", "width=5", "data.standardize=feature")
    assert row["feature_rank"] == 0
    assert row["feature_condition"] == math.inf
