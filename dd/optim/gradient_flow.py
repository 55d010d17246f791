"""Gradient flow: gradient descent in continuous time."""

from __future__ import annotations

from collections.abc import Sequence

from dd.config import RunConfig
from dd.optim import _dynamics
from dd.optim._base import WEIGHT_DECAY, Optimizer
from dd.optim._dynamics import Modes, Response


class GradientFlow(Optimizer):
    """d theta / dt = -g from t = 0 to t = lr · steps, the time in which gradient descent takes as many steps."""

    full_batch = True
    exact = True
    iterable = False
    monotone = True
    stationary = True
    options = (WEIGHT_DECAY,)

    def response(self, run: RunConfig, lr: float | None, modes: Modes, steps: Sequence[int]) -> Response:
        """See :meth:`Optimizer.response`."""
        assert lr is not None
        return _dynamics.gradient_flow(lr * modes.curvature, steps)
