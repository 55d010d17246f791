"""The lock of a table: one process of all machines; the lock of the dead is taken, and who stood still gives up."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from dd.errors import StoreError
from dd.results import Store, lock
from tests.results.tables import add, losses


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
