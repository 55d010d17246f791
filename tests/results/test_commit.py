"""The lock and the journal: one process at a time, and changes that a killed process left are completed."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path

import pytest

from dd.errors import StoreError
from dd.results import Store, commit
from tests.results.tables import add, contents, files, losses


def test_one_process_at_a_time_and_who_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, "a", "1")
    monkeypatch.setattr(commit, "WAIT", 0.05)
    with commit.locked(store.folder):
        with pytest.raises(StoreError, match=rf"process {os.getpid()} on .* changing the table t for more") as caught:
            add(store, "b", "2")
        assert "\n" not in str(caught.value)
        assert losses(store) == {"1": 1.0}, "readers do not wait"
        assert store.finished("basic") == {"1"}
    add(store, "b", "2")
    assert losses(store) == {"1": 1.0, "2": 1.0}


def test_a_file_system_without_locks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    add(store, "a", "1")
    add(store, "b", "1", "2", value=2.0)
    assert losses(store) == {"1": 2.0, "2": 2.0}


def test_a_lock_that_cannot_be_taken_for_another_reason(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(StoreError, match="_lock: Input/output error"):
        add(store, "a", "1")


def test_a_journal_is_carried_out_as_often_as_one_likes(store: Store) -> None:
    add(store, "a", "1")
    (store.runs / "_b.tmp").write_bytes((store.runs / "a.parquet").read_bytes())
    entries = {
        "renames": [["runs/_b.tmp", "runs/b.parquet"], ["runs/_gone", "runs/gone"]],
        "removals": ["runs/a.parquet"],
    }
    for _ in range(2):
        (store.folder / commit.JOURNAL).write_text(json.dumps(entries))
        assert commit.complete(store.folder)
        assert files(store) == ["curves/a.parquet", "runs/b.parquet"]
    assert not commit.complete(store.folder)


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
