"""The synthetic teachers against their laws.

Covers: dd/data/_teacher.py, dd/data/hermite_teacher.py, dd/data/linear_teacher.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from dd.problems.problem import load
from dd.runs.settings import Settings
from tests.helpers import run_of


def problem(*overrides: str):
    return load(run_of("data.n_train=4000", "data.n_test=4000", *overrides), Settings())


def test_linear_teacher_is_linear_with_unit_signal_and_given_noise() -> None:
    p = problem("data=linear_teacher", "data.dim=20", "data.noise=0.3")
    coefficients, *_ = np.linalg.lstsq(p.test_x.numpy(), p.test_y.numpy(), rcond=None)
    assert np.linalg.norm(coefficients) == pytest.approx(1.0, abs=1e-10)
    np.testing.assert_allclose(p.test_x.numpy() @ coefficients, p.test_y.numpy(), atol=1e-10)
    noise = p.train_y.numpy() - p.train_x.numpy() @ coefficients
    assert noise.std() == pytest.approx(0.3, rel=0.05)
    assert np.cov(p.train_x.numpy().T) == pytest.approx(np.eye(20), abs=0.12)


def test_sphere_inputs_have_norm_sqrt_dim() -> None:
    p = problem("data=hermite_teacher", "data.inputs=sphere", "data.dim=12")
    np.testing.assert_allclose(np.linalg.norm(p.train_x.numpy(), axis=1), np.sqrt(12), rtol=1e-12)


def test_hermite_parts_are_orthonormal() -> None:
    parts = [
        load(
            run_of("data=hermite_teacher", "data.n_test=200000", *(f"data.c{j}={int(j == k)}" for j in (1, 2, 3))),
            Settings(),
        ).test_y.numpy()[:, 0]
        for k in (1, 2, 3)
    ]  # fmt: skip
    gram = np.array(parts) @ np.array(parts).T / 200_000
    np.testing.assert_allclose(gram, np.eye(3), atol=0.06)


def test_more_samples_extend_fewer() -> None:
    small = load(run_of("data=linear_teacher", "data.n_train=50"), Settings())
    large = load(run_of("data=linear_teacher", "data.n_train=80"), Settings())
    np.testing.assert_array_equal(small.train_x, large.train_x[:50])
    np.testing.assert_allclose(small.train_y, large.train_y[:50], rtol=1e-13)
    np.testing.assert_array_equal(small.test_x, large.test_x)
