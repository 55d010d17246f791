"""Chebyshev semi-iteration (Golub & Varga 1961) on a quadratic training loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dd.axis import Axis
from dd.config import RunConfig
from dd.optim import _dynamics
from dd.optim._base import WEIGHT_DECAY, Product, QuadraticRule, State
from dd.optim._dynamics import Modes, Response


class Chebyshev(QuadraticRule):
    """The linear method with the smallest worst residual on an interval of curvatures; no step size to choose.

    The interval ends at the largest eigenvalue of the training loss's Hessian, and begins at ``optimizer.low`` times
    it, or at the smallest one above the tolerance.
    """

    exact = True
    options = (
        Axis("low", float, None, "lower end of the interval in units of its upper end; null: the smallest eigenvalue",
             low=0, high=1, low_open=True, nullable=True),
        WEIGHT_DECAY,
    )  # fmt: skip

    def _interval(self, run: RunConfig, lowest: float, highest: float) -> tuple[float, float]:
        share = run.group_options("optimizer")["low"]
        return (lowest if share is None else share * highest), highest

    def start(self, run: RunConfig, lowest: float, highest: float) -> State:
        """See :meth:`QuadraticRule.start`."""
        low, high = self._interval(run, lowest, highest)
        return {"low": torch.tensor(low, dtype=torch.float64), "high": torch.tensor(high, dtype=torch.float64)}

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

    def response(self, run: RunConfig, lr: float | None, modes: Modes, steps: Sequence[int]) -> Response:
        """See :meth:`Optimizer.response`."""
        low, high = self._interval(run, modes.lowest, modes.highest)
        if not high > 0:
            return _dynamics.gradient_descent(torch.zeros_like(modes.curvature), steps)
        return _dynamics.chebyshev(modes.curvature, steps, low, high)
