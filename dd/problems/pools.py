"""Pools in memory: read once a process, again once their files have changed, and checked against the run."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

from dd.components.dataset import Pool
from dd.errors import ConfigError
from dd.runs.run import Run
from dd.runs.settings import Settings

KEPT = 2
"""Pools in memory at most."""

SETTLED = 2e9
"""Nanoseconds after which a file's times tell one version from the next (some file systems count in seconds)."""


FORMER = {
    "digits": "20def7f70a702f0af9732fbba4375e147a7d54fe70d8c45569b8e7c1c7010c10",
    "diabetes": "839c546b0b4ac02c2e6cbe5e5c92313cefa993446c9733e9b49477cc3f96e104",
    "mnist1d": "564423bb022bf3c045d8c3afa6607129e1db7194b80e3d77f276133ee9076479",
}
"""``data_sha256`` of published sets in tables of dd 0.1, which took it over inputs alone."""


@dataclass(frozen=True)
class _Held:
    """A pool and the state of its files when it was read.

    Attributes:
        stamps: of its files.
        settled: whether another version of the files would have another stamp.
        pool: the samples.
    """

    stamps: tuple[Hashable, ...]
    settled: bool
    pool: Pool


_pools: OrderedDict[Hashable, _Held] = OrderedDict()
_lock = threading.RLock()


def look_again() -> None:
    """Start a command: forget the pools of which their files cannot tell whether they have changed."""
    with _lock:
        for key in [key for key, held in _pools.items() if not held.settled]:
            del _pools[key]


def pool_of(run: Run, settings: Settings) -> Pool:
    """The pool that a run draws from.

    Raises:
        DataNotFoundError: the files are absent or damaged.
    """
    dataset = run.data
    if dataset.pool_axes:
        return dataset.pool(run, settings)
    key = (dataset.pool_key(run), settings.data_root)
    files = dataset.files(settings)
    with _lock:
        stamps = tuple(_stamp(path) for path in files)
        held = _pools.get(key)
        if held is None or held.stamps != stamps:
            start = time.time_ns()
            pool = dataset.pool(run, settings)
            held = _Held(stamps, bool(files) and start - max(_changed(path) for path in files) > SETTLED, pool)
        _pools[key] = held
        _pools.move_to_end(key)
        while len(_pools) > KEPT:
            _pools.popitem(last=False)
        return held.pool


def _stamp(path: Path) -> Hashable:
    try:
        found = path.stat()
    except OSError:  # gone meanwhile: whoever reads it says so
        return (str(path),)
    return (str(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _changed(path: Path) -> float:
    """When a file was last touched; never settled where there is none."""
    try:
        found = path.stat()
    except OSError:
        return float("inf")
    return max(found.st_mtime_ns, found.st_ctime_ns)


def content_of(run: Run, pool: Pool) -> str | None:
    """Digest of a pool where the run's axes do not say what it holds, else None."""
    return None if run.data.generated or pool.published else pool.sha256


def verify(run: Run, pool: Pool) -> None:
    """Make sure that samples are those that the run's identity speaks of.

    Raises:
        ConfigError: the files have been replaced since the sweep was planned, or the run was never identified
            (:func:`dd.packs.content.identified`).
    """
    content = content_of(run, pool)
    if run.data_content == content or (run.data_content and run.data_content == pool.sha256):
        return
    wanted = run.data_content or "the published one"
    raise ConfigError(
        "data", run.data.name, f"the content of {pool.source} is {pool.sha256}, but this run is for {wanted}; "
        "the files have changed: start the sweep again"
    )  # fmt: skip


def former_digest(data: str, pool: Pool) -> str | None:
    """``data_sha256`` that dd 0.1 gave to a pool: of its inputs alone."""
    if data in FORMER:
        return FORMER[data] if pool.published or data == "mnist1d" else None
    if pool.x.dtype.str != "|u1" or pool.test_x is None:
        return None
    digest = hashlib.sha256(pool.x.tobytes())
    digest.update(pool.test_x.tobytes())
    return digest.hexdigest()
