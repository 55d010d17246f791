"""Which samples the runs of a sweep are for: their digest, where axes do not say it, is part of a run's identity."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

from dd import registry
from dd.config import RunConfig, Settings, core_axes
from dd.data._base import Dataset, Pool
from dd.data._pools import content_of, former_digest, look_again, pool_of
from dd.data._problem import check_sizes
from dd.errors import ConfigError, StoreError
from dd.results import Store


def identified(runs: Sequence[RunConfig], settings: Settings) -> list[RunConfig]:
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
        dataset = run.component("data")
        if not dataset.generated or run.data_content is not None:
            groups.setdefault((dataset.pool_key(run), run.data_content), []).append(i)
    for members in groups.values():
        pool = pool_of(runs[members[0]], settings)
        content = _settled(runs[members[0]], pool)
        for i in members:
            check_sizes(runs[i], pool)
            if content != runs[i].data_content:
                out[i] = runs[i].replace(data_content=content)
    return out


def _settled(run: RunConfig, pool: Pool) -> str | None:
    if run.data_content not in (None, pool.sha256):
        raise ConfigError(
            "data.content", run.data_content, f"the content of data={run.data} ({pool.source}) is {pool.sha256}"
        )
    return content_of(run, pool)


def remarks(runs: Sequence[RunConfig], settings: Settings) -> Iterator[str]:
    """A line for each set whose files are not the published ones."""
    seen = {(run.data, run.data_content): run for run in runs if run.data_content}
    for run in seen.values():
        if run.component("data").from_files:
            source = pool_of(run, settings).source
            yield (
                f"data={run.data}: {source} holds other samples than those published under this name; "
                f"the runs are identified by data.content={run.data_content}"
            )


def check_table(runs: Sequence[RunConfig], settings: Settings, store: Store) -> None:
    """Make sure that a table's rows of the same data set are of the same samples.

    Args:
        runs: identified.
        settings: where the files are.
        store: the table that the runs are about to join.

    Raises:
        StoreError: they are not; the message names both digests.
    """
    chosen = {(run.component("data").pool_key(run)): run for run in runs if not run.component("data").generated}
    if not chosen or not store.parts():
        return
    datasets = {run.data: run.component("data") for run in chosen.values()}
    for row in _of_data(store, datasets):
        run = chosen.get(_pool_key(row, datasets[row["data"]]))
        if run is not None and not _same(row, run, settings):
            pool = pool_of(run, settings)
            theirs = row["data_content"] or f"{row['data_sha256']} (by an older dd, or the published one)"
            raise StoreError(
                f"name={store.name}: {store.runs} holds rows of data={run.data} whose content is {theirs}, but that of "
                f"{pool.source} is {pool.sha256}; use name=<another table>, or data.root=<folder of the former>"
            )


def mixture(stores: Sequence[Store]) -> str | None:
    """What some tables, taken together, hold two contents of; None if they do not.

    Returns:
        The data set, and both contents with their tables, in one line.
    """
    datasets = {name: registry.get("data", name) for name in registry.names("data")}
    datasets = {name: dataset for name, dataset in datasets.items() if not dataset.generated}
    seen: dict[Hashable, tuple[str, str]] = {}
    for store in stores:
        for row in _of_data(store, datasets):
            content = row["data_content"] or "the published one"
            former, where = seen.setdefault(_pool_key(row, datasets[row["data"]]), (content, store.name))
            if former != content:
                return f"rows of data={row['data']} have two contents: {former} in {where}, {content} in {store.name}"
    return None


def _of_data(store: Store, datasets: Mapping[str, Dataset]) -> Iterator[dict[str, Any]]:
    """What the rows of some data sets say of their samples, each combination once; failed runs had none."""
    wanted = {"data", "data_content", "data_sha256", "status"}
    for dataset in datasets.values():
        wanted |= {*dataset.pool_axes, *(f"data_{axis.key}" for axis in dataset.options)}
    table = store.read(sorted(wanted))
    # the different rows of a table are few; Arrow's own ways to find them import pandas
    for values in set(zip(*(column.to_pylist() for column in table.columns), strict=True)):
        row = dict(zip(table.column_names, values, strict=True))
        if row["data"] in datasets and row["status"] != "failed":
            yield row


def _pool_key(row: dict[str, Any], dataset: Dataset) -> Hashable:
    """:meth:`Dataset.pool_key` of a row; columns that an older table lacks have their defaults."""

    def value(column: str, default: Any) -> Any:
        return default if row[column] is None else row[column]

    own = tuple(sorted((axis.key, value(f"data_{axis.key}", axis.default)) for axis in dataset.options))
    return (row["data"], own, *(value(axis, core_axes()[axis].default) for axis in dataset.pool_axes))


def _same(row: dict[str, Any], run: RunConfig, settings: Settings) -> bool:
    """Whether a row's samples are those of a run that draws from a pool of the same key."""
    if row["data_content"] != run.data_content:
        return False
    if run.data_content is not None or row["data_sha256"] is None:
        return True
    # an older dd did not put the content of files into the identity, but noted a digest
    pool = pool_of(run, settings)
    return row["data_sha256"] in (pool.sha256, former_digest(run.data, pool))
