"""Deep networks by compiled gradients: the reference's, running statistics too."""

from __future__ import annotations

import pytest
import torch

from dd.trainers.compiled import Compiled
from dd.trainers.stack import Stack
from tests.helpers import run_of
from tests.training import task_of

pytestmark = pytest.mark.rounding

DEEP = ("model=rmt", "data.n_train=16", "data.n_test=10", "batch_size=8", "epochs=2", "lr=0.003", "lr_unit=absolute",
        "width=2", "optimizer=adam", "dtype=float64")  # fmt: skip


@pytest.mark.parametrize(
    "overrides",
    [(), ("normalization=layer_norm", "loss=cross_entropy"), ("normalization=none", "batch_size=full")],
    ids=" ".join,
)
def test_its_gradients_and_statistics_are_the_references(overrides: tuple[str, ...]) -> None:
    run = run_of(*DEEP, *overrides)
    assert Compiled.objection(run, torch.device("cpu")) is None
    compiled, reference = Compiled([task_of(run)]), Stack([task_of(run)])
    for x, y in reference.batches.between(0, 3):
        value, gradient = compiled.objective(compiled.theta, x, y)
        expected = reference.objective(reference.theta, x, y)[1]
        assert value is None
        torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-12)
        assert compiled.buffers.keys() == reference.buffers.keys()
        for name, buffer in reference.buffers.items():
            torch.testing.assert_close(compiled.buffers[name], buffer, rtol=1e-10, atol=1e-12)
