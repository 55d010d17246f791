"""Packs to rows: what an interruption and a failure leave."""

from __future__ import annotations

import weakref
from types import ModuleType

import pytest
import torch

from dd import solve as solve_module
from dd.config import Settings
from dd.kernels import engine, span
from dd.pack import Pack
from dd.solve import Solved, solve
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
        solve(Pack(tuple(ALONE)), Settings(device="cpu"), solved, stop)
    assert [row["status"] for row in solved.rows] == ["ok", "ok"]
    assert {row["run_id"] for row in solved.curves} == {row["run_id"] for row in solved.rows}


@pytest.mark.parametrize("error", [MemoryError("short"), RuntimeError("out of memory")])
@pytest.mark.parametrize(
    ("module", "name", "axes"),
    [(engine, "Engine", ["data.n_train=80"]), (span, "SpanEngine", ["steps=100"])],
    ids=["engine", "span"],
)
def test_a_pack_that_fails_is_halved_until_the_culprit_is_alone(
    error: Exception, module: ModuleType, name: str, axes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [run_of(*SMALL, *axes, "model=two_layer", f"width={w}") for w in (3, 5, 7, 9, 11)]
    expected = {row["run_id"]: row["train_loss"] for row in solve_rows(*runs)}
    sizes = []
    original = getattr(module, name)

    class Failing(original):  # type: ignore[misc, valid-type]
        def __init__(self, networks: list[object], lrs: list[float]) -> None:
            sizes.append(len(networks))
            super().__init__(networks, lrs)
            if 7 in {network.run.width for network in self.networks}:
                raise error

    monkeypatch.setattr(module, name, Failing)
    rows = solve_rows(*runs)
    assert len(rows) == 5
    for row in rows:
        if row["width"] == 7:
            assert row["status"] == "failed"
            assert str(error) in row["error"]
        else:
            assert row["train_loss"] == expected[row["run_id"]], "the others are as they would have been"
    assert sizes[0] == 5
    assert sizes.count(1) >= 1


@pytest.mark.parametrize("error", [MemoryError("short"), torch.OutOfMemoryError("CUDA out of memory")])
def test_what_a_pack_has_allocated_is_gone_when_its_halves_are_tried(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainers: list[weakref.ref[object]] = []
    held = []
    original = engine.Engine

    class Failing(original):  # type: ignore[misc, valid-type]
        def __init__(self, networks: list[object], lrs: list[float]) -> None:
            held.append(sum(trainer() is not None for trainer in trainers))
            trainers.append(weakref.ref(self))
            super().__init__(networks, lrs)
            if len(networks) > 1:
                raise error

    monkeypatch.setattr(engine, "Engine", Failing)
    rows = solve_rows(*(run_of(*SMALL, "model=two_layer", f"width={w}") for w in (3, 5, 7)))
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert held == [0] * 5, "one pack of three, of one, of two, and two of one"


def test_small_designs_of_one_shape_are_decomposed_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [
        run_of(*SMALL[:2], "batch_size=full", "optimizer=gd", f"width={w}", f"seed={s}", f"steps={t}")
        for w in (9, 80) for s in range(3) for t in (4, 8)
    ]  # fmt: skip
    expected = {row["run_id"]: row for row in solve_rows(*runs)}
    calls = []
    original = solve_module.factorize_batch
    monkeypatch.setattr(solve_module, "factorize_batch", lambda x: calls.append(tuple(x.shape)) or original(x))
    monkeypatch.setattr(solve_module, "factorize", lambda x: pytest.fail("decomposed again"))
    context = solve_module.Context(Settings(device="cpu"), runs)
    context.decompose_ahead()
    assert sorted(calls) == [(3, 60, 9), (3, 60, 80)]
    jobs = [solve_module.prepare(run, context) for run in runs]
    for job in solve_module.train_jobs(jobs, context):
        row, _ = solve_module._measured(job, context.measure)
        for column in ("feature_condition", "test_loss", "hessian_condition", "min_norm_test_loss"):
            assert row[column] == pytest.approx(expected[job.run.run_id][column], rel=1e-8)
