"""Packs to rows: what an interruption and a failure leave.

Covers: dd/packs/shared.py.
"""

from __future__ import annotations

import pytest

from dd.packs import solve
from dd.packs.plan import Pack
from dd.packs.solve import Solved
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.trainers.engine import Engine
from tests.helpers import run_of, solve_rows

pytestmark = pytest.mark.rounding

SMALL = ("data.n_train=60", "data.n_test=40", "steps=20", "batch_size=20", "width=9")
ALONE = [run_of(*SMALL, "optimizer=muon", f"optimizer.momentum={mu}") for mu in (0.5, 0.6, 0.7, 0.8)]


def test_an_interruption_leaves_the_rows_that_are_done() -> None:
    solved = Solved()

    def stop(row: object) -> None:
        if len(solved.rows) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve.solve(Pack(tuple(ALONE)), Settings(device="cpu"), solved, stop)
    assert [row["status"] for row in solved.rows] == ["ok", "ok"]
    assert {row["run_id"] for row in solved.curves} == {row["run_id"] for row in solved.rows}


@pytest.mark.parametrize("place", ["prepare", "measured", "predicted"])
def test_a_failure_before_or_after_training_takes_nobody_with_it(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = getattr(solve, place)

    def failing(job: object, *rest: object) -> object:
        run = job if isinstance(job, Run) else job.run  # type: ignore[attr-defined]
        if run is ALONE[1]:
            raise ValueError(f"{place} has failed")
        return original(job, *rest)

    monkeypatch.setattr(solve, place, failing)
    solved = Solved()
    solve.solve(Pack(tuple(ALONE)), Settings(device="cpu", measure_predictions=True), solved)
    rows = {row["run_id"]: row for row in solved.rows}
    assert [rows[run.run_id]["status"] for run in ALONE] == ["ok", "failed", "ok", "ok"]
    assert f"{place} has failed" in str(rows[ALONE[1].run_id]["error"])
    assert all(row["seconds"] > 0 for row in solved.rows)
    good = {run.run_id for run in ALONE if run is not ALONE[1]}
    assert {row["run_id"] for row in solved.curves} == {p.run_id for p in solved.predictions} == good


def test_a_trainer_that_raises_leaves_a_row_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [run_of(*SMALL, "model=two_layer").replace(width=w) for w in (3, 7)]
    original = Engine.__init__

    def init(self: Engine, tasks: list[object]) -> None:
        original(self, tasks)
        if 7 in {run.width for run in self.runs}:
            raise MemoryError("short")

    monkeypatch.setattr(Engine, "__init__", init)
    rows = {row["width"]: row for row in solve_rows(*runs)}
    assert (rows[3]["status"], rows[7]["status"]) == ("ok", "failed")
    assert "out of memory: MemoryError: short" in rows[7]["error"]


def test_a_step_size_in_units_of_no_sharpness_is_a_failure_that_says_so() -> None:
    run = run_of(*SMALL, "model=linear", "data.standardize=feature", "data.n_train=1", "batch_size=1", "optimizer=adam",
                 "lr=0.1", "lr_unit=sharpness")  # fmt: skip
    (row,) = solve_rows(run)
    assert row["status"] == "failed"
    assert "lr_unit=sharpness needs a positive largest Hessian eigenvalue" in row["error"]


def test_a_trainer_asked_for_by_name_is_in_the_row() -> None:
    run = run_of(*SMALL, "model=two_layer", "dtype=float64")
    auto, asked = (solve_rows(run, settings=Settings(device="cpu", trainer=name))[0] for name in ("auto", "stack"))
    assert (auto["trainer"], asked["trainer"]) == ("engine", "stack")
    assert auto["run_id"] == asked["run_id"]
    assert asked["test_loss"] == pytest.approx(auto["test_loss"], rel=1e-9)
    (refused,) = solve_rows(run, settings=Settings(device="cpu", trainer="exact"))
    assert refused["status"] == "failed"
    assert "trainer=exact: cannot train this run" in refused["error"]
