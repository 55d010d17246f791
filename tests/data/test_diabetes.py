"""The diabetes data against scikit-learn's own loader."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from dd.data.diabetes import Diabetes
from dd.errors import ConfigError
from dd.problems.problem import load
from dd.runs.settings import Settings
from tests.helpers import row_of, run_of


def test_diabetes_is_that_of_scikit_learn_with_unit_variance() -> None:
    pool = Diabetes().pool(run_of("data=diabetes", "batch_size=full"), Settings())
    reference = load_diabetes()
    np.testing.assert_allclose(pool.x, reference.data * np.sqrt(442), atol=1e-12)
    np.testing.assert_allclose(pool.y[:, 0], (reference.target - reference.target.mean()) / reference.target.std())
    for values in (pool.x, pool.y):
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-13)
        np.testing.assert_allclose(values.var(axis=0), 1, rtol=1e-12)


def test_training_sets_are_nested_and_disjoint_from_a_test_set_that_stays() -> None:
    runs = [run_of("data=diabetes", f"data.n_train={n}", "batch_size=full") for n in (20, 142)]
    small, large = (load(run, Settings()) for run in runs)
    assert np.array_equal(small.train_x, large.train_x[:20])
    assert np.array_equal(small.test_x, large.test_x)
    rows = np.concatenate([large.train_x, large.test_x])
    assert len(np.unique(rows, axis=0)) == len(rows) == 442


def test_least_squares_is_numpys() -> None:
    row = row_of("data=diabetes", "model=linear", "width=10", "optimizer=min_norm")
    problem = load(run_of("data=diabetes", "batch_size=full"), Settings())
    coefficients, residual, *_ = np.linalg.lstsq(problem.train_x.numpy(), problem.train_y.numpy(), rcond=None)
    assert row["train_loss"] == pytest.approx(residual[0] / 100, rel=1e-10)
    errors = problem.test_x.numpy() @ coefficients - problem.test_y.numpy()
    assert row["test_loss"] == pytest.approx(np.mean(errors**2), rel=1e-10)
    assert row["test_error"] is None


@pytest.mark.parametrize(
    ("overrides", "key"),
    [(("data.n_train=143",), "data.n_train"), (("data.label_noise=0.1",), "data.label_noise"),
     (("loss=cross_entropy",), "loss")],
)  # fmt: skip
def test_what_it_does_not_have_is_refused(overrides: tuple[str, ...], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}="):
        run_of("data=diabetes", *overrides)
