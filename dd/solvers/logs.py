"""At which steps losses are logged."""

from __future__ import annotations

from bisect import bisect_right

PER_DECADE = 8

GRID = tuple(sorted({0} | {round(10 ** (i / PER_DECADE)) for i in range(19 * PER_DECADE)}))
"""Step 0 and eight steps a decade: the same for all budgets, so that curves of different budgets share their steps."""


def log_steps(steps: int) -> frozenset[int]:
    """The grid up to a budget, and the budget itself.

    >>> sorted(log_steps(12))
    [0, 1, 2, 3, 4, 6, 7, 10, 12]
    """
    return frozenset({*GRID[: bisect_right(GRID, steps)], steps})
