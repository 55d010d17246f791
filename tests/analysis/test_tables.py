"""Reading tables: logged steps beside their runs, and what a table was computed with."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analysis import tables
from analysis.tables import (
    UnreadableTable,
    curve_rows,
    environments,
    load_curves,
    load_predictions,
    load_runs,
    table_names,
)
from dd.results import Store, compaction, parts
from tests.helpers import run_of, solve_rows
from tests.results.tables import add, add_as_before


@pytest.fixture
def table(results: Path) -> Path:
    runs = [run_of("data.n_train=20", "data.n_test=20", "steps=3", "batch_size=full", f"width={w}") for w in (5, 9, 12)]
    rows = solve_rows(*runs)
    curves = [
        {"run_id": row["run_id"], "step": s, "epoch": float(s), "train_loss": 1.0 + s, "test_loss": 2.0 + row["width"]}
        for row in rows
        for s in (0, 1, 3)
    ]
    store = Store(results, "t")
    store.open()
    store.append("a", rows[:1], curves[:3], {}, {"environment": {"python": "3.12"}})
    store.append("b", rows[1:2], curves[3:6], {}, {"environment": {"python": "3.12"}})
    store.append("c", rows[2:], curves[6:], {}, {"environment": {"python": "3.13"}})
    return results


def test_logged_steps_have_their_own_losses_and_their_runs_axes(table: Path) -> None:
    long = curve_rows(table, "t")
    assert sorted(zip(long["width"], long["step"], long["train_loss"], long["test_loss"], strict=True)) == [
        (w, s, 1.0 + s, 2.0 + w) for w in (5, 9, 12) for s in (0, 1, 3)
    ]
    assert set(long["status"]) == {"ok"}
    assert set(long["optimizer"]) == {"sgd"}


def test_a_table_without_logged_steps_gives_an_empty_one(results: Path) -> None:
    store = Store(results, "t")
    store.open()
    store.append("a", solve_rows(run_of("data.n_train=20", "data.n_test=20", "optimizer=min_norm")), [], {}, {})
    assert curve_rows(results, "t").empty
    assert load_curves(results, "absent").empty


def test_rows_from_before_there_were_schedules_have_the_constant_one(table: Path) -> None:
    part = next((table / "t" / "runs").glob("*.parquet"))
    old = pq.read_table(part)
    old = old.drop_columns([name for name in old.column_names if name.startswith("schedule")])
    pq.write_table(old, part)
    rows = load_runs(table, "t")
    assert len(rows) == 3
    assert set(rows["schedule"]) == {"constant"}
    assert set(rows["schedule_per"]) == {"step"}
    assert set(rows["schedule_warmup"]) == {0}
    assert rows["schedule_final"].isna().all()


def test_each_environment_is_named_once(table: Path) -> None:
    assert environments(table, "t") == [{"python": "3.12"}, {"python": "3.13"}]


def test_an_unreadable_part_of_the_logged_steps_is_named(table: Path) -> None:
    part = next((table / "t/curves").glob("*.parquet"))
    part.write_bytes(b"no")
    with pytest.raises(UnreadableTable, match=part.name):
        curve_rows(table, "t")


def test_a_flipped_byte_is_told_with_the_command_that_mends(table: Path) -> None:
    part = table / "t/runs/b.parquet"
    data = bytearray(part.read_bytes())
    data[len(data) // 4] ^= 4
    part.write_bytes(data)
    with pytest.raises(
        UnreadableTable, match=r"runs/b\.parquet .* python -m dd\.results repair t results_dir="
    ) as caught:
        load_runs(table, "t")
    assert "\n" not in str(caught.value)


def test_the_seal_is_the_one_that_dd_writes() -> None:
    assert tables.MARK == parts.MARK
    assert tables.SEAL.format == parts.SEAL.format


def test_files_of_the_finder_are_nobodys_business(table: Path) -> None:
    for folder in ("t/runs", "t/curves", "u/runs"):
        (table / folder).mkdir(parents=True, exist_ok=True)
        (table / folder / "._a.parquet").write_bytes(b"resource fork")
        (table / folder / "_a.parquet.1.tmp").write_bytes(b"half")
    assert table_names(table) == ["t"]
    assert len(load_runs(table, "t")) == 3
    assert len(load_curves(table, "t")) == 9
    assert len(environments(table, "t")) == 2


def test_a_run_and_a_point_count_once_in_tables_of_earlier_versions(results: Path) -> None:
    store = Store(results, "t")
    add_as_before(store, "a", "1", "2", value=1.0, at=1)
    add_as_before(store, "b", "2", "3", value=2.0, at=2)
    add_as_before(store, "c", "1", value=9.0, at=3, status="failed")
    add_as_before(store, "orphan", "3", "4", value=5.0)
    (store.runs / "orphan.parquet").unlink()
    rows = load_runs(results, "t")
    assert dict(zip(rows["run_id"], rows["train_loss"], strict=True)) == {"1": 1.0, "2": 2.0, "3": 2.0}
    points = load_curves(results, "t", ["run_id", "train_loss"])
    assert list(points.columns) == ["run_id", "train_loss"]
    assert points.groupby("run_id")["train_loss"].agg(["size", "min", "max"]).to_dict("index") == {
        i: {"size": 3, "min": v, "max": v} for i, v in (("1", 1.0), ("2", 2.0), ("3", 2.0), ("4", 5.0))
    }
    assert len(curve_rows(results, "t")) == 9


def test_outputs_are_those_of_the_row_that_counts(results: Path) -> None:
    store = Store(results, "t")
    store.open()
    add(store, "a", "1", outputs=True)
    add_as_before(store, "b", "1", value=2.0, at=2**55)
    assert load_predictions(results, "t").empty, "the newer row has none"
    assert load_predictions(results, "absent").columns.tolist() == ["run_id", "targets_id", "predicted"]


def test_a_part_that_goes_meanwhile_is_looked_for_again(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, merged = tables._open, []

    def late(part: Path) -> object:
        if not merged:
            merged.append(True)
            compaction.compact(table / "t")
        return plain(part)

    monkeypatch.setattr(tables, "_open", late)
    assert len(load_runs(table, "t")) == 3
    assert merged
    assert environments(table, "t") == [{"python": "3.12"}, {"python": "3.13"}]
