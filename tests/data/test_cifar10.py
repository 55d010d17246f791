"""The CIFAR-10 reader on archives in CIFAR's format (the real one is not at hand)."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from dd.data.cifar10 import read_batch
from dd.errors import DataNotFoundError
from dd.runs.settings import Settings
from tests.helpers import problem_of

NAMES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]


def batch(seed: int) -> dict[bytes, object]:
    generator = np.random.default_rng(seed)
    return {
        b"batch_label": b"a batch",
        b"labels": [int(i) % 10 for i in range(40)],
        b"data": generator.integers(0, 256, (40, 3072), dtype=np.uint8),
        b"filenames": [b"x.png"] * 40,
    }


def archive(path: Path, names: list[str]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for i, name in enumerate(names):
            content = pickle.dumps(batch(i), protocol=2)
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_reads_train_and_test_batches_in_order(tmp_path: Path) -> None:
    archive(tmp_path / "cifar-10-python.tar.gz", NAMES)
    overrides = ("data=cifar10", "data.n_train=200", "data.n_test=40", "data.standardize=none")
    problem = problem_of(*overrides, settings=Settings(data_root=str(tmp_path)))
    assert problem.train_x.shape == (200, 3072)
    expected = np.concatenate([batch(i)[b"data"] for i in range(5)]) / 255
    order = np.lexsort(problem.train_x.numpy().T)
    np.testing.assert_allclose(problem.train_x.numpy()[order], expected[np.lexsort(expected.T)])
    assert np.array_equal(problem.test_y.sum(0), np.full(10, 4))


def test_an_archive_without_a_batch_is_refused(tmp_path: Path) -> None:
    archive(tmp_path / "cifar-10-python.tar.gz", NAMES[:-1])
    with pytest.raises(DataNotFoundError, match="lacks test_batch"):
        problem_of("data=cifar10", "data.n_train=50", "data.n_test=20", settings=Settings(data_root=str(tmp_path)))


def test_a_page_instead_of_an_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"<html>")
    with pytest.raises(DataNotFoundError, match=r"cifar-10-python\.tar\.gz"):
        problem_of("data=cifar10", "data.n_train=50", "data.n_test=20", settings=Settings(data_root=str(tmp_path)))


class Exploit:
    """Would run a command where pickles are trusted."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("owned",)


@pytest.mark.parametrize("content", [pickle.dumps(Exploit()), pickle.dumps({b"data": 1}), b"", b"<html>"])
def test_other_pickles_are_refused(content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="not a CIFAR batch"):
        read_batch(content)
    assert capsys.readouterr().out == ""
