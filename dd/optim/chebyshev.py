"""Chebyshev semi-iteration (Golub & Varga 1961) on a quadratic training loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dd.components.optimizer import Product, QuadraticRule, State, weight_decay_axis
from dd.components.polynomials import Modes, Response, chebyshev, gradient_descent
from dd.runs.axis import axis


@dataclass(frozen=True)
class Chebyshev(QuadraticRule):
    """The linear method with the smallest worst residual on an interval of curvatures; no step size to choose.

    The interval ends at the largest eigenvalue of the training loss's Hessian, and begins at ``optimizer.low`` times
    it, or at the smallest one above the tolerance.
    """

    low: float | None = axis(
        None, "lower end of the interval in units of its upper end; null: the smallest eigenvalue", low=0, high=1,
        low_open=True,
    )  # fmt: skip
    weight_decay: float = weight_decay_axis()

    exact = True

    def _lower(self, lowest: float, highest: float) -> float:
        """Lower end of the interval, as an eigenvalue."""
        return lowest if self.low is None else self.low * highest

    def start(self, lowest: float, highest: float) -> State:
        """See :meth:`QuadraticRule.start`."""
        ends = {"low": self._lower(lowest, highest), "high": highest}
        return {name: torch.tensor(end, dtype=torch.float64) for name, end in ends.items()}

    def update(self, theta: Tensor, grad: Tensor, state: State, product: Product) -> None:
        """See :meth:`QuadraticRule.update`."""
        low, high = float(state["low"]), float(state["high"])
        if not high > 0:
            return  # the loss is flat
        middle, radius = (high + low) / 2, (high - low) / 2
        if "direction" not in state:
            state["direction"] = grad / -middle
            state["rho"] = torch.tensor(radius / middle, dtype=torch.float64)
        else:
            rho = float(state["rho"])
            following = 1 / (2 * middle / radius - rho) if radius > 0 else 0.0
            scale = 2 * following / radius if radius > 0 else 1 / middle
            state["direction"] = (following * rho) * state["direction"] - scale * grad
            state["rho"] = torch.tensor(following, dtype=torch.float64)
        theta += state["direction"]

    def response(self, lr: float | None, modes: Modes, steps: Sequence[int]) -> Response:
        """See :meth:`Optimizer.response`."""
        if not modes.highest > 0:
            return gradient_descent(torch.zeros_like(modes.curvature), steps)
        return chebyshev(modes.curvature, steps, self._lower(modes.lowest, modes.highest), modes.highest)
