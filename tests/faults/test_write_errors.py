"""A disk that is full, broken or read-only at any step of a write: one line, and the table as before or as wanted."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dd.errors import StoreError
from dd.results import Store, commit
from dd.results.repair import faults as faults_of
from tests.faults.scenarios import OTHER, append, single_parts, sweep
from tests.faults.steps import faults
from tests.results.tables import contents, files

LONG = os.environ.get("DD_FAULTS") == "long"
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS) if LONG else (errno.ENOSPC,)


def failing(number: int) -> Callable[[], None]:
    def fault() -> None:
        raise OSError(number, os.strerror(number))

    return fault


@pytest.fixture
def store(results: Path) -> Store:
    single_parts(results)
    return Store(results, "t")


def change(store: Store) -> None:
    """Replaces runs in two parts, and adds one."""
    append(store, ["a", "c", "z"], 2.0, outputs=True)


@pytest.mark.parametrize("number", ERRORS, ids=os.strerror)
@pytest.mark.parametrize("lasting", [True, False])
def test_a_write_that_fails(store: Store, number: int, lasting: bool) -> None:
    before, names = contents(store), files(store)
    with faults(None, lambda: None) as count:
        change(store)
    wanted = contents(store)
    assert wanted != before
    append(store, ["a", "c"], 1.0, outputs=True)
    told = 0
    for at in range(1, count[0] + 1, 1 if LONG else 13):
        _reset(store)
        assert contents(store) == before
        try:
            with faults(at, failing(number), lasting=lasting):
                change(store)
        except StoreError as error:
            told += 1
            text = str(error)
            assert os.strerror(number) in text
            assert "cannot write" in text
            assert "\n" not in text
            decided = (store.folder / "_journal.json").exists()
            if not decided:
                assert contents(store) in (before, wanted)
            if not decided and not lasting:
                assert not [f for f in files(store) if f.endswith(".tmp")], "staged files go"
        else:
            assert contents(store) == wanted, "an error that was passed over has done no harm"
        store.open()
        assert contents(store) in (before, wanted)
        assert faults_of(store.folder) == []
        assert files(store) == names or contents(store) == wanted
    assert told > (0.7 * count[0] if LONG else 2)


def _reset(store: Store) -> None:
    """Runs a to f with the value 1, and no other."""
    (store.runs / "a-c-z.parquet").unlink(missing_ok=True)
    store.open()
    append(store, ["a", "c"], 1.0, outputs=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_became_read_only(store: Store) -> None:
    store.runs.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="Permission denied"):
            change(store)
    finally:
        store.runs.chmod(0o700)


def test_the_reason_is_told_even_if_cleaning_up_fails_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "unlink", failing_call(errno.EIO))
    monkeypatch.setattr(commit, "_write", failing_call(errno.ENOSPC))
    with pytest.raises(StoreError, match="No space left"):
        change(store)


def failing_call(number: int) -> Callable[..., None]:
    return lambda *_, **__: failing(number)()


def test_a_sweep_goes_on_once_there_is_room_again(store: Store) -> None:
    with pytest.raises(StoreError, match="No space left"), faults(12, failing(errno.ENOSPC), lasting=True):
        sweep(OTHER, 2.0, force=True)(store.folder.parent)
    sweep(OTHER, 2.0, force=True)(store.folder.parent)
    rows, points, _ = contents(store)
    assert rows == dict.fromkeys("abcde", 2.0) | {"f": 1.0}
    assert points == {(run_id, step): value for run_id, value in rows.items() for step in range(3)}
