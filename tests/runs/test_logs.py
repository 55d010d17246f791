"""At which steps losses are logged."""

from __future__ import annotations

import pytest

from dd.runs.logs import GRID, log_steps, logged_steps
from tests.helpers import run_of


def test_steps_are_log_spaced_and_hold_both_ends() -> None:
    steps = sorted(log_steps(5000))
    assert steps[0] == 0
    assert steps[-1] == 5000
    assert len(steps) < 45
    assert log_steps(0) == {0}
    assert log_steps(1) == {0, 1}
    assert max(GRID) < 10**19 <= 10 * max(GRID)


@pytest.mark.parametrize("steps", [7, 1000, 12345])
def test_curves_of_two_budgets_share_their_steps(steps: int) -> None:
    assert log_steps(steps) - {steps} <= log_steps(10 * steps)


def test_deep_networks_are_logged_after_whole_epochs() -> None:
    line = ("model=rmt", "width=2", "data.n_train=20", "data.n_test=10", "batch_size=8")
    assert logged_steps(run_of(*line, "epochs=5")) == {3 * epoch for epoch in log_steps(5)}
    assert logged_steps(run_of(*line, "steps=7")) == {0, 3, 6, 7}
    assert logged_steps(run_of("steps=7")) == log_steps(7)
    with pytest.raises(ValueError, match="optimizer=min_norm takes no steps"):
        logged_steps(run_of("optimizer=min_norm"))
