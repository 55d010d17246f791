"""Which runs are trained together, in which order, and what a failure of some leaves of the others."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import pytest
import torch

from dd.measure.solution import Solution
from dd.packs.schedule import train_jobs
from dd.runs.run import Run
from dd.trainers.base import Task, Trainer
from dd.trainers.compiled import Compiled
from dd.trainers.engine import Engine
from dd.trainers.span import Span
from tests.helpers import run_of
from tests.training import jobs_of, same_bits, solutions

pytestmark = pytest.mark.rounding

SMALL = ("data.n_train=60", "data.n_test=40", "steps=20", "batch_size=20", "lr_unit=absolute", "lr=0.02")
DEEP = ("model=rmt", "data.n_train=16", "data.n_test=10", "batch_size=8", "lr=0.003", "lr_unit=absolute", "width=2",
        "optimizer=adam")  # fmt: skip


def results(runs: Sequence[Run]) -> dict[Run, Solution | Exception]:
    found = {}
    for job in train_jobs(jobs_of(runs)):
        assert job.result is not None
        assert job.run not in found, "each ends once"
        found[job.run] = job.result
    return found


def failing(monkeypatch: pytest.MonkeyPatch, trainer: type[Trainer], error: Exception, *, at: int) -> list[list[int]]:
    """Let a trainer raise where a group has a run of a width; what it was called with is noted."""
    original, calls = trainer.train, []

    def train(cls: type[Trainer], tasks: Sequence[Task]) -> list[list[Solution]]:
        calls.append([task.run.width for task in tasks])
        if at in calls[-1]:
            raise error
        return original(tasks)

    monkeypatch.setattr(trainer, "train", classmethod(train))
    return calls


@pytest.mark.parametrize("error", [MemoryError("short"), RuntimeError("out of memory"), ValueError("a fault")])
@pytest.mark.parametrize(("trainer", "axes"), [(Engine, ["data.n_train=80"]), (Span, ["steps=100"])])
def test_a_group_that_raises_is_halved_until_the_culprit_is_alone(
    error: Exception, trainer: type[Trainer], axes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [run_of(*SMALL, *axes, "model=two_layer", f"width={w}") for w in (3, 5, 7, 9, 11)]
    expected = solutions(runs, trainer.name)
    calls = failing(monkeypatch, trainer, error, at=7)
    found = results(runs)
    assert len(found) == 5
    for run, result in found.items():
        if run.width == 7:
            assert result is error
        else:
            assert isinstance(result, Solution)
            assert same_bits(result, expected[run.run_id]), "the others are as they would have been"
    assert calls == [[3, 5, 7, 9, 11], [3, 5], [7, 9, 11], [7], [9, 11]]


@pytest.mark.parametrize("error", [MemoryError("short"), torch.OutOfMemoryError("CUDA out of memory")])
def test_what_a_group_has_allocated_is_gone_when_its_halves_are_tried(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    trainers: list[weakref.ref[object]] = []
    original = Engine.__init__

    def init(self: Engine, tasks: Sequence[Task]) -> None:
        held.append(sum(trainer() is not None for trainer in trainers))
        trainers.append(weakref.ref(self))
        original(self, tasks)
        if len(tasks) > 1:
            raise error

    monkeypatch.setattr(Engine, "__init__", init)
    found = results([run_of(*SMALL, "model=two_layer", f"width={w}") for w in (3, 5, 7)])
    assert all(isinstance(result, Solution) for result in found.values())
    assert held == [0] * 5, "one group of three, of one, of two, and two of one"


def test_shorter_budgets_are_left_to_the_next_where_the_longest_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [run_of(*DEEP, f"epochs={e}", f"seed={s}") for s in (0, 1) for e in (1, 2, 3)]
    expected = solutions(runs)
    calls: list[tuple[int, ...]] = []
    original = Compiled.train

    def train(cls: type[Trainer], tasks: Sequence[Task]) -> list[list[Solution]]:
        (task,) = tasks
        calls.append((task.run.steps or 0, *(run.steps or 0 for run in task.shorter)))
        if task.run.steps == 6 and task.run.seed == 0:
            raise ValueError("the last epoch")
        return original(tasks)

    monkeypatch.setattr(Compiled, "train", classmethod(train))
    found = results(runs)
    assert calls == [(6, 4, 2), (4, 2), (6, 4, 2)]
    for run in runs:
        result = found[run]
        if run.steps == 6 and run.seed == 0:
            assert isinstance(result, ValueError)
        else:
            assert isinstance(result, Solution)
            assert same_bits(result, expected[run.run_id])


def test_a_family_whose_every_budget_raises_leaves_an_error_each(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = failing(monkeypatch, Compiled, ValueError("no"), at=2)
    found = results([run_of(*DEEP, f"epochs={e}") for e in (1, 2, 3)])
    assert len(calls) == len(found) == 3
    assert all(isinstance(result, ValueError) for result in found.values())


def test_closed_forms_come_first_and_time_is_shared_out_by_estimates() -> None:
    """Networks are let go of, and so are decompositions."""
    runs = [
        run_of(*SMALL[:4], "lr_unit=absolute", "lr=0.02", f"optimizer={o}", f"width={w}")
        for w in (9, 90) for o in ("adam", "min_norm")
    ]  # fmt: skip
    runs.append(run_of(*SMALL, "optimizer=muon", "width=9"))
    jobs = jobs_of(runs)
    ended = list(train_jobs(jobs))
    assert [job.trainer.name for job in ended] == ["closed_form"] * 2 + ["engine"] * 2 + ["analytic"]
    assert all(job.seconds > 0 for job in ended)
    narrow, wide = (job for job in ended if job.trainer is Engine)
    shares = [Engine.seconds(job.run) for job in (narrow, wide)]
    assert wide.seconds / narrow.seconds == pytest.approx(shares[1] / shares[0], rel=1e-2)
    assert all(job.task.design is None for job in jobs)


def test_a_trainer_may_part_its_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [run_of(*SMALL, "data.n_train=80", "model=two_layer", f"width={w}") for w in (3, 5, 7, 9, 11)]
    expected = solutions(runs)
    monkeypatch.setattr(Engine, "parts", classmethod(lambda cls, tasks: [list(tasks[:2]), list(tasks[2:])]))
    calls = failing(monkeypatch, Engine, ValueError("no"), at=0)
    found = results(runs)
    assert calls == [[3, 5], [7, 9, 11]]
    for run, result in found.items():
        assert isinstance(result, Solution)
        assert same_bits(result, expected[run.run_id])
