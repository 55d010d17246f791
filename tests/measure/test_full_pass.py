"""One pass over all samples: against separate passes, whole and in pieces, over degenerate nets and data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dd.measure import full_pass as module
from dd.measure.full_pass import feature_samples, feature_spectrum, full_pass, gradient_norm, piece_size, pieces
from dd.measure.outcome import outcome
from dd.measure.spectrum import Rows, Spectrum
from dd.network import Network
from tests.helpers import network_of, run_of

NETS = ("model=two_layer", "data.n_train=40", "data.n_test=30", "batch_size=10", "lr_unit=absolute", "lr=0.1")
LINES = [
    ("width=9",),
    ("width=1",),
    ("width=60",),
    ("width=12", "validation=0.2"),
    ("width=9", "data.n_train=1", "batch_size=full"),
    ("width=9", "init=zero"),
    ("width=9", "model.activation=tanh", "model.bias=false"),
    ("width=9", "model.activation=erf"),
    ("width=9", "loss=cross_entropy"),
    ("width=9", "normalization=batch_norm"),
    ("width=9", "normalization=layer_norm"),
    ("width=9", "normalization=standardize", "model=random_features"),
    ("width=60", "model=random_features", "loss=cross_entropy"),
]


def stack(*line: str) -> Network:
    return network_of(run_of(*NETS, *line))


@pytest.fixture(params=["whole", "pieces"])
def size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pieces":
        monkeypatch.setattr(module, "ENTRIES", 1)
        monkeypatch.setattr(module, "LEAST", 7)
    return str(request.param)


def assert_spectrum(found: Spectrum | None, matrix: torch.Tensor) -> None:
    """Against NumPy's singular values of the whole matrix."""
    assert found is not None
    values = np.linalg.svd(matrix.numpy(), compute_uv=False)
    above = values[values > max(matrix.shape) * np.finfo(float).eps * values.max(initial=0.0)]
    assert found.rank == len(above)
    if len(above):
        assert (found.sigma_max, found.sigma_min) == pytest.approx((above.max(), above.min()), rel=1e-9)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_it_equals_passes_made_one_by_one(line: tuple[str, ...]) -> None:
    network = stack(*line)
    theta = network.named(network.theta.clone())
    if line == ("width=60",):
        theta.named["hidden"][0, :20] = -100.0  # dead units
        theta.named["hidden"][0, 30] = theta.named["hidden"][0, 31]  # one unit twice
    buffers = {k: v.clone() for k, v in network.buffers.items()}
    found = full_pass(network, theta, buffers)
    plain = outcome(network, theta, buffers, *map(network.exact, network.sides))
    for name, value in vars(plain).items():
        torch.testing.assert_close(getattr(found.outcome, name), value, rtol=1e-12, atol=0)
    leaf = theta.flat.clone().requires_grad_(True)
    samples = network.exact_train
    copies = {k: v.clone() for k, v in buffers.items()}
    loss = network.loss(network.named(leaf), samples.inputs, samples.targets, copies).sum()
    slope = float(torch.autograd.grad(loss, leaf)[0].norm())
    assert found.gradient_norm == pytest.approx(slope, rel=1e-12)
    copies = {k: v.clone() for k, v in buffers.items()}
    tied = network.batch_dependent
    assert_spectrum(found.features, network.design(theta, samples.inputs, copies, training=tied)[0])
    assert all(torch.equal(buffers[k], network.buffers[k]) for k in buffers), "the memory is left as it is"
    only = full_pass(network, theta, buffers, gradient=False, spectrum=False)
    assert (only.gradient_norm, only.features) == (None, None)
    assert float(only.outcome.test_loss) == float(found.outcome.test_loss)


@pytest.mark.usefixtures("size")
def test_entries_that_are_not_finite_have_no_spectrum() -> None:
    network = stack("width=9")
    theta = network.named(network.theta.clone())
    theta.named["hidden"][0, 3] = torch.inf
    found = full_pass(network, theta, {})
    assert found.features is None
    assert feature_spectrum(network, theta.flat, {}) is None
    assert not np.isfinite(float(found.outcome.train_loss))


def test_pieces_follow_from_the_run_and_hold_every_sample_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENTRIES", 700)
    monkeypatch.setattr(module, "LEAST", 3)
    network = stack("width=9")
    parts = list(pieces(network, network.exact_train))
    assert {len(part.targets) for part in parts[:-1]} == {piece_size(network.run)} == {700 // 65}
    for name in ("targets", "classes"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(network.exact_train, name))
    assert torch.equal(torch.cat([part.inputs for part in parts], dim=1), network.exact_train.inputs)


@pytest.mark.parametrize(("rows", "columns"), [(50, 7), (7, 50), (20, 20), (1, 3)])
@pytest.mark.parametrize("block", [1, 6, 100])
def test_a_matrix_in_blocks_of_rows_has_the_spectrum_of_the_whole(rows: int, columns: int, block: int) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix[:, -1] = matrix[:, 0]
    held = Rows()
    for part in matrix.split(block):
        held.add(part)
    assert_spectrum(held.spectrum(), matrix)


def test_the_gradient_of_a_deep_network_is_a_mean_over_batches() -> None:
    line = ("model=rmt", "width=2", "data.n_train=20", "data.n_test=10", "batch_size=8", "optimizer=adam")
    network = network_of(run_of(*line))
    samples = network.exact_train
    mean = torch.zeros_like(network.theta)
    for x, y in zip(samples.inputs.split(8, dim=1), samples.targets.split(8), strict=True):
        mean += len(y) / 20 * network.objective(network.theta, x, y, {})[1]
    assert gradient_norm(network, network.theta, {}) == pytest.approx(float(mean.norm()), rel=1e-9)
    assert feature_samples(network.run) == 20
