"""data.targets=linear (dd.problems.problem): the targets of the best linear model."""

from __future__ import annotations

import numpy as np
import pytest

from dd.errors import ConfigError
from dd.problems.problem import linear_targets, load
from dd.runs.settings import Settings
from tests.helpers import row_of, run_of

SETS = (
    ("data=diabetes", "data.n_train=60", "batch_size=full"),
    ("data=digits", "data.n_train=300"),
    ("data=linear_teacher", "data.noise=2"),
    ("data=hermite_teacher", "data.c2=2"),
)


@pytest.mark.parametrize("overrides", SETS)
def test_targets_are_the_projection_of_those_given_on_all_inputs(overrides: tuple[str, ...]) -> None:
    given, linear = (load(run_of(*overrides, f"data.targets={t}"), Settings()) for t in ("given", "linear"))
    x = np.concatenate([given.train_x, given.test_x])
    y = np.concatenate([given.train_y, given.test_y])
    fitted = np.concatenate([linear.train_y, linear.test_y])
    assert np.array_equal(np.concatenate([linear.train_x, linear.test_x]), x)
    np.testing.assert_allclose(x.T @ (fitted - y) / len(x), 0, atol=1e-10)  # the normal equations
    np.testing.assert_allclose(x @ (np.linalg.pinv(x) @ fitted), fitted, atol=1e-10)
    assert not np.allclose(fitted, y, atol=0.1)
    assert not linear.classification


def test_there_is_no_intercept() -> None:
    x = np.array([[1.0], [1.0], [2.0]])
    y = np.array([[1.0], [1.0], [1.0]])
    np.testing.assert_allclose(linear_targets(x, y), x * 4 / 6)


@pytest.mark.parametrize(("data", "inputs"), [("diabetes", 10), ("linear_teacher", 30)])
def test_a_linear_model_of_all_inputs_has_no_error_left(data: str, inputs: int) -> None:
    base = (f"data={data}", "model=linear", "optimizer=min_norm", f"width={inputs}")
    assert row_of(*base)["test_loss"] > 1e-3
    row = row_of(*base, "data.targets=linear")
    assert row["test_loss"] < 1e-20
    assert row["test_error"] is None
    assert row["targets"] == "linear"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (
            ("data.label_noise=0.1",),
            r"data\.label_noise=0\.1 \(from the command line\): data\.targets=linear has real targets without noise",
        ),
        (
            ("loss=cross_entropy",),
            r"loss=cross_entropy \(from the command line\): data\.targets=linear has real targets; use loss=mse",
        ),
    ],
)
def test_classes_and_their_noise_are_gone(overrides: tuple[str, ...], line: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{line}"):
        run_of("data.targets=linear", *overrides)
