"""MNIST-1D from its package, Fashion-MNIST from Debian's.

Covers: dd/data/fashion_mnist.py, dd/data/mnist1d.py.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from dd.problems.problem import load
from dd.runs.settings import Settings
from tests.helpers import row_of, run_of

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def test_mnist1d_is_the_packages_and_leaves_global_generators_alone() -> None:
    from mnist1d.data import get_dataset_args, make_dataset

    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state under test
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    problem = load(run_of("data=mnist1d", "data.n_train=4000", "data.standardize=none"), Settings())
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
    reference = make_dataset(get_dataset_args())["x"]
    np.testing.assert_allclose(np.sort(problem.train_x.numpy().sum(1)), np.sort(reference.sum(1)), atol=1e-12)
    assert problem.test_x.shape == (1000, 40)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian package dataset-fashion-mnist is not installed")
def test_fashion_mnist_in_full_size_from_debians_package() -> None:
    problem = load(run_of("data=fashion_mnist", "data.n_train=60000", "data.n_test=10000"), Settings())
    assert problem.train_x.shape == (60_000, 784)
    assert np.array_equal(problem.train_y.sum(0), np.full(10, 6000))
    assert problem.source == str(DEBIAN)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian package dataset-fashion-mnist is not installed")
def test_fashion_mnist_peaks_at_n() -> None:
    rows = {w: row_of("data=fashion_mnist", f"width={w}", "optimizer=min_norm") for w in (70, 490, 2000)}
    losses = {w: row["test_loss"] for w, row in rows.items()}
    assert losses[490] > 5 * max(losses[70], losses[2000])
