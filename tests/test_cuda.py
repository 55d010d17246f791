"""On a GPU the same rows as on a CPU; left out where there is none."""

from __future__ import annotations

import pytest
import torch

from dd.config import Settings
from tests.helpers import run_of, solve_rows

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

BASE = ("data.n_train=80", "data.n_test=60", "model.activation=tanh")
RUNS = {
    "closed forms": ("optimizer=min_norm",),
    "exact dynamics": ("optimizer=momentum", "batch_size=full", "steps=100000"),
    "conjugate gradients": ("optimizer=conjugate_gradient", "steps=10"),
    "function space": ("optimizer=sgd", "solver=dual", "epochs=20"),
    "iteration": ("optimizer=adam", "epochs=5", "dtype=float64"),
    "a net": ("model=two_layer", "optimizer=momentum", "epochs=5", "dtype=float64"),
}
COLUMNS = (
    "feature_condition", "hessian_condition", "preconditioned_condition", "jacobi_condition", "ntk_condition",
    "ntk_condition_init", "train_loss", "test_loss", "weight_norm",
)  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_gpu_and_cpu_agree(name: str) -> None:
    """To 1e-8 relative on condition numbers below 1e8; several seeds, so that decompositions are batched."""
    runs = [run_of(*BASE, *RUNS[name], f"width={w}", f"seed={s}") for w in (12, 200) for s in range(3)]
    here, there = (
        {row["run_id"]: row for row in solve_rows(*runs, settings=Settings(device=device, measure_name="full"))}
        for device in ("cpu", "cuda")
    )
    for run_id, row in here.items():
        assert there[run_id]["status"] == row["status"] == "ok"
        for column in COLUMNS:
            if row.get(column) is None or ("condition" in column and row[column] > 1e8):
                continue
            assert there[run_id][column] == pytest.approx(row[column], rel=1e-8, abs=1e-16), column


def test_deep_networks_agree() -> None:
    """Runs of one architecture are one program on the GPU; float64, a few steps."""
    line = ("model=rmt", "data.n_train=40", "data.n_test=20", "batch_size=20", "epochs=2", "dtype=float64", "lr=0.003")
    runs = [
        run_of(*line, f"width={w}", f"seed={s}", f"data.seed={s}", f"optimizer={o}")
        for w in (4, 8)
        for s in range(2)
        for o in ("adam", "muon")
    ]
    here, there = (
        {row["run_id"]: row for row in solve_rows(*runs, settings=Settings(device=device))}
        for device in ("cpu", "cuda")
    )
    for run_id, row in here.items():
        assert there[run_id]["status"] == row["status"] == "ok"
        for column in ("train_loss", "test_loss", "weight_norm", "feature_sigma_max"):
            assert there[run_id][column] == pytest.approx(row[column], rel=1e-6), column
