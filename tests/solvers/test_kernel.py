"""Steps in function space against steps in weight space, and against a plain PyTorch loop."""

from __future__ import annotations

import pytest
import torch

from dd.solvers.batches import batch_orders
from dd.solvers.train import kernel_stack_of, train
from tests.helpers import network_of, networks_of, row_of, run_of, solve_rows

pytestmark = pytest.mark.rounding

BASE = ("data.n_train=60", "data.n_test=40", "batch_size=13", "epochs=30", "model.activation=tanh", "dtype=float64")
COLUMNS = ("train_loss", "test_loss", "train_error", "test_error", "weight_norm", "gradient_norm")


@pytest.mark.parametrize("bias", ["true", "false"])
@pytest.mark.parametrize("decay", [0.0, 1e-2])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov"])
def test_function_space_and_weight_space_agree(optimizer: str, decay: float, bias: str) -> None:
    for width in (30, 60, 61, 200):
        overrides = (*BASE, f"width={width}", f"optimizer={optimizer}", f"optimizer.weight_decay={decay}")
        dual, plain = (row_of(*overrides, f"model.bias={bias}", f"solver={s}") for s in ("dual", "iterative"))
        assert (dual["solver"], plain["solver"]) == ("dual", "iterative")
        assert dual["steps_done"] == plain["steps_done"] == 150
        for column in COLUMNS:
            assert dual[column] == pytest.approx(plain[column], rel=1e-9), (width, column)


def test_function_space_is_torchs_sgd() -> None:
    run = run_of(*BASE, "width=150", "optimizer=momentum", "solver=dual", "optimizer.weight_decay=1e-3", "loss=mse")
    row = solve_rows(run)[0]
    network = network_of(run)
    design, targets = network.exact_train.inputs[0], network.exact_train.targets
    layer = torch.nn.Linear(150, 10, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(network.named(network.theta).named["readout"][0])
    optimizer = torch.optim.SGD(layer.parameters(), lr=row["lr_absolute"], momentum=0.9, weight_decay=1e-3)
    orders = batch_orders(run)
    for _ in range(30):
        order = torch.from_numpy(next(orders))
        for batch in order.split(13):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(layer(design[batch]), targets[batch]).backward()
            optimizer.step()
    assert row["weight_norm"] == pytest.approx(float(layer.weight.detach().norm()), rel=1e-9)
    with torch.no_grad():
        loss = torch.nn.functional.mse_loss(layer(network.exact_test.inputs[0]), network.exact_test.targets)
    assert row["test_loss"] == pytest.approx(float(loss), rel=1e-9)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov"])
def test_engine_and_torch_take_the_same_steps(optimizer: str) -> None:
    """Two starts, one that diverges and one that stops: the others do not notice."""
    runs = [
        run_of(*BASE, "width=100", f"optimizer={optimizer}", "solver=dual", f"lr={lr}", f"init.scale={scale}",
               "stop_loss=0.08", "optimizer.weight_decay=1e-4")
        for lr in (0.02, 0.3, 40.0) for scale in (0.5, 2.0)
    ]  # fmt: skip
    rows = solve_rows(*runs)
    lrs = [row["lr_absolute"] for row in rows]
    solutions = train(kernel_stack_of(networks_of(runs), lrs))
    assert {solution.status for solution in solutions} == {"ok", "diverged"}
    assert len({solution.steps_done for solution in solutions}) > 2
    for row, solution in zip(rows, solutions, strict=True):
        assert (row["status"], row["steps_done"]) == (solution.status, solution.steps_done)
        assert row["weight_norm"] == pytest.approx(float(solution.theta.norm()), rel=1e-9)


def test_bits_do_not_depend_on_neighbours() -> None:
    runs = [
        run_of(*BASE, f"width={w}", f"optimizer={o}", "solver=dual", f"lr={lr}")
        for w in (61, 140) for o in ("sgd", "nesterov") for lr in (0.1, 0.7)
    ]  # fmt: skip
    together = {row["run_id"]: row for row in solve_rows(*runs)}
    for run in runs:
        alone = solve_rows(run)[0]
        packed = together[run.run_id]
        assert {k: v for k, v in alone.items() if k != "seconds"} == {k: v for k, v in packed.items() if k != "seconds"}


def test_zero_steps_leave_the_start() -> None:
    row = row_of(*BASE[:3], "width=100", "solver=dual", "steps=0")
    plain = row_of(*BASE[:3], "width=100", "solver=iterative", "steps=0", "dtype=float64")
    assert row["weight_norm"] == pytest.approx(plain["weight_norm"], rel=1e-12)
    assert row["test_loss"] == pytest.approx(plain["test_loss"], rel=1e-12)
