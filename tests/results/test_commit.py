"""The journal: changes that a killed process left are completed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dd.errors import StoreError
from dd.results import Store, commit
from dd.results.lock import locked
from tests.results.tables import add, contents, files


def test_nothing_goes_whose_heir_is_nowhere(store: Store) -> None:
    """A table that was copied while it was changed may have a journal without the files that it names."""
    add(store, "a", "1")
    before = contents(store)
    entries = {"renames": [["runs/_gone.tmp", "runs/gone.parquet"]], "removals": ["runs/a.parquet"]}
    (store.folder / commit.JOURNAL).write_text(json.dumps(entries))
    store.open()
    assert contents(store) == before
    assert not (store.folder / commit.JOURNAL).exists()


def test_a_journal_is_carried_out_as_often_as_one_likes(store: Store) -> None:
    add(store, "a", "1")
    (store.runs / "_b.tmp").write_bytes((store.runs / "a.parquet").read_bytes())
    entries = {
        "renames": [["runs/_b.tmp", "runs/b.parquet"]],
        "removals": ["runs/a.parquet"],
    }
    for _ in range(2):
        (store.folder / commit.JOURNAL).write_text(json.dumps(entries))
        with locked(store.folder) as lock:
            assert commit.complete(store.folder, lock)
        assert files(store) == ["curves/a.parquet", "runs/b.parquet"]
    with locked(store.folder) as lock:
        assert not commit.complete(store.folder, lock)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"renames": [["a", "../../b"]], "removals": []}', "\x00" * 40])
def test_a_damaged_journal_is_a_line(store: Store, text: str) -> None:
    add(store, "a", "1")
    before = contents(store)
    (store.folder / commit.JOURNAL).write_text(text)
    for look in (store.open, lambda: add(store, "b", "2")):
        with pytest.raises(StoreError, match=r"_journal\.json is damaged; python -m dd\.results repair t") as caught:
            look()
        assert "\n" not in str(caught.value)
    assert contents(store) == before


def test_a_change_that_is_given_up_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError, match="no"), commit.change(store.folder) as made:  # noqa: PT012
        made.write(store.runs / "x.parquet", b"data")
        made.write(store.targets / "y.parquet", b"data")
        raise RuntimeError("no")
    assert files(store) == []


def test_moved_files_have_names_of_their_own(store: Store) -> None:
    for _ in range(3):
        (store.runs / "x").write_bytes(b"data")
        with commit.change(store.folder) as made:
            made.move(store.runs / "x", store.folder / "_damaged")
    assert files(store) == ["_damaged/x", "_damaged/x.2", "_damaged/x.3"]


def test_every_file_is_on_disk_before_its_name_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    replaced: list[tuple[str, bool]] = []
    plain_sync, plain_replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        plain_sync(descriptor)

    def replace(source: Path, target: Path) -> None:
        replaced.append((Path(target).name, os.stat(source).st_ino in synced))
        plain_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    add(store, "a", "1")
    assert replaced == [("_journal.json", True), ("a.parquet", True), ("a.parquet", True)]
    assert {p.stat().st_ino for p in (store.folder, store.runs, store.curves)} <= set(synced)
