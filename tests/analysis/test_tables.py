"""Reading tables: logged steps beside their runs, and what a table was computed with."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.tables import UnreadableTable, curve_rows, environments, load_curves
from dd.results import Store
from tests.helpers import run_of, solve_rows


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


def test_each_environment_is_named_once(table: Path) -> None:
    assert environments(table, "t") == [{"python": "3.12"}, {"python": "3.13"}]


def test_an_unreadable_part_of_the_logged_steps_is_named(table: Path) -> None:
    part = next((table / "t/curves").glob("*.parquet"))
    part.write_bytes(b"no")
    with pytest.raises(UnreadableTable, match=part.name):
        curve_rows(table, "t")
