"""The parquet store: one schema, whole files only, replacement, unreadable parts."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from dd import results
from dd.errors import StoreError
from dd.results import Store, runs_schema
from dd.solve import axes_row
from tests.helpers import run_of


def row(run_id: str, **values: object) -> dict[str, object]:
    return axes_row(run_of()) | {"run_id": run_id, "status": "ok", **values}


def curve(run_id: str) -> list[dict[str, object]]:
    return [{"run_id": run_id, "step": i, "epoch": i / 10, "train_loss": 1.0, "test_loss": 2.0} for i in range(3)]


@pytest.fixture
def store(results: Path) -> Store:
    store = Store(results, "t")
    store.open()
    return store


def test_any_reader_gets_typed_rows(store: Store) -> None:
    store.append("a", [row("1", train_loss=0.5), row("2", status="failed", error="no")], curve("1"), {}, {"x": 1})
    store.append("b", [row("3", optimizer_beta1=0.9)], [], {"torch_version": "2"}, {})
    frame = pd.read_parquet(store.runs)
    assert sorted(frame.run_id) == ["1", "2", "3"]
    assert frame.set_index("run_id").loc["1", "train_loss"] == 0.5
    assert frame.width.dtype == "int64"
    for part in store.parts():
        assert pq.read_schema(part).equals(runs_schema())
    assert len(pd.read_parquet(store.curves)) == 3
    assert json.loads(pq.read_metadata(store.parts()[0]).metadata[b"dd"]) == {"x": 1}
    assert store.finished("basic") == {"1", "3"}, "a failed run is done again"


def test_infinite_condition_numbers_are_kept(store: Store) -> None:
    rows = [row("1", feature_condition=float("inf"), train_loss=0.5), row("2"), row("3", feature_condition=2.0)]
    store.append("a", rows, [], {}, {})
    frame = pd.read_parquet(store.runs).set_index("run_id")
    assert frame.feature_condition.loc["1"] == float("inf")
    assert frame.feature_condition.isna().to_dict() == {"1": False, "2": True, "3": False}
    assert frame.feature_condition.loc["3"] == 2.0
    assert frame.train_loss.loc["1"] == 0.5
    assert pq.read_schema(store.parts()[0]).equals(runs_schema())


def test_a_run_measured_in_full_serves_both(store: Store) -> None:
    store.append("a", [row("1", measure="basic"), row("2", measure="full"), row("3")], [], {}, {})
    assert store.finished("basic") == {"1", "2", "3"}
    assert store.finished("full") == {"2"}
    store.append("b", [row("1", measure="full")], [], {}, {})
    assert store.finished("full") == {"1", "2"}


def test_unknown_columns_are_refused(store: Store) -> None:
    with pytest.raises(KeyError, match="surprise"):
        store.append("a", [row("1", surprise=1)], [], {}, {})
    assert store.parts() == []


def test_a_rerun_replaces_its_rows_and_keeps_the_neighbours(store: Store) -> None:
    store.append("a", [row("1", train_loss=1.0), row("2", train_loss=2.0)], curve("1") + curve("2"), {}, {})
    store.append("b", [row("1", train_loss=9.0)], curve("1"), {}, {})
    assert len(pd.read_parquet(store.runs)) == 3, "the old row stays until the new one is whole"
    assert {r["run_id"]: r["train_loss"] for r in store.read().to_pylist()} == {"1": 9.0, "2": 2.0}
    store.retire()
    frame = pd.read_parquet(store.runs).set_index("run_id")
    assert frame.train_loss.to_dict() == {"1": 9.0, "2": 2.0}
    assert pd.read_parquet(store.curves).groupby("run_id").size().to_dict() == {"1": 3, "2": 3}
    store.append("c", [row("2", train_loss=5.0)], [], {}, {})
    store.retire()
    assert [p.stem for p in store.parts()] == ["b", "c"], "an emptied part goes"
    assert [p.stem for p in sorted(store.curves.glob("*.parquet"))] == ["b"]


def test_a_failure_never_displaces_a_good_row(store: Store) -> None:
    store.append("a", [row("1", train_loss=1.0)], [], {}, {})
    store.append("b", [row("1", status="failed")], [], {}, {})
    assert store.finished("basic") == {"1"}
    store.append("c", [row("2", status="failed")], [], {}, {})
    store.append("d", [row("2", status="diverged")], [], {}, {})
    store.retire()
    assert pd.read_parquet(store.runs).set_index("run_id").status.to_dict() == {"1": "ok", "2": "diverged"}


def test_a_disk_that_is_full_loses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append("a", [row("1", train_loss=1.0), row("2")], [], {}, {})

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(StoreError, match="No space left"):
        store.append("b", [row("1", train_loss=2.0)], [], {}, {})
    monkeypatch.undo()
    assert len(pd.read_parquet(store.runs)) == 2


def test_temporary_files_are_nobodys_business(store: Store) -> None:
    store.append("a", [row("1")], [], {}, {})
    (store.runs / "_b.parquet.77.tmp").write_bytes(b"half")
    assert len(pd.read_parquet(store.runs)) == 1
    assert len(store.parts()) == 1


def test_a_truncated_part_is_named_and_left_alone(store: Store) -> None:
    path = store.append("a", [row("1")], [], {}, {})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match=r"a\.parquet is not a readable parquet file") as caught:
        store.finished("basic")
    assert "\n" not in str(caught.value)
    assert path.stat().st_size == 100


def test_a_truncated_curves_part_is_found_too(store: Store) -> None:
    store.append("a", [row("1")], curve("1"), {}, {})
    path = store.curves / "a.parquet"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(StoreError, match=r"curves/a\.parquet is not a readable parquet file"):
        store.check()


def test_a_part_of_an_older_schema_is_read_with_nulls(store: Store) -> None:
    path = store.append("a", [row("1", train_loss=1.0)], [], {}, {})
    table = pq.read_table(path).drop_columns(["sharpness_init", "optimizer_beta1"])
    pq.write_table(table, path)
    read = store.read().to_pylist()[0]
    assert read["sharpness_init"] is None
    assert read["train_loss"] == 1.0


@pytest.mark.parametrize("blocked", ["file", "below"])
def test_a_folder_that_cannot_be_written(results: Path, blocked: str) -> None:
    results.write_text("not a folder")
    target = results if blocked == "file" else results / "deeper"
    with pytest.raises(StoreError, match="cannot write to"):
        Store(target, "t").open()


def test_retiring_leaves_parts_alone_that_another_process_adds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is written between the first look and the removal, only superseded rows go."""
    store.append("b", [row("1"), row("2")], [], {}, {})
    store.append("c", [row("1", train_loss=3.0)], [], {}, {})
    locked = results._locked

    def late(path: Path) -> object:
        store.append("a", [row("3"), row("4"), row("5")], [], {}, {})  # sorts before the parts seen first
        return locked(path)

    monkeypatch.setattr(results, "_locked", late)
    store.retire()
    frame = pd.read_parquet(store.runs).set_index("run_id")
    assert sorted(frame.index) == ["1", "2", "3", "4", "5"]
    assert frame.loc["1", "train_loss"] == 3.0
