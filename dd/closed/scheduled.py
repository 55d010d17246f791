"""Exact dynamics with a step size that changes: the effects of single steps, multiplied.

A method whose step depends on nothing but the present point takes an eigendirection's distance from P to p(f h) P at a
step of size f · lr, with h = lr times curvature. After T steps P_T is a product. Factors are multiplied some at a time,
and the logarithms of these products are added, so that nothing leaves the range of numbers on the way; 1 - P is carried
along beside P. Equal sizes that follow each other are one factor, with a power.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dd.components.optimizer import Optimizer
from dd.components.polynomials import Response
from dd.runs.logs import GRID
from dd.runs.run import Run

STEPS, NUMBERS = 1 << 16, 1 << 17
"""Factors that are listed at once; numbers of modes at so many of these steps that are held at once, in the cache."""

DOUBLINGS = 4
"""Sixteen steps are multiplied before their logarithm is taken: what takes longest is rare then."""

LONGEST = 10_000_000
"""Steps at most: half a minute for 500 directions."""


class Product:
    """P_T of one run at any T up to its budget.

    Args:
        run: its axes; the optimizer is memoryless.
        h: full step size times curvature, [modes].
    """

    def __init__(self, run: Run, h: Tensor) -> None:
        self._run, self._h = run, h
        self._optimizer: Optimizer = run.optimizer
        self._known = {0: (torch.zeros_like(h), torch.zeros_like(h, dtype=torch.bool))}

    def response(self, steps: Sequence[int]) -> Response:
        """P_T and 1 - P_T, each [steps, modes]; beyond the budget they stay as they are at its end."""
        assert self._run.steps is not None
        rows = [self._logarithm(min(step, self._run.steps)) for step in steps]
        log, negative = (torch.stack(part) for part in zip(*rows, strict=True))
        residual = torch.where(negative, -1.0, 1.0) * log.exp()
        return Response(residual, torch.where(negative, 1 - residual, -torch.expm1(log)))

    def _logarithm(self, step: int) -> tuple[Tensor, Tensor]:
        """Logarithm of |P_T|, and whether P_T < 0, each [modes].

        From the last step of the grid before T on, so that no bit depends on which steps have been asked for.
        """
        if step not in self._known:
            first = GRID[bisect_left(GRID, step) - 1]
            log, negative = self._logarithm(first)
            for start in range(first, step, STEPS):
                sizes, counts = self._sizes(start, min(start + STEPS, step))
                at_once = max(NUMBERS // len(self._h), 1) >> DOUBLINGS << DOUBLINGS or 1 << DOUBLINGS
                for size, count in zip(sizes.split(at_once), counts.split(at_once), strict=True):
                    own, odd = self._of_piece(size, count)
                    log, negative = log + own, negative ^ odd
            self._known[step] = (log, negative)
        return self._known[step]

    def _of_piece(self, size: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithm of the product of some powers, and whether it is negative, each [modes]."""
        alone = bool((count == 1).all())
        if alone:  # steps of no size make the number whole
            size = torch.nn.functional.pad(size, (0, -len(size) % (1 << DOUBLINGS)))
            count = count[:1]
        one = self._optimizer.one_step(size[:, None] * self._h)
        residual, removed = one.residual, one.filter
        for _ in range(DOUBLINGS * alone):
            removed = torch.addcmul(removed[0::2], residual[0::2], removed[1::2])
            residual = residual[0::2] * residual[1::2]
        logarithm = torch.where(removed.abs() < 0.5, torch.log1p(-removed), residual.abs().log())
        odd = (residual < 0) & (count[:, None] % 2 == 1)
        return (count[:, None] * logarithm).sum(dim=0), odd.sum(dim=0) % 2 == 1

    def _sizes(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Sizes of steps ``first`` + 1 ... ``last`` as shares, and how often each follows itself; both float64."""
        factors = self._run.schedule.factors(self._run, first, last)
        starts = np.flatnonzero(np.diff(factors, prepend=np.nan))
        counts = np.diff(starts, append=len(factors)).astype(np.float64)
        return torch.from_numpy(factors[starts]).to(self._h.device), torch.from_numpy(counts).to(self._h.device)
