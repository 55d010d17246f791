"""The downloader and the IDX data sets against a loopback server: good, truncated, wrong and HTML bodies.

Covers: dd/data/mnist.py.
"""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dd.data import mnist
from dd.data._download import Remote, cache_folder, download
from dd.data._idx import read_idx
from dd.errors import ConfigError, DataNotFoundError
from dd.problems.problem import load
from dd.runs.settings import Settings
from tests.data.servers import Answer, serve
from tests.helpers import problem_of, run_of

HTML = b"<!DOCTYPE html><html><body>Please log in</body></html>"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def idx(array: np.ndarray) -> bytes:
    """Write an IDX file of unsigned bytes."""
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def small_mnist() -> dict[str, bytes]:
    """Digits enlarged to 28x28 as the four files of MNIST."""
    digits = load_digits()
    images = np.pad(np.kron(digits.images, np.ones((3, 3))), ((0, 0), (2, 2), (2, 2))) * 15
    arrays = (images[:1500], digits.target[:1500], images[1500:], digits.target[1500:])
    return {
        remote.name: gzip.compress(idx(array), mtime=0)
        for remote, array in zip(mnist.MNIST.remotes, arrays, strict=True)
    }


def test_mirrors_are_tried_until_one_serves_the_file(tmp_path: Path) -> None:
    body = small_mnist()["train-labels-idx1-ubyte.gz"]
    remote = Remote("file.gz", hashlib.sha256(body).hexdigest())
    answers: dict[str, Answer] = {
        "/forbidden/file.gz": (403, b"no", None),
        "/html/file.gz": (200, HTML, None),
        "/short/file.gz": (200, body[: len(body) // 2], len(body)),
        "/wrong/file.gz": (200, body[:-1] + b"x", None),
        "/good/file.gz": (200, body, None),
    }
    with serve(answers) as server:
        mirrors = [f"{server.base}/{part}/" for part in ("forbidden", "html", "short", "wrong", "good")]
        path = download(remote, mirrors, tmp_path)
        assert len(server.seen) == 5
    assert path.read_bytes() == body
    assert download(remote, [], tmp_path) == path, "a verified file is used without asking a mirror"
    assert [p.name for p in tmp_path.iterdir()] == ["file.gz"]


def test_all_mirrors_failing_lists_each_and_leaves_nothing(tmp_path: Path) -> None:
    answers: dict[str, Answer] = {"/html/f": (200, HTML, None), "/short/f": (200, b"ab", 10)}
    with serve(answers) as server, pytest.raises(OSError, match="could not download f") as caught:
        download(Remote("f", "0" * 64), [f"{server.base}/{part}/" for part in ("html", "short", "gone")], tmp_path)
    text = str(caught.value)
    assert text.count("127.0.0.1") == 3
    assert "sha256" in text
    assert list(tmp_path.iterdir()) == []


def test_a_spoilt_cached_file_is_fetched_again(tmp_path: Path) -> None:
    remote = Remote("f", hashlib.sha256(b"right").hexdigest())
    (tmp_path / "f").write_bytes(b"spoilt")
    with serve({"/f": (200, b"right", None)}) as server:
        assert download(remote, [f"{server.base}/"], tmp_path).read_bytes() == b"right"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Point MNIST at a mirror that serves the small files, through the class's own settings."""

    def point(base: str) -> None:
        remotes = tuple(Remote(name, hashlib.sha256(body).hexdigest()) for name, body in small_mnist().items())
        monkeypatch.setattr(mnist.MNIST, "remotes", remotes)
        monkeypatch.setattr(mnist.MNIST, "mirrors", (f"{base}/",))

    return point


def test_mnist_downloads_only_when_asked_and_then_comes_from_the_cache(served: Callable[[str], None]) -> None:
    run = run_of("data=mnist", "data.n_train=300", "data.n_test=100")
    with serve({f"/{name}": (200, body, None) for name, body in small_mnist().items()}) as server:
        served(server.base)
        with pytest.raises(DataNotFoundError, match=r"data\.download=true"):
            load(run, Settings())
        assert server.seen == []
        problem = load(run, Settings(data_download=True))
        assert len(server.seen) == 4
        load(run, Settings(data_root="/nowhere"))
        assert len(server.seen) == 4, "the second time, the cache has them"
    assert problem.train_x.shape == (300, 784)
    assert problem.test_y.shape == (100, 10)
    assert problem.source == str(cache_folder() / "mnist")
    assert np.array_equal(problem.train_y.sum(0), np.full(10, 30))
    np.testing.assert_allclose(np.linalg.norm(problem.train_x, axis=1), 28)


def test_data_root_is_searched_first_and_plain_files_will_do(tmp_path: Path, served: Callable[[str], None]) -> None:
    for name, body in small_mnist().items():
        (tmp_path / name.removesuffix(".gz")).write_bytes(gzip.decompress(body))
    problem = problem_of("data=mnist", "data.n_train=50", "data.n_test=50", settings=Settings(data_root=str(tmp_path)))
    assert problem.source == str(tmp_path)
    with pytest.raises(ConfigError, match=r"data.n_train=2000.*<= 1500"):
        problem_of("data=mnist", "data.n_train=2000", "data.n_test=50", settings=Settings(data_root=str(tmp_path)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (HTML, "bad magic"),
        (b"", "bad magic"),
        (b"\0\0\x0d\x01" + bytes(8), "bad magic"),
        (b"\0\0\x08\x00", "0 dimensions"),
        (b"\0\0\x08\x05" + bytes(20), "5 dimensions"),
        (b"\0\0\x08\x03\0\0", "within its header"),
        (idx(np.zeros((3, 4)))[:-1], "holds 11 bytes"),
        (idx(np.zeros((3, 4))) + b"x", "holds more than the 12 bytes"),
    ],
)
def test_damaged_idx_files_are_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_idx(io.BytesIO(content))


def test_idx_round_trip() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(read_idx(io.BytesIO(idx(array)))[0], array)


def test_a_truncated_gzip_file_is_named(tmp_path: Path) -> None:
    for name, body in small_mnist().items():
        (tmp_path / name).write_bytes(body)
    broken = tmp_path / "train-images-idx3-ubyte.gz"
    broken.write_bytes(broken.read_bytes()[:500])
    with pytest.raises(DataNotFoundError, match=r"train-images-idx3-ubyte\.gz: damaged gzip"):
        problem_of("data=mnist", "data.n_train=50", "data.n_test=50", settings=Settings(data_root=str(tmp_path)))
