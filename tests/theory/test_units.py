"""Conversions against dd's own runs: the same solution, found in the units of the theory."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dd.runs import registry
from dd.streams import stream
from dd.theory import units
from tests.helpers import network_of, row_of, run_of

DIGITS = ("data.n_train=60", "data.n_test=50", "width=40", "model.activation=tanh")
P, N, OUTPUTS = 40, 60, 10


def theory_features(*overrides: str) -> tuple[np.ndarray, np.ndarray]:
    """Z = features/√p of the training set, [60, 40], and targets, [60, 10]."""
    train = network_of(run_of(*overrides)).exact_train
    return train.inputs[0].numpy() / math.sqrt(P), train.targets.numpy()


def test_a_penalty_is_a_ridge() -> None:
    overrides = (*DIGITS, "optimizer=ridge", "optimizer.penalty=3")
    z, y = theory_features(*overrides)
    w = np.linalg.solve(z.T @ z + units.ridge(3.0, P) * np.eye(P), z.T @ y)
    error = np.sum((z @ w - y) ** 2) / N
    assert row_of(*overrides)["train_loss"] == pytest.approx(units.mean_loss(error, OUTPUTS), rel=1e-10)


@pytest.mark.parametrize("optimizer", ["gd", "momentum"])
def test_a_step_is_a_step_on_the_theorys_loss(optimizer: str) -> None:
    overrides = (*DIGITS, f"optimizer={optimizer}", "batch_size=full", "lr_unit=absolute", "lr=0.2", "steps=12",
                 "init=zero")  # fmt: skip
    z, y = theory_features(*overrides)
    w, velocity = np.zeros((P, OUTPUTS)), 0.0
    for _ in range(12):
        velocity = (0.9 if optimizer == "momentum" else 0.0) * velocity + z.T @ (z @ w - y) / N
        w = w - units.step(0.2, P, OUTPUTS) * velocity
    error = np.sum((z @ w - y) ** 2) / N
    assert row_of(*overrides)["train_loss"] == pytest.approx(units.mean_loss(error, OUTPUTS), rel=1e-10)


def test_a_flow_runs_in_the_theorys_time() -> None:
    overrides = (*DIGITS, "optimizer=gradient_flow", "lr_unit=absolute", "lr=0.2", "steps=12", "init=zero",
                 "batch_size=full")  # fmt: skip
    z, y = theory_features(*overrides)
    curvature, vectors = np.linalg.eigh(z @ z.T / N)
    left = np.exp(-units.time("gradient_flow", 0.2, 12, P, OUTPUTS) * curvature)
    error = np.sum((left[:, None] * (vectors.T @ y)) ** 2) / N
    assert row_of(*overrides)["train_loss"] == pytest.approx(units.mean_loss(error, OUTPUTS), rel=1e-10)


@pytest.mark.parametrize("init", units.START_VARIANCES)
def test_starts_have_the_variance_of_dds_draws(init: str) -> None:
    p, scheme = 3000, registry.kind("init", "fan_in" if init == "default" else init)()
    drawn = scheme.weight(stream(0, "test"), p, OUTPUTS, p, OUTPUTS) * 2.0
    w = math.sqrt(p) * drawn  # raw features are √p times those of the theory
    assert units.start(init, p, OUTPUTS, 2.0) == pytest.approx(np.sum(w**2) / p, rel=0.05)


def test_what_has_no_conversion_is_refused() -> None:
    with pytest.raises(ValueError, match="init='other' must be one of"):
        units.start("other", 10, 1)
    with pytest.raises(ValueError, match="optimizer='adam' must be"):
        units.time("adam", 0.1, 10, 10, 1)
