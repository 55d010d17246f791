"""At which steps losses are logged, and on which samples: a curve costs at most a third of the training, about."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dd.runs.run import Run

PER_DECADE = (8, 4, 2, 1)
"""Steps a decade, from the finest grid to the coarsest; each grid holds the coarser ones."""

SHARE = 0.36
"""A curve may cost this share of the training, in passes of single samples; a step takes three a sample."""

SUBSET = 2000
"""Samples of the training and of the test set that a curve is averaged over where all are too many."""


def _grid(per_decade: int) -> tuple[int, ...]:
    return tuple(sorted({0} | {round(10 ** (i / per_decade)) for i in range(19 * per_decade)}))


GRIDS = {per_decade: _grid(per_decade) for per_decade in PER_DECADE}

GRID = GRIDS[PER_DECADE[0]]
"""Step 0 and eight steps a decade: the same for all budgets, so that curves of different budgets share their steps."""


def log_steps(steps: int, per_decade: int = PER_DECADE[0]) -> frozenset[int]:
    """A grid up to a budget, and the budget itself.

    >>> sorted(log_steps(12))
    [0, 1, 2, 3, 4, 6, 7, 10, 12]
    >>> sorted(log_steps(12, per_decade=1))
    [0, 1, 10, 12]
    """
    grid = GRIDS[per_decade]
    return frozenset({*grid[: bisect_right(grid, steps)], steps})


@dataclass(frozen=True)
class Log:
    """When a run's losses are logged, and on how many samples.

    Attributes:
        steps: logged steps; the last one is the budget.
        samples: the first so many training and test samples count; None: all. The last row of a table is on all: it
            is the measurement at the end. Of samples held out all count.
        passes: forward passes of single samples that the curve costs.
    """

    steps: frozenset[int]
    samples: int | None
    passes: int


def watched_steps(run: Run, per_decade: int = PER_DECADE[0]) -> frozenset[int]:
    """Steps at which a run is looked at: :func:`log_steps`; of a deep network in epochs, each of which costs that much.

    Raises:
        ValueError: the run takes no steps.
    """
    if run.steps is None or run.batches_per_epoch is None:
        raise ValueError(f"optimizer={run.optimizer.name} takes no steps")
    if not run.model.deep:
        return log_steps(run.steps, per_decade)
    each = run.batches_per_epoch
    return frozenset(min(epoch * each, run.steps) for epoch in log_steps(math.ceil(run.steps / each), per_decade))


def log_of(run: Run) -> Log:
    """The finest log of a run that costs at most :data:`SHARE` of its training.

    All samples on the finest grid if that is cheap enough; else :data:`SUBSET` samples; else coarser grids, and at last
    the first and the last step alone. A run with ``stop_loss`` is evaluated on all samples anyway, and exact dynamics
    know every step at no cost.

    Raises:
        ValueError: the run takes no steps.
    """
    n, every = run.n_drawn + run.n_test, watched_steps(run)
    assert run.steps is not None
    whole = Log(every, None, len(every) * n)
    most = SHARE * 3 * run.steps * (run.batch_size or 0)
    if whole.passes <= most or run.stop_loss is not None or run.solver == "exact":
        return whole
    samples = SUBSET if max(run.n_train, run.n_test) > SUBSET else None
    each = n if samples is None else min(run.n_train, samples) + min(run.n_test, samples) + run.n_validation
    grids = [watched_steps(run, per_decade) for per_decade in PER_DECADE]
    for steps in [*grids, frozenset({0, run.steps})]:
        log = Log(steps, samples, len(steps) * each)
        if log.passes <= most:
            break
    return log
