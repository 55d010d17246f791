"""Gradients written out by hand are autograd's."""

from __future__ import annotations

import pytest
import torch

from dd.trainers.analytic import Analytic
from dd.trainers.stack import Stack
from tests.helpers import run_of
from tests.training import tasks_of

pytestmark = pytest.mark.rounding

BASE = ("data.n_train=30", "data.n_test=20", "dtype=float64", "lr_unit=absolute", "steps=3", "batch_size=11", "width=7")
MODELS = {
    "read-out": (),
    "read-out with bias": ("model.bias=true",),
    "read-out behind a fixed norm": ("normalization=layer_norm", "normalization.affine=false"),
    "read-out behind standardised features": ("normalization=standardize",),
    "linear": ("model=linear",),
    "net": ("model=two_layer",),
    "net of tanh without bias": ("model=two_layer", "model.activation=tanh", "model.bias=false"),
    "net behind a fixed norm": ("model=two_layer", "normalization=layer_norm", "normalization.affine=false"),
    "net behind standardised features": ("model=two_layer", "normalization=standardize", "model.activation=tanh"),
    "net behind scaled features": ("model=two_layer", "normalization=scale", "model.bias=false"),
}


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize("name", MODELS)
def test_they_are_autograds(name: str, loss: str) -> None:
    """Of several runs at once, on a batch; weights are not those of the start."""
    line = (*BASE, *MODELS[name], f"loss={loss}", "optimizer=adam")
    runs = [run_of(*line, f"lr={lr}", f"init.scale={scale}") for lr, scale in ((0.1, 1), (0.2, 3))]
    assert all(Analytic.objection(run, torch.device("cpu")) is None for run in runs)
    by_hand, reference = Analytic(tasks_of(runs)), Stack(tasks_of(runs))
    theta = reference.theta + 0.1 * torch.randn(reference.theta.shape, dtype=torch.float64)
    for x, y in reference.batches.between(0, 3):
        value, gradient = by_hand.objective(theta.clone(), x, y)
        assert value is None
        torch.testing.assert_close(gradient, reference.objective(theta, x, y)[1], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("optimizer=lbfgs",), "asks for the loss"),
        (("normalization=batch_norm",), "no gradient here"),
        (("normalization=layer_norm",), "no gradient here"),
        (("model=two_layer", "normalization=batch_norm"), "normalization=batch_norm"),
        (("model=two_layer", "normalization=layer_norm"), "normalization=layer_norm"),
        (("optimizer=min_norm",), "takes no steps"),
    ],
)
def test_what_it_cannot_is_told(overrides: tuple[str, ...], words: str) -> None:
    assert words in (Analytic.objection(run_of(*overrides), torch.device("cpu")) or "")
