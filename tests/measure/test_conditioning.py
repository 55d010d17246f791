"""Hessians, tangent kernels and preconditioned problems against dense linear algebra and exact laws.

Covers: dd/measure/curvature.py, dd/measure/jacobian.py, dd/packs/prepare.py.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dd.measure import curvature
from dd.measure.conditioning import Measure
from dd.measure.jacobian import Jacobian
from dd.measure.solution import Solution
from dd.measure.spectrum import spectrum
from dd.network import Network
from dd.numerics import reproducible
from dd.optim.momentum import Momentum
from dd.optim.nesterov import Nesterov
from dd.packs.measuring import measured
from dd.packs.prepare import prepare
from dd.packs.schedule import train_jobs
from dd.packs.shared import Shared
from dd.problems.problem import Problem
from dd.runs.settings import Settings
from tests.helpers import network_of, row_of, run_of, solve_rows, trained

SMALL = ("data=mnist1d", "data.n_train=50", "data.n_test=30", "batch_size=full", "width=6")
FULL = Settings(device="cpu", measure_name="full")
MODELS = [
    ("loss=cross_entropy",),
    ("normalization=batch_norm",),
    ("normalization=layer_norm", "model.bias=true"),
    ("model=two_layer",),
    ("model=two_layer", "model.activation=tanh", "loss=cross_entropy", "model.bias=true"),
    ("model=two_layer", "normalization=layer_norm"),
    ("model=two_layer", "normalization=standardize"),
    ("model=two_layer", "normalization=batch_norm"),
    ("model=two_layer", "normalization=batch_norm", "loss=cross_entropy"),
]


def full_row(*overrides: str) -> dict:
    row = solve_rows(run_of(*overrides), settings=FULL)[0]
    assert row["status"] == "ok", row
    return row


def dense_jacobian(network: Network, flat: torch.Tensor) -> torch.Tensor:
    """Of the outputs that training sees, by autograd, [samples, outputs, parameters]."""

    def outputs(x: torch.Tensor) -> torch.Tensor:
        buffers = {k: v.clone() for k, v in network.buffers.items()}
        return network.outputs(network.named(x[None]), network.exact_train.inputs, buffers, training=True)[0]

    return torch.autograd.functional.jacobian(outputs, flat)


def dense_gauss_newton(network: Network, flat: torch.Tensor) -> torch.Tensor:
    """Jᵀ (Hessian of the loss in the outputs) J, the inner Hessian by autograd."""
    jacobian = dense_jacobian(network, flat).flatten(0, 1)
    shape = network.exact_train.targets.shape
    zero = {k: v.clone() for k, v in network.buffers.items()}
    outputs = network.outputs(network.named(flat[None]), network.exact_train.inputs, zero, training=True)[0]
    target = network.exact_train.targets
    loss = torch.nn.functional.mse_loss if network.run.loss == "mse" else torch.nn.functional.cross_entropy
    inner = torch.autograd.functional.hessian(lambda f: loss(f.view(shape), target), outputs.flatten())
    return jacobian.T @ inner @ jacobian


def spread(matrix: torch.Tensor, rank: int) -> float:
    values = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    return float(values[-1] / values[-rank])


@pytest.mark.parametrize("overrides", MODELS, ids=" ".join)
def test_gauss_newton_spectrum_is_the_dense_ones(overrides: tuple[str, ...]) -> None:
    run = run_of(*SMALL, *overrides, "steps=30", "dtype=float64", "lr_unit=absolute", "lr=0.05")
    row = solve_rows(run, settings=FULL)[0]
    network = network_of(run)
    flat = trained(network, 0.05).theta
    matrix = dense_gauss_newton(network, flat)
    values = torch.linalg.eigvalsh(matrix)
    assert row["measure_method"] == "jacobian"
    assert row["hessian_lambda_max"] == pytest.approx(float(values[-1]), rel=1e-8)
    assert row["hessian_trace"] == pytest.approx(float(matrix.trace()), rel=1e-8)
    assert row["hessian_effective_rank"] == pytest.approx(float(matrix.trace() / values[-1]), rel=1e-8)
    assert 0 < row["hessian_rank"] <= min(matrix.shape[0], 500)
    lowest = float(values[-row["hessian_rank"]])
    # eigenvalues of the matrix itself are known to eps times the largest only: compare those well above
    if lowest > 1e-9 * values[-1]:
        assert row["hessian_lambda_min"] == pytest.approx(lowest, rel=1e-5)
        assert row["hessian_condition"] == pytest.approx(float(values[-1]) / lowest, rel=1e-5)
        diagonal = matrix.diagonal()
        scale = torch.where(diagonal > 1e-30, diagonal.rsqrt(), 0.0)
        scaled = scale[:, None] * matrix * scale
        assert row["jacobi_condition"] == pytest.approx(spread(scaled, row["hessian_rank"]), rel=1e-4)
    initial = dense_jacobian(network, network.theta[0]).flatten(0, 1)
    s = np.linalg.svd(initial.numpy(), compute_uv=False)
    if s[row["ntk_rank_init"] - 1] > 1e-7 * s[0]:
        assert row["ntk_condition_init"] == pytest.approx((s[0] / s[row["ntk_rank_init"] - 1]) ** 2, rel=1e-6)
    assert row["ntk_condition"] != row["ntk_condition_init"] or network.linear


def test_at_zero_residual_the_gauss_newton_matrix_is_the_hessian() -> None:
    """Targets are replaced by the net's own outputs, so that the second term of the Hessian vanishes."""
    network = network_of(run_of(*SMALL, "model=two_layer", "model.activation=tanh"))
    flat = network.theta[0]
    inputs = network.exact_train.inputs
    targets = network.outputs(network.named(flat[None]), inputs, {})[0].detach()

    def loss(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.mse_loss(network.outputs(network.named(x[None]), inputs, {})[0], targets)

    exact = torch.autograd.functional.hessian(loss, flat)
    factor = Jacobian(network, flat, {}).curved(Jacobian(network, flat, {}).dense())
    assert torch.allclose(factor.T @ factor, exact, rtol=1e-10, atol=1e-13)
    found = curvature.dense(factor)
    assert found.highest == pytest.approx(float(torch.linalg.eigvalsh(exact)[-1]), rel=1e-10)


@pytest.mark.parametrize("width", [20, 50, 90])
@pytest.mark.parametrize("normalization", ["none", "standardize", "layer_norm"])
def test_random_features_hessian_is_the_square_of_the_features(width: int, normalization: str) -> None:
    """κ(H) = κ(Z)², from the dense Hessian of the loss below p = n, and from Z's singular values everywhere."""
    overrides = ["data.n_train=50", "batch_size=full", f"width={width}", "optimizer=gd", "steps=5",
                 f"normalization={normalization}", "model.activation=tanh", "model.bias=true"]  # fmt: skip
    if normalization == "layer_norm":
        overrides.append("normalization.affine=false")
    row = full_row(*overrides)
    design = network_of(run_of(*overrides)).exact_train.inputs[0]
    s = np.linalg.svd(design.numpy(), compute_uv=False)
    rank = row["feature_rank"]
    assert row["hessian_condition"] == pytest.approx((s[0] / s[rank - 1]) ** 2, rel=1e-8)
    assert row["hessian_condition"] == pytest.approx(row["feature_condition"] ** 2, rel=1e-8)
    assert row["hessian_lambda_max"] == pytest.approx(2 * s[0] ** 2 / 500, rel=1e-10)
    assert row["hessian_trace"] == pytest.approx(10 * 2 * (s**2).sum() / 500, rel=1e-8)
    assert row["hessian_rank"] == row["ntk_rank"] == row["ntk_rank_init"] == 10 * rank
    assert row["ntk_condition"] == row["ntk_condition_init"] == pytest.approx(row["hessian_condition"], rel=1e-10)
    if width == 20 and normalization == "none":
        values = np.linalg.eigvalsh(2 / 500 * design.numpy().T @ design.numpy())
        assert row["hessian_condition"] == pytest.approx(values[-1] / values[-rank], rel=1e-8)
    unit = design.numpy() / np.maximum(np.linalg.norm(design.numpy(), axis=0), 1e-300)
    s = np.linalg.svd(unit, compute_uv=False)
    assert row["jacobi_condition"] == pytest.approx((s[0] / s[rank - 1]) ** 2, rel=1e-6)


def test_square_gaussian_matrices_follow_edelmans_law() -> None:
    """N s_min² of an n x n standard Gaussian matrix exceeds x with probability exp(-(x/2 + sqrt x)); Edelman 1988."""
    n, draws = 40, 1500
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(draws):
        matrix = torch.randn(n, n, generator=generator, dtype=torch.float64)
        found.append(n * spectrum(matrix).sigma_min ** 2)
    median = (math.sqrt(1 + 2 * math.log(2)) - 1) ** 2
    # the median of so many draws lies within 4 standard errors of the law's
    density = math.exp(-(median / 2 + math.sqrt(median))) * (0.5 + 0.5 / math.sqrt(median))
    assert np.median(found) == pytest.approx(median, abs=4 * 0.5 / math.sqrt(draws) / density)
    above = np.mean(np.array(found) > 1)
    assert above == pytest.approx(math.exp(-1.5), abs=4 * 0.5 / math.sqrt(draws))


@pytest.mark.parametrize("overrides", [("optimizer=momentum",), ("optimizer=nesterov", "optimizer.momentum=0.7")])
def test_momentum_is_seen_by_its_rates(overrides: tuple[str, ...]) -> None:
    """Spectral radii of the update in velocity and weights, eigendirection by eigendirection."""
    base = ("data.n_train=50", "batch_size=full", "width=20", "steps=5", *overrides)
    row = full_row(*base)
    design = network_of(run_of(*base)).exact_train.inputs[0].numpy()
    optimizer = run_of(*base).optimizer
    assert isinstance(optimizer, Momentum | Nesterov)
    mu = optimizer.momentum
    rates = []
    for s in np.linalg.svd(design, compute_uv=False):
        h = row["lr_absolute"] * 2 * s * s / 500
        # (v, e): v = mu v + h e; e -= v, or e -= h e + mu v
        update = np.array([[mu, h], [-mu, 1 - h]])
        if "nesterov" in overrides[0]:
            update = np.array([[mu, h], [-mu * mu, 1 - h - mu * h]])
        rates.append(1 - max(abs(np.linalg.eigvals(update))))
    assert row["preconditioned_condition"] == pytest.approx(max(rates) / min(rates), rel=1e-6)
    assert row["preconditioned_condition"] < row["hessian_condition"]
    plain = full_row("data.n_train=50", "batch_size=full", "width=20", "steps=5", "optimizer=gd")
    assert plain["preconditioned_condition"] == plain["hessian_condition"]


def test_momentum_that_diverges_has_no_finite_condition() -> None:
    row = solve_rows(run_of("data.n_train=50", "batch_size=full", "width=20", "steps=5", "optimizer=momentum", "lr=4"))[
        0
    ]
    assert row["preconditioned_condition"] == math.inf


def test_a_net_is_seen_through_adams_diagonal() -> None:
    run = run_of(*SMALL, "model=two_layer", "optimizer=adam", "steps=40", "dtype=float64")
    row = full_row(*SMALL, "model=two_layer", "optimizer=adam", "steps=40", "dtype=float64")
    network = network_of(run)
    solution = trained(network, 1e-3)
    factor = dense_jacobian(network, solution.theta).flatten(0, 1) * (2 / 500) ** 0.5
    s = np.linalg.svd((factor * solution.preconditioner.rsqrt()).numpy(), compute_uv=False)
    rank = int((s > 500 * np.finfo(float).eps * s[0]).sum())
    assert row["preconditioned_condition"] == pytest.approx((s[0] / s[rank - 1]) ** 2, rel=1e-5)
    assert row["preconditioned_condition"] != row["hessian_condition"]


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "adagrad"])
@pytest.mark.parametrize("width", [20, 70])
def test_adaptive_optimizers_are_seen_through_their_diagonal(optimizer: str, width: int) -> None:
    base = ("data.n_train=50", "batch_size=10", f"width={width}", "steps=40", f"optimizer={optimizer}", "dtype=float64")
    row = full_row(*base)
    network = network_of(run_of(*base))
    scale = trained(network, 1e-3).preconditioner.rsqrt().view(10, width)
    s = [np.linalg.svd((network.exact_train.inputs[0] * d).numpy(), compute_uv=False) for d in scale]
    rank = min(width, 50)
    expected = (max(x[0] for x in s) / min(x[rank - 1] for x in s)) ** 2
    assert row["preconditioned_condition"] == pytest.approx(expected, rel=1e-6)


def test_without_memory_lanczos_serves_and_says_so() -> None:
    base = (*SMALL, "model=two_layer", "steps=20")
    exact = full_row(*base)
    short = solve_rows(run_of(*base), settings=Settings(device="cpu", measure_name="full", measure_memory=1e-6))[0]
    assert exact["measure_method"] == "jacobian"
    assert short["measure_method"] == "lanczos_top"
    assert short["hessian_condition"] is None, "dead units: the smallest eigenvalue is zero"
    assert short["hessian_lambda_max"] == pytest.approx(exact["hessian_lambda_max"], rel=1e-3)
    assert short["hessian_trace"] == pytest.approx(exact["hessian_trace"], rel=1e-9)
    assert short["hessian_rank"] is None
    assert short["jacobi_condition"] is None
    assert short["test_loss"] == exact["test_loss"]
    basic = solve_rows(run_of(*base), settings=Settings(device="cpu", measure_memory=1e-6))[0]
    assert basic["measure_method"] == "none"
    assert basic["hessian_condition"] is None


def test_lanczos_finds_both_ends_where_they_are_apart() -> None:
    """Random features with cross-entropy: as many directions as parameters, but for the sum over classes."""
    network = network_of(run_of("data.n_train=200", "width=4", "loss=cross_entropy", "data=mnist1d"))
    jacobian = Jacobian(network, network.theta[0], {})
    dense = curvature.dense(jacobian.curved(jacobian.dense()))
    found = curvature.lanczos(jacobian, 1 << 20)
    assert found.highest == pytest.approx(dense.highest, rel=1e-6)
    assert found.lowest == pytest.approx(dense.lowest, rel=1e-6)
    assert (found.method, dense.rank) == ("lanczos", 36)


GRAM = {  # a net, and eigenvalues that are no zeros: more parameters than rows, fewer, through batch statistics
    ("data=linear_teacher", "data.dim=20", "data.n_train=250", "width=100"): 250,
    ("data=mnist1d", "data.n_train=100", "width=4"): 210,
    ("data=linear_teacher", "data.dim=5", "data.n_train=100", "width=12", "normalization=batch_norm"): 73,
}


@pytest.mark.parametrize("overrides", GRAM)
def test_what_lanczos_does_not_find_is_found_in_the_whole_matrix(
    monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    network = network_of(run_of("model=two_layer", "data.n_test=10", *overrides))
    jacobian = Jacobian(network, network.theta[0], {})
    found = curvature.lanczos(jacobian, 10**8)
    values = np.linalg.eigvalsh(dense_gauss_newton(network, network.theta[0]).numpy())
    kept = values[values > len(values) * np.finfo(float).eps * values[-1]]
    assert (found.method, found.rank) == ("gram", GRAM[overrides])
    assert len(kept) == found.rank
    assert found.condition == pytest.approx(kept[-1] / kept[0], rel=1e-4)
    np.testing.assert_allclose(found.values.numpy(), kept, rtol=1e-4)
    # without it the smallest eigenvalue is unknown; all else is as it was
    for name, value in (("GRAM_WORK", 0), ("GRAM_COPIES", 10**9)):
        with monkeypatch.context() as patched:
            patched.setattr(curvature, name, value)
            before = curvature.lanczos(jacobian, 10**8)
        assert before.method == "lanczos_top"
        assert math.isnan(before.condition)
        assert before.highest == found.highest
        assert before.trace == pytest.approx(found.trace, nan_ok=True)


def test_lanczos_gives_the_same_bits_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curvature, "LANCZOS_RESTARTS", 100)  # so many that it finds what it looks for
    network = network_of(
        run_of(
            "model=two_layer", "data=linear_teacher", "data.dim=20", "data.n_train=250", "data.n_test=10", "width=100"
        )
    )
    found = [curvature.lanczos(Jacobian(network, network.theta[0], {}), 10**8) for _ in range(3)]
    assert [x.method for x in found] == ["lanczos"] * 3
    assert len({(x.lowest, x.highest) for x in found}) == 1


def test_a_smallest_eigenvalue_that_rounding_reaches_stays_unknown() -> None:
    # three eigenvalues: rounding is 7e-16 of the largest
    found = curvature._above_rounding(np.diag([0.0, 1e-11, 1.0]), 1.0)
    assert found is not None
    assert found.tolist() == [1e-11, 1.0]
    assert curvature._above_rounding(np.diag([0.0, 5e-12, 1.0]), 1.0) is None


def test_a_net_beyond_memory_has_a_condition_number() -> None:
    base = ("data=linear_teacher", "data.dim=5", "data.n_train=200", "data.n_test=20", "model=two_layer", "width=20",
            "optimizer=momentum", "batch_size=full", "steps=20", "lr=0.5", "dtype=float64")  # fmt: skip
    exact = full_row(*base)
    # too little for the Jacobian's decomposition, enough for JᵀJ
    short = solve_rows(run_of(*base), settings=Settings(device="cpu", measure_name="full", measure_memory=6e-4))[0]
    assert (exact["measure_method"], short["measure_method"]) == ("jacobian", "gram")
    for column in ("hessian_condition", "preconditioned_condition"):
        assert short[column] == pytest.approx(exact[column], rel=1e-3)
    assert short["hessian_rank"] == exact["hessian_rank"] < 141
    assert short["jacobi_condition"] is None


def test_a_net_too_large_for_basic_is_measured_by_full_alone() -> None:
    base = ("data=mnist1d", "data.n_train=60", "data.n_test=30", "model=two_layer", "width=40", "steps=5")
    basic, full = row_of(*base), full_row(*base)
    assert not Measure().takes_jacobian(600, basic["parameters"])
    assert (basic["measure"], basic["measure_method"]) == ("basic", "none")
    assert basic["hessian_condition"] is None
    assert (full["measure"], full["measure_method"]) == ("full", "jacobian")
    assert full["hessian_rank"] <= 600
    assert full["ntk_rank_init"] <= 600
    assert basic["test_loss"] == full["test_loss"]


DEFICIENT = {
    "one feature": torch.ones(12, 1),
    "constant features": torch.full((12, 5), 0.3),
    "duplicate rows": torch.cat([torch.eye(6), torch.eye(6)]),
    "dead features": torch.zeros(12, 5),
    "nearly singular": torch.eye(12)[:, :5] * torch.tensor([1.0, 1.0, 1.0, 1e-9, 1e-18]),
}


LINEAR = ("min_norm", "gd", "momentum", "conjugate_gradient", "chebyshev", "adam", "sgd")


@pytest.mark.parametrize(
    ("model", "optimizer"), [("two_layer", "gd"), ("two_layer", "adam"), *(("linear", o) for o in LINEAR)]
)
@pytest.mark.parametrize("case", DEFICIENT)
def test_deficient_matrices_have_defined_values(case: str, model: str, optimizer: str) -> None:
    """Ratios of what is above the tolerance, with the rank; infinite for zeros; never NaN or an exception."""
    x = DEFICIENT[case].double()
    y = torch.nn.functional.one_hot(torch.arange(12) % 3).double()
    run = run_of("data=tensors", f"data.dim={x.shape[1]}", "data.n_train=12", "data.n_test=12", "data.standardize=none",
                 f"model={model}", f"width={x.shape[1]}", f"optimizer={optimizer}", "batch_size=4" if optimizer == "sgd"
                 else "batch_size=full", *([] if optimizer == "min_norm" else ["steps=20"]),
                 *([] if optimizer in ("min_norm", "conjugate_gradient", "chebyshev")
                   else ["lr_unit=absolute", "lr=0.01"]))  # fmt: skip
    problem = Problem(x, y, x, y, True, "tensors", "")
    with reproducible(torch.device("cpu")):
        shared = Shared(FULL, [run], problem)
        (job,) = train_jobs([prepare(run, shared)])
        assert isinstance(job.result, Solution), job.result
        row = measured(job, job.result, shared.measure)
    assert row["status"] == "ok"
    rank = np.linalg.matrix_rank(x.numpy()) if model == "linear" else row["feature_rank"]
    for column in ("feature_condition", "feature_condition_init", "ntk_condition", "hessian_condition"):
        value = row[column]
        assert value is not None, column
        assert value >= 1 - 1e-12, column
        assert not math.isnan(value)
    if model == "linear":
        assert row["feature_rank"] == rank
        assert (row["feature_condition"] == math.inf) == (rank == 0)
        assert row["hessian_rank"] == 3 * rank
        assert row["jacobi_condition"] >= 1 - 1e-12
    assert all(not math.isnan(v) for v in row.values() if isinstance(v, float))


def test_a_budget_for_measuring_never_fails_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*arguments: object, **more: object) -> None:
        raise MemoryError("no memory")

    monkeypatch.setattr(Jacobian, "dense", short)
    monkeypatch.setattr(curvature, "lanczos", short)
    row = full_row(*SMALL, "model=two_layer", "steps=3")
    assert row["measure_method"] == "none"
    assert row["hessian_condition"] is None


@pytest.mark.parametrize("width", [20, 60])
def test_jacobi_scaling_of_ridge_has_the_penalty(width: int) -> None:
    base = ("data.n_train=30", f"width={width}", "optimizer=ridge", "optimizer.penalty=10")
    design = network_of(run_of(*base)).exact_train.inputs[0]
    matrix = design.T @ design + 10 * torch.eye(width)
    scale = matrix.diagonal().rsqrt()
    row = full_row(*base)
    assert row["hessian_condition"] == pytest.approx(spread(matrix, width), rel=1e-8)
    assert row["jacobi_condition"] == pytest.approx(spread(scale[:, None] * matrix * scale, width), rel=1e-8)


def test_without_momentum_momentum_is_gradient_descent() -> None:
    base = ("data.n_train=30", "batch_size=full", "width=10", "steps=5", "lr=1.8")
    rows = [full_row(*base, *o) for o in (("optimizer=sgd",), ("optimizer=momentum", "optimizer.momentum=0"))]
    assert rows[0]["preconditioned_condition"] == rows[1]["preconditioned_condition"]


def test_numpys_failures_are_guarded_too() -> None:
    """A start so far away that products overflow: eigenvalues by Lanczos do not exist."""
    run = run_of("model=two_layer", "data=linear_teacher", "data.standardize=none", "data.n_train=3", "data.n_test=10",
                 "batch_size=1", "steps=9", "width=10", "init.scale=1e200", "normalization=scale",
                 "optimizer=adagrad", "dtype=float64")  # fmt: skip
    row = solve_rows(run, settings=Settings(device="cpu", measure_name="full", measure_memory=1e-5))[0]
    assert row["status"] in ("ok", "diverged")


def test_lanczos_does_not_guess_rates_between_its_ends() -> None:
    """Nesterov's rate is largest inside the spectrum: from its ends alone it would be too small."""
    base = ("model=two_layer", "width=4", "model.activation=tanh", "model.bias=true", "data=linear_teacher",
            "data.dim=5", "data.n_train=60", "data.n_test=20", "batch_size=full", "optimizer=nesterov", "lr=1.2",
            "steps=50", "dtype=float64")  # fmt: skip
    short = solve_rows(run_of(*base), settings=Settings(device="cpu", measure_name="full", measure_memory=0))[0]
    assert short["measure_method"] == "lanczos"
    assert short["hessian_condition"] == pytest.approx(full_row(*base)["hessian_condition"], rel=1e-3)
    assert short["preconditioned_condition"] is None


@pytest.mark.parametrize("width", [40, 200])
@pytest.mark.parametrize("penalty", [1e-3, 1.0])
def test_ridge_condition_is_that_of_the_penalised_hessian(width: int, penalty: float) -> None:
    overrides = ("optimizer=ridge", f"optimizer.penalty={penalty}", f"width={width}", "data.n_train=100")
    design = network_of(run_of(*overrides)).exact_train.inputs[0]
    values = torch.linalg.eigvalsh(design.T @ design + penalty * torch.eye(width))
    expected = float(values[-1] / values[0])
    assert row_of(*overrides)["hessian_condition"] == pytest.approx(expected, rel=1e-6)


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
