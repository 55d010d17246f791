"""Which samples the runs of a sweep are for: their digest, where axes do not say it, is part of a run's identity."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence

from dd.components.dataset import Dataset, Pool
from dd.errors import ConfigError, StoreError
from dd.problems.pools import content_of, former_digest, pool_of
from dd.problems.problem import check_sizes
from dd.results import Store
from dd.results.rebuilt import Columns, component_of, value_of
from dd.runs import registry
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.samples.stamps import look_again


def identified(runs: Sequence[Run], settings: Settings) -> list[Run]:
    """Settle what the runs of a command are for; run ids are only final afterwards.

    Files are looked at anew, so that a process that lives long notices when they change.

    Args:
        runs: as composed; ``data.content`` may demand a content.
        settings: where the files are.

    Returns:
        The same runs in the same order, ``data_content`` being the digest of their samples, or None where their axes
        say what the samples are (generated, or equal to a checksum that dd knows).

    Raises:
        DataNotFoundError: files are absent or damaged.
        ConfigError: the content is another than was demanded, or there are fewer samples than a run asks for.
    """
    look_again()
    out = list(runs)
    groups: dict[Hashable, list[int]] = {}
    for i, run in enumerate(runs):
        if not run.data.generated or run.data_content is not None:
            groups.setdefault((run.data.pool_key(run), run.data_content), []).append(i)
        elif run.classes is not None:
            check_sizes(run, pool_of(run, settings))
    for members in groups.values():
        pool = pool_of(runs[members[0]], settings)
        content = _settled(runs[members[0]], pool)
        for size in {(runs[i].n_drawn, runs[i].n_test, runs[i].classes): runs[i] for i in members}.values():
            check_sizes(size, pool)
        for i in members:
            if content != runs[i].data_content:
                out[i] = runs[i].replace(data_content=content)
    return out


def _settled(run: Run, pool: Pool) -> str | None:
    if run.data_content not in (None, pool.sha256):
        raise ConfigError(
            "data.content", run.data_content, f"the content of data={run.data.name} ({pool.source}) is {pool.sha256}"
        )
    return content_of(run, pool)


def remarks(runs: Sequence[Run], settings: Settings) -> Iterator[str]:
    """A line for each set whose files are not the published ones."""
    seen = {(run.data, run.data_content): run for run in runs if run.data_content}
    for run in seen.values():
        if run.data.from_files:
            source = pool_of(run, settings).source
            yield (
                f"data={run.data.name}: {source} holds other samples than those published under this name; "
                f"the runs are identified by data.content={run.data_content}"
            )


def check_table(runs: Sequence[Run], settings: Settings, store: Store) -> None:
    """Make sure that a table's rows of the same data set are of the same samples.

    Args:
        runs: identified.
        settings: where the files are.
        store: the table that the runs are about to join.

    Raises:
        StoreError: they are not; the message names both digests.
    """
    chosen = {run.data.pool_key(run): run for run in runs if not run.data.generated}
    if not chosen or not store.parts():
        return
    for row in _of_data(store, {run.data.name: type(run.data) for run in chosen.values()}):
        run = chosen.get(_pool_key(row))
        if run is not None and not _same(row, run, settings):
            pool = pool_of(run, settings)
            theirs = row["data_content"] or f"{row['data_sha256']} (by an older dd, or the published one)"
            raise StoreError(
                f"name={store.name}: {store.runs} holds rows of data={run.data.name} whose content is {theirs}, but "
                f"that of {pool.source} is {pool.sha256}; use name=<another table>, or "
                + ("data.root=<folder of the former>" if run.data.from_files else "the former samples")
            )


def mixture(stores: Sequence[Store]) -> str | None:
    """What some tables, taken together, hold two contents of; None if they do not.

    Returns:
        The data set, and both contents with their tables, in one line.
    """
    kinds = {name: registry.kind("data", name) for name in registry.names("data")}
    kept = {name: kind for name, kind in kinds.items() if issubclass(kind, Dataset) and not kind.generated}
    seen: dict[Hashable, tuple[str, str]] = {}
    for store in stores:
        for row in _of_data(store, kept):
            content = str(row["data_content"] or "the published one")
            former, where = seen.setdefault(_pool_key(row), (content, store.name))
            if former != content:
                return f"rows of data={row['data']} have two contents: {former} in {where}, {content} in {store.name}"
    return None


def _of_data(store: Store, kinds: Mapping[str, type[Dataset]]) -> Iterator[Columns]:
    """What the rows of some data sets say of their samples, each combination once; failed runs had none."""
    wanted = {"data", "data_content", "data_sha256", "status"}
    for kind in kinds.values():
        wanted |= {*kind.pool_axes, *(f"data_{axis.column}" for axis in kind.axes().values())}
    for row in store.distinct(sorted(wanted)):
        if row["data"] in kinds and row["status"] != "failed":
            yield row


def _pool_key(row: Columns) -> tuple[Hashable, ...]:
    """:meth:`Dataset.pool_key` of a row."""
    dataset = component_of("data", row)
    assert isinstance(dataset, Dataset)
    return (dataset, *(value_of(axis, row) for axis in dataset.pool_axes))


def _same(row: Columns, run: Run, settings: Settings) -> bool:
    """Whether a row's samples are those of a run that draws from a pool of the same key."""
    if row["data_content"] != run.data_content:
        return False
    if run.data_content is not None or row["data_sha256"] is None:
        return True
    # an older dd did not put the content of files into the identity, but noted a digest
    pool = pool_of(run, settings)
    return row["data_sha256"] in (pool.sha256, former_digest(run.data.name, pool))
