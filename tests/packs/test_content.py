"""Which samples a run is for is part of its identity: rows of other data are never taken for its own.

Covers: dd/problems/pools.py, dd/samples/stamps.py.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dd
from dd.cli.compose import compose_jobs, compose_runs
from dd.components.dataset import Dataset, Pool
from dd.data._idx import IdxDataset
from dd.data.mnist import MNIST as Mnist
from dd.errors import ConfigError, StoreError
from dd.packs.content import identified
from dd.problems.pools import former_digest, pool_of
from dd.problems.problem import load
from dd.results.rebuilt import run_of as run_of_row
from dd.runs import registry
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.samples import stamps
from tests.data.files import archive, cifar_members, mnist_arrays, write_mnist
from tests.helpers import dd_run, run_of

SMALL = ("width=6", "optimizer=min_norm", "data.n_train=20", "data.n_test=10", "data.standardize=none", "n_jobs=1")
MNIST = ("data=mnist", *SMALL)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def variants() -> dict[str, list[np.ndarray]]:
    """One set, and three that differ from it in one part each."""
    base = mnist_arrays()
    x, y, test_x, test_y = base
    other = x.copy()
    other[3, 14, 14] ^= 1
    return {
        "base": base,
        "inputs": [other, y, test_x, test_y],
        "labels": [x, (y + 1) % 10, test_x, test_y],
        "test labels": [x, y, test_x, test_y[::-1]],
        "test inputs": [x, y, test_x[::-1], test_y],
    }


def only(frame: Any, column: str) -> Any:
    (value,) = set(frame[column])
    return value


@pytest.mark.parametrize("part", ["inputs", "labels", "test labels", "test inputs"])
def test_other_files_under_the_same_names_are_other_runs_and_do_not_join_the_table(part: str, tmp_path: Path) -> None:
    folders = {name: write_mnist(tmp_path / name.replace(" ", "_"), arrays) for name, arrays in variants().items()}
    first = dd.sweep(*MNIST, f"data.root={folders['base']}")
    with pytest.raises(StoreError) as caught:
        dd.sweep(*MNIST, f"data.root={folders[part]}")
    assert len(dd.load()) == 1
    line = str(caught.value)
    assert "\n" not in line
    assert only(first, "data_content") in line
    assert "name=<another table>" in line
    second = dd.sweep(*MNIST, f"data.root={folders[part]}", "name=other")
    assert only(second, "data_content") in line
    assert only(second, "run_id") != only(first, "run_id")
    # the way back is open, and nothing is computed again
    assert only(dd.sweep(*MNIST, f"data.root={folders['base']}"), "finished_at") == only(first, "finished_at")


def test_the_content_is_in_the_row_and_comes_back_from_it(tmp_path: Path) -> None:
    root = write_mnist(tmp_path / "a", mnist_arrays())
    row = dd.sweep(*MNIST, f"data.root={root}").iloc[0]
    assert row["data_content"] == row["data_sha256"]
    settled = identified(*(lambda runs, settings: (runs, settings))(*compose_jobs([*MNIST, f"data.root={root}"])))
    table = pq.read_table(tmp_path / "results/default/runs").to_pylist()[0]
    assert run_of_row(table) == settled[0]
    assert settled[0].run_id == row["run_id"] != compose_runs(*MNIST)[0].run_id


def test_gzipped_and_plain_files_of_one_content_are_one_set(tmp_path: Path) -> None:
    zipped = write_mnist(tmp_path / "a", mnist_arrays())
    plain = write_mnist(tmp_path / "b", mnist_arrays(), zipped=False)
    run = run_of(*MNIST[:-1])
    ids = {identified([run], Settings(data_root=str(folder)))[0].run_id for folder in (zipped, plain)}
    assert len(ids) == 1


@pytest.mark.parametrize("waited", [False, True])
def test_files_replaced_between_two_sweeps_of_one_process_are_noticed(
    waited: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if waited:  # a pool whose files have long been at rest stays in memory
        monkeypatch.setattr(stamps, "SETTLED", -1)
    root = write_mnist(tmp_path / "a", mnist_arrays(), zipped=False)
    first = dd.sweep(*MNIST, f"data.root={root}")
    path = root / "train-images-idx3-ubyte"
    before = path.stat()
    content = path.read_bytes()[:16] + path.read_bytes()[:15:-1]
    if waited:
        time.sleep(0.05)  # longer than a tick of the file system's clock
    with path.open("r+b") as file:  # the same file, of the same size, said to be of the same time
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(StoreError, match=only(first, "data_content")):
        dd.sweep(*MNIST, f"data.root={root}")
    second = dd.sweep(*MNIST, f"data.root={root}", "name=other")
    assert only(second, "run_id") != only(first, "run_id")
    assert only(second, "min_norm_train_loss") != only(first, "min_norm_train_loss")


def test_files_that_change_under_a_sweep_fail_its_runs(tmp_path: Path) -> None:
    root = write_mnist(tmp_path / "a", mnist_arrays())
    settings = Settings(data_root=str(root))
    (run,) = identified([run_of(*MNIST[:-1])], settings)
    write_mnist(root, mnist_arrays(1))
    with pytest.raises(ConfigError, match=rf"^data=mnist: the content of .*, but this run is for {run.data_content}"):
        load(run, settings)


def test_a_run_of_published_files_does_not_take_others(tmp_path: Path) -> None:
    root = write_mnist(tmp_path / "a", mnist_arrays())
    with pytest.raises(ConfigError, match="this run is for the published one"):
        load(run_of(*MNIST[:-1]), Settings(data_root=str(root)))


def as_published(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the plain files of a folder be the published ones."""
    digests = tuple(
        hashlib.sha256(next(folder.glob(f"{r.name.removesuffix('.gz')}*")).read_bytes()).hexdigest()
        for r in Mnist.remotes
    )
    monkeypatch.setattr(Mnist, "content_sha256", digests)


def test_published_files_keep_their_run_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_mnist(tmp_path / "a", mnist_arrays(), zipped=False)
    as_published(monkeypatch, root)
    rows = dd.sweep(*MNIST, f"data.root={root}")
    assert only(rows, "run_id") == compose_runs(*MNIST)[0].run_id
    assert rows["data_content"].isna().all()
    assert only(rows, "data_sha256")
    other = write_mnist(tmp_path / "b", mnist_arrays(1), zipped=False)
    with pytest.raises(StoreError, match=only(rows, "data_sha256")):
        dd.sweep(*MNIST, f"data.root={other}")


def former(tmp_path: Path, digest: str) -> None:
    """Make the table one of dd 0.1: no column for the content, a digest of inputs alone."""
    (part,) = (tmp_path / "results/default/runs").glob("*.parquet")
    table = pq.read_table(part).drop_columns(["data_content"])
    at = table.schema.get_field_index("data_sha256")
    pq.write_table(table.set_column(at, "data_sha256", pa.array([digest] * len(table))), part)


def test_a_table_of_an_older_dd_is_continued_with_its_own_data_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_mnist(tmp_path / "a", mnist_arrays(), zipped=False)
    as_published(monkeypatch, root)
    dd.sweep(*MNIST, f"data.root={root}")
    x, _, test_x, _ = mnist_arrays()
    former(tmp_path, hashlib.sha256(x.tobytes() + test_x.tobytes()).hexdigest())
    dd.sweep(*MNIST, f"data.root={root}")
    assert "already in" in capsys.readouterr().err
    former_of_others = hashlib.sha256(b"other").hexdigest()
    (part,) = (tmp_path / "results/default/runs").glob("*.parquet")
    table = pq.read_table(part)
    at = table.schema.get_field_index("data_sha256")
    pq.write_table(table.set_column(at, "data_sha256", pa.array([former_of_others])), part)
    with pytest.raises(StoreError, match=former_of_others):
        dd.sweep(*MNIST, f"data.root={root}")


def test_old_tables_of_built_in_sets_are_continued(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for data, n in (("digits", 100), ("diabetes", 100)):
        dd.sweep(f"data={data}", "width=5", "optimizer=min_norm", f"data.n_train={n}", "data.n_test=50", "n_jobs=1")
        pool = pool_of(run_of(f"data={data}", "data.n_train=100", "data.n_test=50"), Settings())
        assert pool.published
        digest = former_digest(data, pool)
        assert digest
        former(tmp_path, digest)
        capsys.readouterr()
        dd.sweep(f"data={data}", "width=5", "optimizer=min_norm", f"data.n_train={n}", "data.n_test=50", "n_jobs=1")
        assert "already in" in capsys.readouterr().err
        for part in (tmp_path / "results/default/runs").glob("*.parquet"):
            part.unlink()


def test_a_content_can_be_demanded(tmp_path: Path) -> None:
    root = write_mnist(tmp_path / "a", mnist_arrays())
    rows = dd.sweep(*MNIST, f"data.root={root}")
    content = only(rows, "data_content")
    again = dd.sweep(*MNIST, f"data.root={root}", f"data.content={content}", "name=demanded")
    assert only(again, "run_id") == only(rows, "run_id")
    wrong = "0a" * 32
    done = dd_run(*MNIST, f"data.root={root}", f"data.content={wrong}", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"dd: data.content={wrong}")
    assert content in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("data", ["digits", "linear_teacher"])
def test_a_demand_does_not_change_the_id_of_a_set_that_needs_none(data: str) -> None:
    line = (f"data={data}", "width=5", "optimizer=min_norm", "n_jobs=1")
    plain = dd.sweep(*line)
    digest = only(plain, "data_sha256")
    assert only(dd.sweep(*line, f"data.content={digest}", "name=b"), "run_id") == only(plain, "run_id")
    with pytest.raises(ConfigError, match=rf"^data\.content=0a: .*{digest}"):
        dd.sweep(*line, "data.content=0a")


def test_every_part_type_shape_and_scale_is_in_the_digest() -> None:
    x, y = np.arange(12.0).reshape(4, 3), np.arange(4)
    base = Pool(x, y, x[:2], y[:2], "here")
    others = [
        Pool(x + 1, y, x[:2], y[:2], "here"), Pool(x, y + 1, x[:2], y[:2], "here"),
        Pool(x, y, x[:2] + 1, y[:2], "here"), Pool(x, y, x[:2], y[:2] + 1, "here"),
        Pool(x, y, None, None, "here"), Pool(x.reshape(3, 4), y, x[:2], y[:2], "here"),
        Pool(x.astype(np.float32), y, x[:2], y[:2], "here"), Pool(x, y, x[:2], y[:2], "here", scale=2.0),
    ]  # fmt: skip
    assert len({pool.sha256 for pool in (base, *others)}) == len(others) + 1
    same = Pool(np.asfortranarray(x), y.astype(">i8"), x[:2].astype(">f8"), y[:2], "there", published=True)
    assert same.sha256 == base.sha256


@dataclass(frozen=True)
class Drawn(Dataset, name="digits"):
    """Added from outside; it says nothing about its content."""

    shift = 0.0
    reads = 0

    @property
    def input_count(self) -> int:
        return 3

    def pool(self, run: Run, settings: Settings) -> Pool:
        type(self).reads += 1
        generator = np.random.default_rng(run.data_seed)
        n = run.n_train + run.n_test
        return Pool(generator.random((n, 3)) + self.shift, np.arange(n) % 10, None, None, "drawn by a stranger")


@dataclass(frozen=True)
class Shared(Drawn, name="digits"):
    """The same, one pool for all runs."""

    pool_axes = ()

    def pool(self, run: Run, settings: Settings) -> Pool:
        return super().pool(replace(run, data_seed=0, n_train=100, n_test=100), settings)


@pytest.fixture
def outside(request: pytest.FixtureRequest) -> Iterator[type[Drawn]]:
    """A data set under the name of another, whose file it has."""
    kind: type[Drawn] = request.param
    kind.reads, kind.shift = 0, 0.0
    with registry.visiting("data", kind):
        yield kind


@pytest.mark.parametrize("outside", [Drawn, Shared], indirect=True)
def test_a_set_that_says_nothing_has_its_content_in_the_identity(outside: type[Drawn]) -> None:
    line = (*SMALL[:-1], "data.seed=0,1", "n_jobs=1")
    first = dd.sweep(*line)
    assert first["data_content"].nunique() == (1 if outside is Shared else 2)
    assert outside.reads == (1 if outside is Shared else 4)
    # more training sets of it join the table
    assert len(dd.sweep(*line[:-2], "data.seed=2", "n_jobs=1")) == 1
    outside.shift = 1.0
    with pytest.raises(StoreError, match="drawn by a stranger"):
        dd.sweep(*line)
    second = dd.sweep(*line, "name=other")
    assert not set(second["run_id"]) & set(first["run_id"])
    assert not set(second["test_loss"]) & set(first["test_loss"])


def test_files_are_read_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_mnist(tmp_path / "a", mnist_arrays())
    reads = []
    original = IdxDataset.pool
    monkeypatch.setattr(IdxDataset, "pool", lambda *given: reads.append(1) or original(*given))
    dd.sweep(*MNIST, f"data.root={root}", "data.seed=range(6)")
    assert len(reads) == 1


def test_other_samples_under_a_known_name_are_said_and_runs_on_processes_agree(tmp_path: Path) -> None:
    root = write_mnist(tmp_path / "a", mnist_arrays())
    line = ("-m", *MNIST[:-1], "seed=0,1", f"data.root={root}")
    done = dd_run(*line, "n_jobs=2", "name=two", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "holds other samples than those published" in done.stderr
    assert dd_run(*line, "n_jobs=1", "name=one", cwd=tmp_path).returncode == 0
    two, one = (dd.load(name).sort_values("run_id") for name in ("two", "one"))
    assert list(two["run_id"]) == list(one["run_id"])
    assert list(two["test_loss"]) == list(one["test_loss"])


def test_an_archive_of_cifar_has_its_content_in_the_identity(tmp_path: Path) -> None:
    found = []
    for folder, changed in (("a", {}), ("b", {"test_batch": cifar_members()["data_batch_1"]})):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cifar-10-python.tar.gz").write_bytes(archive(cifar_members(**changed)))
        found.append(dd.sweep("data=cifar10", *SMALL, f"data.root={tmp_path / folder}", f"name={folder}"))
    assert only(found[0], "data_content") != only(found[1], "data_content")
    assert only(found[0], "run_id") != only(found[1], "run_id")


def test_composing_needs_no_files() -> None:
    code = (
        "from dd.api import compose_runs; "
        "print(compose_runs('data=mnist', 'data.n_train=20', 'batch_size=20', 'data.n_test=10')[0].run_id)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(done.stdout.strip()) == 20
