"""The packed program of the GPU, run here on a CPU: every run equals the run alone, up to rounding."""

from __future__ import annotations

import pytest
import torch

from dd.config import RunConfig
from dd.solvers.grid import WASTE, Grid, grids, suits
from dd.solvers.train import train
from tests.helpers import networks_of, run_of, trained

SMALL = ("data.n_train=83", "data.n_test=40", "steps=40", "lr_unit=absolute", "dtype=float64")
OPTIMIZERS = ("sgd", "momentum", "adam", "lion", "rmsprop", "adagrad", "adamw", "nesterov", "signsgd")


def family(*overrides: str, optimizers: tuple[str, ...] = OPTIMIZERS) -> list[RunConfig]:
    return [
        run_of(*SMALL, f"width={w}", f"optimizer={o}", f"lr={lr}", f"seed={seed}", "lr_unit=absolute", *overrides)
        for seed in (0, 1, 2)
        for w in (3, 20, 21, 22)
        for o in optimizers
        for lr in ((0.01, 0.02) if o == "sgd" else (0.01,))
    ]


@pytest.mark.parametrize("batch", ["batch_size=20", "batch_size=full"])
@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
@pytest.mark.parametrize(
    "model",
    [
        "two_layer",
        "two_layer model.bias=false model.activation=tanh",
        "random_features",
        "random_features model.bias=true",
    ],
)
def test_every_run_of_a_grid_equals_the_run_alone(model: str, loss: str, batch: str) -> None:
    runs = family(*f"model={model}".split(), f"loss={loss}", batch)
    networks = networks_of(runs)
    assert all(suits(n.run, n) for n in networks)
    members = grids(networks)
    assert sorted(i for grid in members for i in grid) == list(range(len(runs)))
    assert len(members) == 2, "widths 20 to 22 of all seeds share a grid, width 3 has its own"
    for grid in members:
        solutions = train(Grid([networks[i] for i in grid], [float(runs[i].lr or 0) for i in grid]))
        for i, solution in zip(grid[::5], solutions[::5], strict=True):
            alone = trained(networks[i], float(runs[i].lr or 0), eager=True)
            torch.testing.assert_close(solution.theta, alone.theta, rtol=1e-9, atol=1e-11)
            for a, b in zip(solution.curve, alone.curve, strict=True):
                assert vars(a) == pytest.approx(vars(b), rel=1e-9)
            if alone.preconditioner is not None:
                torch.testing.assert_close(solution.preconditioner, alone.preconditioner, rtol=1e-8, atol=1e-12)


def test_padding_stays_zero_and_is_bounded() -> None:
    runs = family("model=two_layer", "batch_size=20")
    networks = networks_of(runs)
    for members in grids(networks):
        widths = {runs[i].width for i in members}
        assert max(widths) <= WASTE * min(widths)
        grid = Grid([networks[i] for i in members], [0.01] * len(members))
        grid.advance(0, 15)
        hidden, readout, _ = grid._named(grid.theta)
        for k, i in enumerate(members):
            row, column = divmod(k, grid._shape[1])
            assert not hidden[row, column, runs[i].width :].any()
            assert not readout[row, column, :, runs[i].width :].any()
            assert hidden[row, column, : runs[i].width].any()


def test_a_diverging_run_leaves_the_grid_and_disturbs_nobody() -> None:
    runs = [
        run_of(*SMALL, "optimizer=sgd", "steps=900", "width=20", f"lr={lr}", "lr_unit=absolute") for lr in (0.01, 900)
    ]
    networks = networks_of(runs)
    (members,) = grids(networks)
    good, bad = train(Grid([networks[i] for i in members], [float(runs[i].lr or 0) for i in members]))
    assert (good.status, bad.status) == ("ok", "diverged")
    assert torch.isfinite(bad.theta).all()
    torch.testing.assert_close(good.theta, trained(networks[members[0]], 0.01).theta, rtol=1e-9, atol=1e-11)


def test_a_column_whose_seeds_have_all_left_is_compacted_away() -> None:
    fixed = (*SMALL, "steps=900", "width=20", "lr_unit=absolute", "batch_size=20")
    kinds = (("sgd", 0.01), ("sgd", 900), ("adam", 0.01), ("momentum", 900))
    runs = [run_of(*fixed, f"optimizer={o}", f"lr={lr}", f"seed={seed}") for seed in (0, 1) for o, lr in kinds]
    networks = networks_of(runs)
    (members,) = grids(networks)
    grid = Grid([networks[i] for i in members], [float(runs[i].lr or 0) for i in members])
    solutions = train(grid)
    assert grid.theta.shape[:2] == (2, 2), "two kinds of two seeds are left"
    for i, solution in zip(members, solutions, strict=True):
        diverges = float(runs[i].lr or 0) > 1
        assert solution.status == ("diverged" if diverges else "ok")
        if not diverges:
            alone = trained(networks[i], 0.01, eager=True)
            torch.testing.assert_close(solution.theta, alone.theta, rtol=1e-8, atol=1e-10)
            if alone.preconditioner is not None:
                torch.testing.assert_close(solution.preconditioner, alone.preconditioner, rtol=1e-7, atol=1e-11)
