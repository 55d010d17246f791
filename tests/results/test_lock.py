"""The lock of a table: one process of all machines; the lock of the dead is taken, and who stood still gives up."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dd.errors import StoreError
from dd.results import Store, commit, compaction, lock
from tests.results.tables import add, files, losses


def test_one_process_at_a_time_and_who_it_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, "a", "1")
    monkeypatch.setattr(lock, "WAIT", 0.05)
    with lock.locked(store.folder):
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


ELSEWHERE = "0123456789ab.77.f00f00f00f00.node7"


def left_by(store: Store, token: str) -> None:
    """The lock of a process that was killed."""
    (store.folder / "_held").mkdir()
    for name in (token, f"{token}.json"):
        (store.folder / "_held" / name).touch()


@contextmanager
def another_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be on a machine whose ``flock`` does not see this one's."""
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", lambda *_: None)
        patched.setattr(lock, "domain", lambda _: "another")
        yield


def test_the_lock_of_a_process_that_was_killed_on_this_machine_is_taken_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LEASE", 1e9)
    descriptor = os.open(store.folder, os.O_RDONLY)
    left_by(store, f"{lock.domain(descriptor)}.77.f00f00f00f00.here")
    os.close(descriptor)
    add(store, "a", "1")
    assert losses(store) == {"1": 1.0}
    assert not (store.folder / "_held").exists()


def test_the_lock_of_a_dead_machine_is_taken_after_a_while(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    left_by(store, ELSEWHERE)
    monkeypatch.setattr(lock, "WAIT", 0.1)
    with pytest.raises(StoreError, match=r"process 77 on node7 has been changing the table t for more than 0\.1 s"):
        add(store, "a", "1")
    assert [path.name for path in store.folder.glob("_*.tmp")] == [], "who gives up leaves nothing"
    monkeypatch.setattr(lock, "LEASE", 0.05)
    add(store, "a", "1")
    assert losses(store) == {"1": 1.0}


def test_a_holder_who_lives_keeps_the_lock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.01)
    monkeypatch.setattr(lock, "LEASE", 0.3)
    monkeypatch.setattr(lock, "WAIT", 1.0)
    with lock.locked(store.folder) as held:
        with another_machine(monkeypatch), pytest.raises(StoreError, match=rf"process {os.getpid()} on .* changing"):
            add(store, "a", "1")
        assert held.mine()


def test_the_change_of_a_holder_who_stood_still_never_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, "a", "1", "2")
    monkeypatch.setattr(lock, "BEAT", 1e9)
    monkeypatch.setattr(lock, "LEASE", 0.05)

    def late() -> None:
        with commit.change(store.folder) as made:
            made.write(store.runs / "late.parquet", (store.runs / "a.parquet").read_bytes())
            made.remove(store.runs / "a.parquet")
            with another_machine(monkeypatch):
                add(store, "b", "2", value=2.0)

    with pytest.raises(StoreError, match="stood still while it changed the table t") as caught:
        late()
    assert "\n" not in str(caught.value)
    assert losses(store) == {"1": 1.0, "2": 2.0}
    assert files(store) == ["curves/a.parquet", "runs/a.parquet"]


def test_a_holder_who_stood_still_after_the_journal_removes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine that has taken the lock completes the change; what has been written since under a name stays."""
    add(store, "a", "1")
    add(store, "b", "2")
    monkeypatch.setattr(lock, "BEAT", 1e9)
    monkeypatch.setattr(lock, "LEASE", 0.05)
    plain = commit._carry_out

    def still(*arguments: object, **options: object) -> None:
        monkeypatch.setattr(commit, "_carry_out", plain)
        with another_machine(monkeypatch):
            store.open()
            for kind in ("runs", "curves"):
                (store.folder / kind / "a.parquet").write_bytes(b"new")
            (store.folder / commit.JOURNAL).write_text("that of another change")
        plain(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(commit, "_carry_out", still)
    with commit.change(store.folder) as made:
        compaction._merge(made, store.folder, compaction.holdings(store.runs))
    assert (store.runs / "a.parquet").read_bytes() == b"new"
    assert (store.folder / commit.JOURNAL).exists()


@pytest.mark.parametrize("done", [True, False])
def test_a_rename_that_the_file_system_could_not_confirm(
    store: Store, done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the answer is lost, the journal may count: what it names has to stay."""
    add(store, "a", "1")
    add(store, "b", "2")
    plain = os.replace

    def unanswered(source: Path, target: Path) -> None:
        if Path(target).name == commit.JOURNAL:
            if done:
                plain(source, target)
            raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        plain(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", unanswered)
        with pytest.raises(StoreError, match="timed out"):
            compaction.compact(store.folder)
    assert (store.folder / commit.JOURNAL).exists() == done
    assert bool([f for f in files(store) if f.endswith(".tmp")]) == done, "staged files stay where the journal counts"
    store.open()
    assert losses(store) == {"1": 1.0, "2": 1.0}
    assert len(store.parts()) == (1 if done else 2)


def test_who_waits_goes_on_after_another_machine_has_swept_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = threading.Thread(target=add, args=(store, "b", "2"))
    with another_machine(monkeypatch):
        holding = lock.locked(store.folder)
        holding.__enter__()
    waits.start()
    for _ in range(3):
        while waits.is_alive() and not list(store.folder.glob("_*.tmp")):
            pass
        lock.sweep_up(store.folder)
    holding.__exit__(None, None, None)
    waits.join(20)
    assert losses(store) == {"2": 1.0}
    assert not list(store.folder.glob("_*.tmp"))


def test_what_a_process_left_that_was_killed_while_it_waited_goes(store: Store) -> None:
    waiting = store.folder / "_host.77.f00.tmp"
    waiting.mkdir()
    (waiting / ELSEWHERE).touch()
    store.open()
    assert not waiting.exists()


def test_a_file_system_that_renames_no_folder_is_a_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "rename", refused)
    monkeypatch.setattr(lock, "WAIT", 0.05)
    with pytest.raises(StoreError, match=r"cannot write .*: Operation not permitted"):
        add(store, "a", "1")
