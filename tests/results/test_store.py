"""The table: one row a run at any time, whoever reads, whatever is computed again.

Covers: dd/arrow.py, dd/results/holdings.py, dd/results/order.py, dd/results/parts.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dd.errors import StoreError
from dd.results import Store, holdings, parts, runs_schema
from dd.results import store as module
from tests.results.tables import add, add_as_before, curve, files, losses, outputs, points, prediction, row


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


def test_what_a_sweep_asks_of_its_table_reads_each_part_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        store.append(f"{i}", [row(f"{i}", measure="full"), row(f"f{i}", status="failed")], [], {}, {})
    read: list[tuple[str, object]] = []

    def counted(part: Path, columns: object = None, *, whole: bool = True) -> pa.Table:
        read.append((part.name, columns))
        return found(part, columns, whole=whole)

    found = parts.read
    monkeypatch.setattr(parts, "read", counted)

    def look() -> None:
        store.open()
        store.check()
        assert store.finished("basic") == store.finished("full") == set("01234")
        assert store.holds(["3"]) == ("full", False)
        assert {(r["run_id"], r["status"]) for r in store.distinct(["run_id", "status"])} == {
            *((i, "ok") for i in "01234"), *((f"f{i}", "failed") for i in "01234")
        }  # fmt: skip

    look()
    assert len(read) == len({(name, str(columns)) for name, columns in read})
    read.clear()
    look()
    assert read == []
    part = store.parts()[2]
    os.utime(part, ns=(0, 0))  # as if another process had written it
    look()
    assert [name for name, _ in read] == [part.name] * 2, "its runs, and the columns that were asked for"


def test_a_new_pack_is_looked_for_in_all_parts_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def counted(column: pa.ChunkedArray, values: pa.Array) -> pa.ChunkedArray:
        looked.append(len(column))
        return found(column, values)

    found = holdings.is_one_of
    monkeypatch.setattr(holdings, "is_one_of", counted)
    for i in range(12):
        looked.clear()
        add(store, f"{i:02d}", f"{i}", f"other {i}")
        assert looked == [2 * i]
    add(store, "more", "7", "new", value=2.0)
    assert losses(store) == {
        **{f"{i}": 1.0 + (i == 7) for i in range(12)},
        **{f"other {i}": 1.0 for i in range(12)},
        "new": 2.0,
    }
    assert set(pd.read_parquet(store.runs / "07.parquet")["run_id"]) == {"7", "other 7"}


def test_unknown_columns_are_refused(store: Store) -> None:
    with pytest.raises(KeyError, match="surprise"):
        store.append("a", [row("1", surprise=1)], [], {}, {})
    assert store.parts() == []


def test_a_rerun_takes_the_place_of_its_row_and_points(store: Store) -> None:
    add(store, "a", "1", "2", "3", value=1.0, outputs=True)
    add(store, "b", "2", value=9.0, outputs=True)
    assert losses(store) == {"1": 1.0, "2": 9.0, "3": 1.0}
    assert points(store) == {(i, s): 9.0 if i == "2" else 1.0 for i in "123" for s in range(3)}
    assert outputs(store) == {"1": 1.0, "2": 9.0, "3": 1.0}
    assert pq.read_table(store.parts()[0])["run_id"].to_pylist() == ["1", "2", "3"], "in the old row's place"
    assert files(store) == ["curves/a.parquet", "predictions/a.parquet", "runs/a.parquet", "targets/same.parquet"]


def test_points_go_where_the_new_computation_brings_none(store: Store) -> None:
    add(store, "a", "1", "2", outputs=True)
    store.append("b", [row("1", train_loss=5.0)], [], {}, {})
    assert losses(store) == {"1": 5.0, "2": 1.0}
    assert {run for run, _ in points(store)} == set(outputs(store)) == {"2"}
    store.append("c", [row("2", train_loss=5.0)], [], {}, {})
    assert files(store) == ["runs/a.parquet", "targets/same.parquet"], "an emptied part goes"


def test_runs_of_several_parts_and_new_ones_in_one_pack(store: Store) -> None:
    """Packs are planned over what is to do: a second sweep over more widths packs other runs together."""
    add(store, "a", "1", "2")
    add(store, "b", "3", "4")
    add(store, "c", "2", "3", "5", value=7.0)
    assert losses(store) == {"1": 1.0, "2": 7.0, "3": 7.0, "4": 1.0, "5": 7.0}
    assert points(store) == {(i, s): v for i, v in losses(store).items() for s in range(3)}
    assert {p.stem: sorted(pq.read_table(p)["run_id"].to_pylist()) for p in store.parts()} == {
        "a": ["1", "2"], "b": ["3", "4"], "c": ["5"]
    }  # fmt: skip


def test_a_pack_of_the_same_name_with_other_runs_adds_them(store: Store) -> None:
    add(store, "a", "1")
    add(store, "a", "2", value=2.0)
    assert losses(store) == {"1": 1.0, "2": 2.0}
    assert len(points(store)) == 6


def test_no_clock_decides_which_row_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """force=true after the clock moved back an hour: the new row stays."""

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.now(UTC) - timedelta(hours=1)

    add(store, "a", "1", "2", value=1.0)
    monkeypatch.setattr(module, "datetime", Earlier)
    add(store, "b", "1", value=2.0)
    store.open()
    assert losses(store) == {"1": 2.0, "2": 1.0}
    assert {r["run_id"]: r["train_loss"] for r in store.read(["run_id", "train_loss"]).to_pylist()} == losses(store)


def test_a_failure_never_displaces_a_good_row(store: Store) -> None:
    add(store, "a", "1", value=1.0, outputs=True)
    store.append("b", [row("1", status="failed"), row("3", status="failed")], curve("1", 9.0), {}, {})
    assert store.finished("basic") == {"1"}
    assert losses(store)["1"] == 1.0
    assert points(store) == {("1", s): 1.0 for s in range(3)}
    assert outputs(store) == {"1": 1.0}
    store.append("c", [row("2", status="failed", error="first")], [], {}, {})
    store.append("d", [row("2", status="failed", error="second")], [], {}, {})
    assert pd.read_parquet(store.runs).set_index("run_id").error["2"] == "second"
    store.append("e", [row("2", status="diverged")], [], {}, {})
    statuses = pd.read_parquet(store.runs).set_index("run_id").status.to_dict()
    assert statuses == {"1": "ok", "2": "diverged", "3": "failed"}


def test_rows_and_stamps_of_some_runs(store: Store) -> None:
    add(store, "a", "1", "2", "3")
    add(store, "b", "4", "5", value=2.0)
    assert store.rows(["5", "2", "unknown"], ["run_id", "train_loss"]).to_pylist() == [
        {"run_id": "2", "train_loss": 1.0}, {"run_id": "5", "train_loss": 2.0}
    ]  # fmt: skip
    assert store.rows([]).num_rows == 0
    assert store.rows(["1"]).schema.equals(runs_schema())
    before = store.stamps(["1", "2", "9"])
    assert before.keys() == {"1", "2"}
    add(store, "c", "2", value=3.0)
    assert [run for run, at in store.stamps(["1", "2"]).items() if before[run] != at] == ["2"]


def test_what_some_finished_runs_have(store: Store) -> None:
    add(store, "a", "1", measure="full")
    add(store, "b", "2", outputs=True)
    add(store, "c", "3", status="failed", measure="full")
    add(store, "d", "4", measure="none")
    assert store.holds(["1", "2"]) == ("full", True)
    assert store.holds(["1"]) == ("full", False)
    assert store.holds(["2"]) == ("basic", True)
    assert store.holds(["3"]) == ("none", False), "a failed run has nothing"
    assert store.holds(["4"]) == ("none", False)
    assert (store.finished("none"), store.finished("basic")) == ({"1", "2", "4"}, {"1", "2"})
    assert store.finished("basic", predictions=True) == {"2"}


def test_an_append_reads_only_parts_that_have_changed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        add(store, f"p{i}", str(i))
    read: list[str] = []
    plain = holdings.parts.read

    def noted(part: Path, *arguments: object, **options: object) -> object:
        read.append(part.name)
        return plain(part, *arguments, **options)

    monkeypatch.setattr(holdings.parts, "read", noted)
    add(store, "new", "9")
    assert set(read) <= {"p4.parquet"}, "the part that the last append wrote"
    read.clear()
    add(Store(store.folder.parent, "t"), "newer", "10")
    assert set(read) <= {"new.parquet"}, "whatever the object"


def test_temporary_files_and_those_of_the_finder_are_nobodys_business(store: Store) -> None:
    add(store, "a", "1")
    for folder in (store.runs, store.curves):
        (folder / "_b.parquet.77.tmp").write_bytes(b"half")
        (folder / "._a.parquet").write_bytes(b"resource fork")
        (folder / "_probe1").write_bytes(b"")
    store.check()
    assert losses(store) == {"1": 1.0}
    assert store.read(["run_id"]).num_rows == 1
    assert len(store.parts()) == 1
    store.open()
    assert files(store) == [
        "curves/._a.parquet", "curves/a.parquet", "runs/._a.parquet", "runs/a.parquet"
    ], "what killed processes left goes, what is another program's stays"  # fmt: skip


def test_a_truncated_part_is_named_and_left_alone(store: Store) -> None:
    path = add(store, "a", "1")
    path.write_bytes(path.read_bytes()[:100])
    for look in (store.open, store.check, store.read, lambda: store.finished("basic"), lambda: add(store, "b", "2")):
        with pytest.raises(StoreError, match=r"a\.parquet is not a readable parquet file") as caught:
            look()
        assert "\n" not in str(caught.value)
        assert "python -m dd.results repair t results_dir=" in str(caught.value)
    assert path.stat().st_size == 100
    assert files(store) == ["curves/a.parquet", "runs/a.parquet"]


@pytest.mark.parametrize("kind", ["curves", "predictions", "targets"])
def test_a_truncated_part_of_another_kind_is_found_too(store: Store, kind: str) -> None:
    add(store, "a", "1", outputs=True)
    path = next(store.folder.joinpath(kind).iterdir())
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(StoreError, match=rf"{kind}/{path.name} is not a readable parquet file"):
        store.check()


def test_a_part_of_an_older_schema_is_read_and_changed(store: Store) -> None:
    path = store.append("a", [row("1", train_loss=1.0), row("2", train_loss=1.0)], [], {}, {})
    table = pq.read_table(path).drop_columns(["sharpness_init", "optimizer_beta1"])
    table = table.append_column("gone_option", table["train_loss"])
    pq.write_table(table, path)
    assert store.read(["sharpness_init", "train_loss"]).to_pylist()[0] == {"sharpness_init": None, "train_loss": 1.0}
    store.append("b", [row("2", train_loss=5.0, sharpness_init=3.0)], [], {}, {})
    frame = pd.read_parquet(path).set_index("run_id")
    assert frame.train_loss.to_dict() == {"1": 1.0, "2": 5.0}
    assert frame.sharpness_init["2"] == 3.0
    assert frame.gone_option["1"] == 1.0, "columns of components that have gone stay on disk"


def test_the_footer_keeps_every_environment(store: Store) -> None:
    store.append("a", [row("1"), row("2")], [], {}, {"environment": {"python": "3.11"}, "settings": 1, "runs": [1, 2]})
    store.append("b", [row("2")], [], {}, {"environment": {"python": "3.12"}, "settings": 2, "runs": [2]})
    assert json.loads(pq.read_metadata(store.parts()[0]).metadata[b"dd"]) == {
        "environment": {"python": "3.12"},
        "environments": [{"python": "3.11"}, {"python": "3.12"}],
        "settings": 2,
        "runs": [1, 2],
    }


@pytest.mark.parametrize("blocked", ["file", "below"])
def test_a_folder_that_cannot_be_written(results: Path, blocked: str) -> None:
    results.write_text("not a folder")
    target = results if blocked == "file" else results / "deeper"
    with pytest.raises(StoreError, match="cannot write to"):
        Store(target, "t").open()


def test_a_table_that_was_removed_meanwhile_is_a_line(store: Store) -> None:
    import shutil

    shutil.rmtree(store.folder)
    with pytest.raises(StoreError, match="cannot write") as caught:
        add(store, "a", "1")
    assert "\n" not in str(caught.value)


def test_a_reader_reads_again_where_a_part_goes_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process merges parts between the listing and the reading."""
    add(store, "a", "1")
    add(store, "b", "2")
    plain, other = module.parts.read, Store(store.folder.parent, "t")
    merged = []

    def late(part: Path, *arguments: object, **options: object) -> object:
        if not merged:
            merged.append(True)
            module.compact(other.folder)
        return plain(part, *arguments, **options)

    monkeypatch.setattr(module.parts, "read", late)
    assert sorted(store.read(["run_id"])["run_id"].to_pylist()) == ["1", "2"]
    assert merged


def test_old_tables_are_brought_to_order_when_they_are_opened(store: Store) -> None:
    """What earlier versions left when they were killed: doubled rows, points without a row."""
    add_as_before(store, "a", "1", "2", value=1.0, at=1)
    add_as_before(store, "b", "2", "3", value=2.0, at=2)
    add_as_before(store, "c", "1", value=9.0, at=3, status="failed")
    add_as_before(store, "orphan", "4", "2", value=3.0)
    (store.runs / "orphan.parquet").unlink()
    assert len(pd.read_parquet(store.runs)) == 5
    assert {r["run_id"]: r["train_loss"] for r in store.read(["run_id", "train_loss"]).to_pylist()} == {
        "1": 1.0, "2": 2.0, "3": 2.0
    }, "readers of ours deduplicate besides"  # fmt: skip
    store.open()
    assert losses(store) == {"1": 1.0, "2": 2.0, "3": 2.0}
    assert points(store) == {(i, s): v for i, v in losses(store).items() for s in range(3)}
    assert files(store) == ["curves/a.parquet", "curves/b.parquet", "runs/a.parquet", "runs/b.parquet"]


def test_points_that_are_there_twice_go(store: Store) -> None:
    add(store, "a", "1", "2")
    part = store.curves / "a.parquet"
    table = pq.read_table(part)
    pq.write_table(pa.concat_tables([table, table.slice(1, 4)]), part)
    store.open()
    assert points(store) == {(i, s): 1.0 for i in "12" for s in range(3)}


def test_a_short_run_does_not_import_pandas(results: Path) -> None:
    """Half a second; pyarrow imports it in many innocent-looking places."""
    script = f"""
import sys
import numpy as np
from dd.results.predictions import Prediction
from dd.results import Store
store = Store({str(results)!r}, "t")
store.open()
store.check()
for runs in (["a", "b"], ["b", "c"]):
    assert "b" not in store.finished("basic", predictions=True) or runs[0] == "b"
    store.holds(runs)
    store.stamps(runs)
    rows = [{{"run_id": r, "status": "ok", "train_loss": 1.0, "feature_condition": float("inf")}} for r in runs]
    outputs = [Prediction(r, np.ones((2, 1), np.float32), "t", np.ones((2, 1))) for r in runs]
    store.append(runs[0], rows, [{{"run_id": r, "step": 1}} for r in runs], {{}}, {{}}, outputs)
store.open()
store.tidy()
assert store.rows(["c"], ["run_id"]).to_pylist() == [{{"run_id": "c"}}]
assert "pandas" not in sys.modules
assert "torch" not in sys.modules or True
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_outputs_count_beside_their_row_only(store: Store) -> None:
    add(store, "a", "1", outputs=True)
    store.append("b", [row("2")], [], {}, {}, [prediction("2", 4.0)])
    frame = pd.read_parquet(store.predictions).set_index("run_id")
    assert np.allclose(frame.outputs["2"], 4.0)
    (store.runs / "b.parquet").unlink()
    assert store.finished("basic", predictions=True) == {"1"}
    store.open()
    assert outputs(store) == {"1": 1.0}
