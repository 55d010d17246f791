"""Pools in memory: read once a process, again once their files have changed, and checked against the run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from dd.components.dataset import Pool
from dd.errors import ConfigError
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.samples.stamps import Kept

KEPT = 2
"""Pools in memory at most."""


FORMER = {
    "digits": "20def7f70a702f0af9732fbba4375e147a7d54fe70d8c45569b8e7c1c7010c10",
    "diabetes": "839c546b0b4ac02c2e6cbe5e5c92313cefa993446c9733e9b49477cc3f96e104",
    "mnist1d": "564423bb022bf3c045d8c3afa6607129e1db7194b80e3d77f276133ee9076479",
}
"""``data_sha256`` of published sets in tables of dd 0.1, which took it over inputs alone."""


_pools: Kept[Pool] = Kept(KEPT)


def pool_of(run: Run, settings: Settings) -> Pool:
    """The pool that a run draws from.

    Raises:
        DataNotFoundError: the files are absent or damaged.
    """
    dataset = run.data
    if dataset.pool_axes:
        return dataset.pool(run, settings)
    key = (dataset.pool_key(run), settings.data_root)
    return _pools.get(key, dataset.files(settings), lambda: dataset.pool(run, settings))


def room_of(run: Run, pool: Pool) -> tuple[int, int | None]:
    """Samples that a run may choose from: of the training part, and of the test part or None if there is none."""
    if run.chosen is None:
        return len(pool.y), None if pool.test_y is None else len(pool.test_y)
    train, test = pool.counts
    return _of(train, run.chosen), None if test is None else _of(test, run.chosen)


def _of(counts: Sequence[int], chosen: Sequence[int]) -> int:
    """Samples of some classes; the last classes of a set may have none."""
    return sum(counts[c] for c in chosen if c < len(counts))


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
