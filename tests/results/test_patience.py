"""Readers on a file system that shows a table as it was a while ago: rows are late, never wrong; no reader fails."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis import tables as analysis_tables
from dd.errors import StoreError
from dd.results import Store, compaction, holdings, patience
from dd.results.repair import faults
from tests.results.tables import add, contents, losses


class Lagging:
    """A client of a network file system that keeps listings, and says of what has gone that it is stale.

    A listing is kept until the folder is touched, or until it has been asked for ``looks`` times.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, looks: int = 10**9) -> None:
        self._looks, self._lists = looks, dict[str, tuple[int, list[str]]]()
        self.plain: Callable[..., Any] = os.listdir
        self.stale = 0
        for module, name in ((os, "listdir"), (os, "utime"), (os, "stat"), (io, "open")):
            call = getattr(module, name)
            monkeypatch.setattr(module, name, getattr(self, name)(call))
        monkeypatch.setattr(analysis_tables, "_parts", lambda folder: [
            folder / name for name in sorted(os.listdir(folder)) if name.endswith(".parquet") and name[0] not in "_."
        ])  # fmt: skip

    def listdir(self, call: Callable[..., list[str]]) -> Callable[..., list[str]]:
        def listed(folder: Any = ".") -> list[str]:
            left, names = self._lists.get(str(folder), (0, []))
            if left == 0:
                left, names = self._looks, call(folder)
            self._lists[str(folder)] = (left - 1, names)
            return list(names)

        return listed

    def utime(self, call: Callable[..., None]) -> Callable[..., None]:
        def touched(path: Any, *arguments: Any, **options: Any) -> None:
            self._lists.pop(str(path), None)
            call(path, *arguments, **options)

        return touched

    def stat(self, call: Callable[..., Any]) -> Callable[..., Any]:
        return self._or_stale(call)

    def open(self, call: Callable[..., Any]) -> Callable[..., Any]:
        return self._or_stale(call)

    def _or_stale(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def answered(path: Any, *arguments: Any, **options: Any) -> Any:
            try:
                return call(path, *arguments, **options)
            except FileNotFoundError as error:
                folder, name = os.path.split(str(path))
                if name not in self._lists.get(folder, (0, []))[1]:
                    raise
                self.stale += 1
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path)) from error

        return answered


@pytest.fixture
def apart(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A table of three parts that this process has read."""
    for run_id in "123":
        add(store, run_id, run_id, outputs=True)
    return store


def elsewhere(change: Callable[[], object], lagging: Lagging, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change the table as another machine does: nothing that this one remembers is dropped."""
    with monkeypatch.context() as honest:
        honest.setattr(os, "listdir", lagging.plain)
        honest.setattr(os, "utime", lambda *_, **__: None)
        change()


def everything(store: Store) -> dict[str, float]:
    """Train losses, read in every way that dd has."""
    found = {row["run_id"]: row["train_loss"] for row in store.read(["run_id", "train_loss"]).to_pylist()}
    assert store.finished("basic") == store.finished("basic", predictions=True) == set(found)
    assert set(store.stamps(found)) == set(found)
    store.check()
    return found


def test_rows_are_late_not_wrong(apart: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lagging = Lagging(monkeypatch)
    before = everything(apart)
    elsewhere(lambda: add(apart, "4", "4", "2", value=2.0, outputs=True), lagging, monkeypatch)
    late = everything(apart)
    assert late.keys() == before.keys(), "the listing lacks the new part"
    assert late["2"] == 2.0
    with patience.locked(apart.folder):
        assert everything(apart) == {"1": 1.0, "2": 2.0, "3": 1.0, "4": 2.0}, "who holds the lock sees all"


def test_a_listing_that_names_what_has_gone(apart: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    lagging = Lagging(monkeypatch)
    before = everything(apart)
    elsewhere(lambda: compaction.compact(apart.folder), lagging, monkeypatch)
    assert everything(apart) == before
    assert lagging.stale, "the old parts were asked for"


def test_the_analysis_waits_for_a_listing_that_names_what_has_gone(
    apart: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysis_tables, "PAUSE", 0.001)
    lagging = Lagging(monkeypatch, looks=4)
    results, name = apart.folder.parent, apart.folder.name
    assert len(analysis_tables.load_runs(results, name)) == 3
    elsewhere(lambda: compaction.compact(apart.folder), lagging, monkeypatch)
    assert len(analysis_tables.load_runs(results, name)) == 3
    assert len(analysis_tables.load_curves(results, name)) == 9
    assert lagging.stale


def test_a_writer_replaces_what_its_listing_does_not_show(apart: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a run had two rows: the old one in a part that the listing lacks, and the new one."""
    lagging = Lagging(monkeypatch)
    everything(apart)
    elsewhere(lambda: add(apart, "4", "4", "5", value=2.0), lagging, monkeypatch)
    elsewhere(lambda: compaction.compact(apart.folder), lagging, monkeypatch)
    add(apart, "6", "4", "1", "6", value=3.0)
    monkeypatch.undo()
    assert losses(apart) == {"1": 3.0, "2": 1.0, "3": 1.0, "4": 3.0, "5": 2.0, "6": 3.0}
    assert faults(apart.folder) == []
    before = contents(apart)
    apart.open()
    assert contents(apart) == before


def test_a_part_that_goes_for_ever_is_a_line(apart: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(*_: object, **__: object) -> object:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), "part")

    monkeypatch.setattr(holdings.parts, "signature", stale)
    with pytest.raises(StoreError, match="part cannot be read: it goes while the table is read") as caught:
        apart.finished("basic")
    assert "\n" not in str(caught.value)


def test_a_folder_that_may_not_be_listed_is_a_line(apart: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folder: Path) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr(os, "listdir", refused)
    with pytest.raises(StoreError, match="runs cannot be read: Permission denied"):
        apart.read()
