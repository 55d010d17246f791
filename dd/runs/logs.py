"""At which steps losses are logged."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dd.runs.run import Run

PER_DECADE = 8

GRID = tuple(sorted({0} | {round(10 ** (i / PER_DECADE)) for i in range(19 * PER_DECADE)}))
"""Step 0 and eight steps a decade: the same for all budgets, so that curves of different budgets share their steps."""


def log_steps(steps: int) -> frozenset[int]:
    """The grid up to a budget, and the budget itself.

    >>> sorted(log_steps(12))
    [0, 1, 2, 3, 4, 6, 7, 10, 12]
    """
    return frozenset({*GRID[: bisect_right(GRID, steps)], steps})


def logged_steps(run: Run) -> frozenset[int]:
    """Steps at which a run is logged: :func:`log_steps`, of a deep network in epochs, each of which costs that much.

    Raises:
        ValueError: the run takes no steps.
    """
    if run.steps is None or run.batches_per_epoch is None:
        raise ValueError(f"optimizer={run.optimizer.name} takes no steps")
    if not run.model.deep:
        return log_steps(run.steps)
    each = run.batches_per_epoch
    return frozenset(min(epoch * each, run.steps) for epoch in log_steps(math.ceil(run.steps / each)))
