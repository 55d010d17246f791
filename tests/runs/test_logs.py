"""At which steps losses are logged, and on how many samples."""

from __future__ import annotations

import itertools

import pytest

from dd.runs.logs import GRID, PER_DECADE, SHARE, SUBSET, log_of, log_steps, watched_steps
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


def test_coarser_grids_are_parts_of_finer_ones() -> None:
    grids = [log_steps(12345, per_decade) for per_decade in PER_DECADE]
    assert all(coarse < fine for fine, coarse in itertools.pairwise(grids))
    assert grids[-1] == {0, 1, 10, 100, 1000, 10_000, 12345}


def test_deep_networks_are_watched_after_whole_epochs() -> None:
    line = ("model=rmt", "width=2", "data.n_train=20", "data.n_test=10", "batch_size=8")
    assert watched_steps(run_of(*line, "epochs=5")) == {3 * epoch for epoch in log_steps(5)}
    assert watched_steps(run_of(*line, "steps=7")) == {0, 3, 6, 7}
    assert watched_steps(run_of("steps=7")) == log_steps(7)
    with pytest.raises(ValueError, match="optimizer=min_norm takes no steps"):
        watched_steps(run_of("optimizer=min_norm"))


FASHION = ("data=fashion_mnist", "data.n_train=60000", "data.n_test=10000", "batch_size=128")
BUDGETS = [
    ("epochs=500",),
    ("epochs=20",),
    ("epochs=3",),
    ("steps=1",),
    ("steps=0",),
    ("model=rmt", "width=2", "epochs=2"),
    (*FASHION, "epochs=2"),
    (*FASHION, "epochs=100"),
]


@pytest.mark.parametrize("line", BUDGETS, ids=" ".join)
def test_a_curve_costs_its_share_of_the_training_or_is_as_short_as_can_be(line: tuple[str, ...]) -> None:
    run = run_of(*line)
    log = log_of(run)
    sides = [min(size, log.samples or size) for size in (run.n_train, run.n_test)]
    assert log.passes == len(log.steps) * sum(sides)
    assert log.passes <= SHARE * 3 * run.steps * run.batch_size or log.steps == {0, run.steps}
    assert {0, run.steps} <= log.steps <= watched_steps(run)


def test_large_data_are_logged_on_a_part_and_short_budgets_at_fewer_steps() -> None:
    assert (log_of(run_of("epochs=500")).steps, log_of(run_of("epochs=500")).samples) == (log_steps(5000), None)
    short, large, long = (log_of(run_of(*line)) for line in (("epochs=20",), (*FASHION, "epochs=2"), BUDGETS[-1]))
    assert (short.steps, short.samples) == (log_steps(200, per_decade=2), None)
    assert (large.steps, large.samples) == (log_steps(938), SUBSET)
    assert long.samples is None


@pytest.mark.parametrize("line", [("stop_loss=0.1", "epochs=1"), ("optimizer=gd", "batch_size=full", "steps=2")])
def test_what_is_known_anyway_is_logged(line: tuple[str, ...]) -> None:
    run = run_of(*line)
    assert (log_of(run).steps, log_of(run).samples) == (watched_steps(run), None)
