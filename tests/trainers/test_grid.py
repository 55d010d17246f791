"""The packed program of the GPU, run here on a CPU: every run equals the run alone, up to rounding."""

from __future__ import annotations

import itertools

import pytest
import torch

from dd.measure.solution import Solution
from dd.runs.run import Run
from dd.trainers import grid
from dd.trainers.base import Task
from dd.trainers.course import train
from dd.trainers.grid import Grid
from tests.helpers import run_of
from tests.training import assert_close, solution, tasks_of

pytestmark = pytest.mark.rounding

SMALL = ("data.n_train=83", "data.n_test=40", "steps=25", "lr_unit=absolute", "dtype=float64", "solver=iterative")
OPTIMIZERS = ("sgd", "momentum", "adam", "lion", "rmsprop", "adagrad", "adamw", "nesterov", "signsgd")
GPU = torch.device("cuda")


def family(*overrides: str, optimizers: tuple[str, ...] = OPTIMIZERS) -> list[Run]:
    return [
        run_of(*SMALL, f"width={w}", f"optimizer={o}", f"lr={lr}", f"seed={seed}", *overrides)
        for seed in (0, 1)
        for w in (3, 20, 22)
        for o in optimizers
        for lr in ((0.01, 0.02) if o == "sgd" else (0.01,))
    ]


def parts(runs: list[Run]) -> list[list[Task]]:
    """What a GPU would train together."""
    assert all(Grid.objection(run, GPU) is None for run in runs)
    assert len({Grid.group_key(run, GPU) for run in runs}) == 1
    found = Grid.parts(tasks_of(runs))
    assert sorted(task.run.run_id for part in found for task in part) == sorted(run.run_id for run in runs)
    return found


def whole(runs: list[Run]) -> list[Task]:
    (part,) = parts(runs)
    return part


def trained(tasks: list[Task]) -> dict[Run, Solution]:
    return dict(zip((task.run for task in tasks), train(Grid(tasks)), strict=True))


@pytest.mark.parametrize("batch", ["batch_size=20", "batch_size=full"])
@pytest.mark.parametrize(
    "model",
    [
        "two_layer",
        "two_layer model.bias=false model.activation=tanh",
        "random_features",
        "random_features model.bias=true",
    ],
)
def test_every_run_of_a_grid_equals_the_run_alone(model: str, batch: str) -> None:
    """All widths, optimizers, step sizes, losses and seeds in one."""
    runs = [
        run for loss in ("mse", "cross_entropy") for run in family(*f"model={model}".split(), f"loss={loss}", batch)
    ]
    found = trained(whole(runs))
    for run in runs[::7]:
        assert_close(found[run], solution(run, "stack"))


def test_wide_runs_are_parted_from_narrow_ones_where_memory_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = family("model=two_layer", "batch_size=20", optimizers=("sgd", "adam"))
    together = whole(runs)
    monkeypatch.setattr(grid, "MEMORY", 2 * 5 * 4 * 8 * together[0].network.parameters)
    several = parts(runs)
    assert len(several) > 1
    widths = [{task.run.width for task in part} for part in several]
    assert all(min(wide) >= max(narrow) for wide, narrow in itertools.pairwise(widths))
    assert all({task.run.seed for task in part} == {0, 1} for part in several)


def test_seeds_with_other_runs_have_a_grid_of_their_own() -> None:
    runs = family("model=two_layer", "batch_size=20", optimizers=("sgd", "adam"))
    assert sorted(len(part) for part in parts(runs[1:])) == [8, 9]


def test_padding_stays_zero() -> None:
    tasks = whole(family("model=two_layer", "batch_size=20"))
    trainer = Grid(tasks)
    trainer.advance(0, 15)
    hidden, readout, _ = trainer._named(trainer.theta)
    for k, task in enumerate(tasks):
        row, column = divmod(k, trainer._shape[1])
        assert not hidden[row, column, task.run.width :].any()
        assert not readout[row, column, :, task.run.width :].any()
        assert hidden[row, column, : task.run.width].any()


def test_a_diverging_run_leaves_the_grid_and_disturbs_nobody() -> None:
    good, bad = (run_of(*SMALL, "optimizer=sgd", "steps=600", "width=20", f"lr={lr}") for lr in (0.01, 900))
    found = trained(whole([good, bad]))
    assert (found[good].status, found[bad].status) == ("ok", "diverged")
    assert torch.isfinite(found[bad].theta).all()
    assert_close(found[good], solution(good, "stack"))


def test_a_column_whose_seeds_have_all_left_is_compacted_away() -> None:
    fixed = (*SMALL, "steps=600", "width=20", "batch_size=20")
    kinds = (("sgd", 0.01), ("sgd", 900), ("adam", 0.01), ("momentum", 900))
    runs = [run_of(*fixed, f"optimizer={o}", f"lr={lr}", f"seed={seed}") for seed in (0, 1) for o, lr in kinds]
    tasks = whole(runs)
    trainer = Grid(tasks)
    for task, found in zip(tasks, train(trainer), strict=True):
        diverges = float(task.run.lr or 0) > 1
        assert found.status == ("diverged" if diverges else "ok")
        if not diverges:
            assert_close(found, solution(task.run, "stack"), rel=1e-8, scale=1e-10)
    assert trainer.theta.shape[:2] == (2, 2), "two kinds of two seeds are left"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("optimizer=min_norm", "optimizer=min_norm"),
        ("optimizer=gradient_flow", "optimizer=gradient_flow"),
        ("optimizer=conjugate_gradient solver=iterative", "optimizer=conjugate_gradient"),
        ("optimizer=lbfgs", "optimizer=lbfgs"),
        ("optimizer=muon", "optimizer=muon"),
        ("optimizer=adam normalization=standardize", "scales each width by itself"),
        ("optimizer=adam model=two_layer normalization=standardize", "normalization=standardize"),
        ("optimizer=adam normalization=batch_norm", "normalization=batch_norm"),
        ("optimizer=adam optimizer.eps=0", "optimizer.eps is zero"),
    ],
)
def test_what_it_cannot_is_told(overrides: str, words: str) -> None:
    assert words in (Grid.objection(run_of(*overrides.split()), GPU) or "")
