"""Files damaged at random: one clean line, or the right result; in little memory.

The short form runs with all tests; ``DD_FAULTS=long`` damages 1000 data files and 500 checkpoints.
"""

from __future__ import annotations

import os
import resource
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dd.errors import ConfigError
from dd.models.rmt.backbone import RMT
from dd.models.rmt.checkpoint import load_checkpoint
from dd.packs.content import identified
from dd.problems.pools import pool_of
from dd.runs.settings import Settings
from tests.data.files import IDX, archive, cifar_members, mnist_arrays, write_mnist
from tests.helpers import run_of
from tests.models.rmt.test_checkpoint import SMALL

LONG = os.environ.get("DD_FAULTS") == "long"
GROWTH = 200_000
"""Kilobytes by which the process's largest memory may grow."""

found: Counter[str] = Counter()


def examples(long: int, short: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Settings of a fuzz test."""
    return settings(
        max_examples=long if LONG else short,
        deadline=None,
        database=None,
        derandomize=True,  # the same files on every machine
        suppress_health_check=list(HealthCheck),
    )


@dataclass(frozen=True)
class Damage:
    """Something done to a file, at a place that is a share of its length."""

    kind: str
    place: float
    value: int
    length: int

    def __call__(self, content: bytes) -> bytes:
        at = int(self.place * (len(content) - 1)) if content else 0
        filled = bytes([self.value]) * self.length
        return {
            "flip": content[:at] + bytes([content[at] ^ (1 << self.value % 8)]) + content[at + 1 :] if content else b"",
            "overwrite": content[:at] + filled + content[at + self.length :],
            "insert": content[:at] + filled + content[at:],
            "remove": content[:at] + content[at + self.length :],
            "truncate": content[:at],
            "repeat": content + content[at:],
            "swap": content[at:] + content[:at],
        }[self.kind]


KINDS = ("flip", "flip", "flip", "overwrite", "insert", "remove", "truncate", "repeat", "swap")
PLACES = st.one_of(st.floats(0, 1), st.floats(0, 0.02), st.floats(0.98, 1))  # headers and trailers more often
DAMAGES = st.lists(
    st.builds(Damage, st.sampled_from(KINDS), PLACES, st.integers(0, 255), st.integers(1, 64)), min_size=1, max_size=3
)


def damaged(content: bytes, damages: list[Damage]) -> bytes:
    for damage in damages:
        content = damage(content)
    return content


def refusal(act: Callable[[], object], kind: type[Exception]) -> str | None:
    """The one line by which something is refused, None where it is not; in little memory, and without warnings."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            act()
        except kind as error:
            line = str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH
    assert line is None or "\n" not in line
    return line


RUNS = {
    data: run_of(f"data={data}", "data.n_train=20", "data.n_test=10", "batch_size=10") for data in ("mnist", "cifar10")
}


def read(data: str, folder: Path, path: Path, good: str) -> None:
    """Read a folder with one damaged file: one line that names it, or samples that are what they are said to be."""
    where = Settings(data_root=str(folder))
    line = refusal(lambda: identified([RUNS[data]], where), ConfigError)
    if line is not None:
        assert str(path) in line or "must be <=" in line
        found[f"{data}: refused"] += 1
        return
    (run,) = identified([RUNS[data]], where)
    pool = pool_of(run, where)
    assert pool.test_x is not None
    assert pool.test_y is not None
    for x, y in ((pool.x, pool.y), (pool.test_x, pool.test_y)):
        assert len(x) == len(y)
        assert x.dtype == np.uint8
        assert 0 <= y.min() <= y.max() <= 9
    assert run.data_content == pool.sha256
    found[f"{data}: " + ("unchanged" if pool.sha256 == good else "other samples, other identity")] += 1


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes], str]:
    """Files of MNIST's format: gzipped, and the same plain."""
    folder = tmp_path_factory.mktemp("mnist")
    contents = {}
    for zipped in (True, False):
        write_mnist(folder, mnist_arrays(), zipped=zipped)
        contents |= {path.name: path.read_bytes() for path in folder.iterdir()}
    where = Settings(data_root=str(folder))
    return folder, contents, pool_of(RUNS["mnist"], where).sha256


@examples(600, 60)
@given(damages=DAMAGES, file=st.integers(0, 3), zipped=st.booleans())
def test_damaged_idx_files(
    mnist: tuple[Path, dict[str, bytes], str], damages: list[Damage], file: int, zipped: bool
) -> None:
    folder, contents, good = mnist
    for path in folder.iterdir():
        path.unlink()
    names = [f"{name}.gz" if zipped else name for name in IDX]
    for name in names:
        (folder / name).write_bytes(contents[name])
    path = folder / names[file]
    path.write_bytes(damaged(contents[path.name], damages))
    # a damaged file can make its healthy neighbour wrong
    read("mnist", folder, folder, good)


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, bytes, str]:
    """A folder for archives, a gzipped one, a plain one."""
    folder = tmp_path_factory.mktemp("cifar")
    zipped, plain = archive(cifar_members()), archive(cifar_members(), "w")
    (folder / "cifar-10-python.tar.gz").write_bytes(zipped)
    return folder, zipped, plain, pool_of(RUNS["cifar10"], Settings(data_root=str(folder))).sha256


@examples(200, 20)
@given(damages=DAMAGES, zipped=st.booleans())
def test_damaged_archives(cifar: tuple[Path, bytes, bytes, str], damages: list[Damage], zipped: bool) -> None:
    folder, packed, plain, good = cifar
    for path in folder.iterdir():
        path.unlink()
    path = folder / ("cifar-10-python.tar.gz" if zipped else "cifar-10-python.tar")
    path.write_bytes(damaged(packed if zipped else plain, damages))
    read("cifar10", folder, path, good)


@examples(200, 20)
@given(damages=DAMAGES, member=st.sampled_from(sorted(cifar_members())))
def test_damaged_batches_in_a_whole_archive(
    cifar: tuple[Path, bytes, bytes, str], damages: list[Damage], member: str
) -> None:
    folder, _, _, good = cifar
    for path in folder.iterdir():
        path.unlink()
    members = cifar_members()
    path = folder / "cifar-10-python.tar"
    path.write_bytes(archive(members | {member: damaged(members[member], damages)}, "w"))
    read("cifar10", folder, path, good)


def small_net(seed: int) -> RMT:
    torch.manual_seed(seed)
    return RMT(SMALL)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[bool, bytes], dict[str, Tensor]]:
    """A folder; a file in torch's format and one in that before torch 1.6; the weights."""
    folder = tmp_path_factory.mktemp("checkpoints")
    state = small_net(1).state_dict()
    for zipped in (True, False):
        torch.save({"model": state, "epoch": 3}, folder / f"{zipped}", _use_new_zipfile_serialization=zipped)
    return folder, {zipped: (folder / f"{zipped}").read_bytes() for zipped in (True, False)}, state


@examples(500, 40)
@given(damages=DAMAGES, zipped=st.sampled_from([True, True, False]))
def test_damaged_checkpoints(
    checkpoints: tuple[Path, dict[bool, bytes], dict[str, Tensor]], damages: list[Damage], zipped: bool
) -> None:
    folder, contents, state = checkpoints
    path = folder / "net.pth"
    path.write_bytes(damaged(contents[zipped], damages))
    net = small_net(0)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    line = refusal(lambda: load_checkpoint(net, path), ValueError)
    if line is not None:
        assert line.startswith(f"{path}: ")
        assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
        found["checkpoint: refused"] += 1
        return
    # the old format has no checksums: what it holds is what is loaded
    whole = all(torch.equal(state[key], value) for key, value in net.state_dict().items())
    found[f"checkpoint: {'unchanged' if whole else 'other weights'}, {'zip' if zipped else 'old format'}"] += 1
    assert whole or not zipped


def test_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    """Print the figures of docs/reliability.md (with -s)."""
    with capsys.disabled():
        print("", *(f"{count} {what}" for what, count in sorted(found.items())), sep="\n  ") if LONG else None
