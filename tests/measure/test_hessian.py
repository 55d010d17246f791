"""The largest eigenvalue of the training loss's Hessian, and step sizes in its units.

Covers: dd/measure/lanczos.py.
"""

from __future__ import annotations

import pytest
import torch

from dd.measure.hessian import exact_loss, largest_eigenvalue
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
