"""The largest eigenvalue of the training loss's Hessian, and step sizes in its units.

Covers: dd/measure/lanczos.py, dd/measure/two_layer.py.
"""

from __future__ import annotations

import pytest
import torch

from dd.measure import hessian
from dd.measure.hessian import exact_loss, hessian_vector, largest_eigenvalue, sharpness
from dd.measure.lanczos import lanczos
from dd.measure.two_layer import TwoLayerHessian, knows
from dd.network import Network
from tests.helpers import network_of, row_of, run_of

SMALL = ("data.n_train=50", "data.n_test=30", "batch_size=full", "width=6", "data=mnist1d")


def dense_hessian(network: Network, flat: torch.Tensor) -> torch.Tensor:
    samples = network.exact_train

    def loss(x: torch.Tensor) -> torch.Tensor:
        outputs = network.outputs(network.named(x[None]), samples.inputs, dict(network.buffers), training=False)
        if network.run.loss == "mse":
            return torch.nn.functional.mse_loss(outputs[0], samples.targets)
        return torch.nn.functional.cross_entropy(outputs[0], samples.targets)

    return torch.autograd.functional.hessian(loss, flat)


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
    loss = exact_loss(network, network.buffers)
    assert largest_eigenvalue(loss, flat) == pytest.approx(float(values[-1]), rel=1e-8)


BY_HAND = [
    ("width=6",),
    ("width=1", "model.bias=false"),
    ("width=80",),
    ("width=6", "data.n_train=1"),
    ("width=6", "init=zero"),
    ("width=6", "loss=cross_entropy"),
    ("width=6", "model.activation=tanh"),
    ("width=6", "model.activation=tanh", "loss=cross_entropy", "model.bias=false"),
]


@pytest.mark.parametrize("line", BY_HAND, ids=" ".join)
def test_products_by_hand_are_those_of_automatic_differentiation(line: tuple[str, ...]) -> None:
    network = network_of(run_of(*SMALL, "model=two_layer", *line))
    assert knows(network)
    theta = network.theta[0]
    vector = torch.randn(len(theta), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    wanted = hessian_vector(exact_loss(network, {}), theta)(vector)
    by_hand = TwoLayerHessian(network)
    torch.testing.assert_close(by_hand(vector), wanted, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(by_hand(vector), wanted, rtol=1e-11, atol=1e-13)  # nothing is left behind
    assert sharpness(network) == pytest.approx(largest_eigenvalue(exact_loss(network, {}), theta), rel=1e-10, abs=1e-15)


def test_what_is_not_known_by_hand_is_differentiated() -> None:
    for line in (("normalization=layer_norm",), ("model.activation=erf",)):
        network = network_of(run_of(*SMALL, "model=two_layer", *line))
        assert not knows(network)
        top = torch.linalg.eigvalsh(dense_hessian(network, network.theta[0]))[-1]
        assert sharpness(network) == pytest.approx(float(top), rel=1e-8)


@pytest.mark.parametrize("line", [(), ("model.activation=tanh", "loss=cross_entropy")], ids=" ".join)
def test_a_large_problem_in_float32_is_as_sharp_to_six_digits(
    line: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of("model=two_layer", "width=40", "data.n_train=700", *line)
    exact = sharpness(network_of(run))
    monkeypatch.setattr(hessian, "LARGE", 0)
    monkeypatch.setattr(hessian, "FIRST_SAMPLES", 150)
    assert sharpness(network_of(run)) == pytest.approx(exact, rel=1e-6)


def test_lanczos_gives_the_vector_and_goes_on_from_one() -> None:
    matrix = torch.randn(60, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix = matrix @ matrix.T
    values, vectors = torch.linalg.eigh(matrix)
    found = lanczos(lambda v: matrix @ v, matrix[0], 1e-13)
    assert found.settled
    assert found.value == pytest.approx(float(values[-1]), rel=1e-12)
    assert abs(float(found.vector @ vectors[:, -1])) == pytest.approx(1, abs=1e-9)
    products = 0

    def counted(v: torch.Tensor) -> torch.Tensor:
        nonlocal products
        products += 1
        return matrix @ v

    assert lanczos(counted, matrix[0], 1e-9, found.vector).value == pytest.approx(found.value, rel=1e-9)
    assert products <= 2
    bad = lanczos(lambda v: v * torch.inf, matrix[0], 1e-9)
    assert (bad.settled, float(bad.vector.norm())) == (False, 0.0)


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
