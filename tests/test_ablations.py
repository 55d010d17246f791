"""Schaeffer's ablations as dd spells them, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from dd.packs.plan import Pack
from dd.packs.solve import Solved, solve
from dd.problems.problem import load
from dd.runs.settings import Settings
from tests.helpers import run_of, solve_rows

BASE = ("data=diabetes", "model=linear", "width=10", "optimizer=truncated_svd")


def outputs(*overrides: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Test outputs of a run, and its training inputs, training targets and test inputs."""
    run = run_of(*BASE, *overrides)
    solved = Solved()
    solve(Pack((run,)), Settings(device="cpu", measure_predictions=True), solved)
    problem = load(run, Settings())
    return (solved.predictions[0].outputs, *(t.numpy() for t in (problem.train_x, problem.train_y, problem.test_x)))


@pytest.mark.parametrize("samples", [6, 10, 30])
@pytest.mark.parametrize("rank", [1, 4, 10])
def test_a_rank_is_the_whole_fit_on_test_features_within_the_leading_training_modes(samples: int, rank: int) -> None:
    predicted, x, y, test = outputs(f"data.n_train={samples}", f"optimizer.rank={rank}")
    leading = np.linalg.svd(x, full_matrices=False)[2][:rank]
    projected = test @ leading.T @ leading
    np.testing.assert_allclose(predicted, projected @ np.linalg.pinv(x) @ y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cutoff", [0.001, 0.2, 1])
def test_a_cutoff_is_that_of_the_pseudo_inverse(cutoff: float) -> None:
    predicted, x, y, test = outputs("data.n_train=10", f"optimizer.cutoff={cutoff}")
    # pinv drops what is at most the cutoff, dd what is below it
    expected = test @ np.linalg.pinv(x, rcond=cutoff * (1 - 1e-9)) @ y
    np.testing.assert_allclose(predicted, expected, rtol=1e-5, atol=1e-5)


def median_loss(*overrides: str) -> float:
    """Median test loss over nine training sets."""
    run = run_of(*BASE, *overrides)
    return float(np.median([row["test_loss"] for row in solve_rows(*(run.replace(data_seed=d) for d in range(9)))]))


def test_each_ablation_removes_the_spike_at_as_many_samples_as_inputs() -> None:
    far = median_loss("data.n_train=40")
    assert median_loss("data.n_train=10") > 5 * far
    assert median_loss("data.n_train=10", "optimizer.cutoff=0.316228") < 1.5 * far
    assert median_loss("data.n_train=10", "optimizer.rank=3") < 1.5 * far
    assert median_loss("data.n_train=10", "data.targets=linear") < 1e-20
