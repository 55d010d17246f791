"""Gradient flow: gradient descent in continuous time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dd.components.optimizer import Optimizer, weight_decay_axis
from dd.components.polynomials import Modes, Response, gradient_flow


@dataclass(frozen=True)
class GradientFlow(Optimizer):
    """d theta / dt = -g from t = 0 to t = lr · steps, the time in which gradient descent takes as many steps.

    Under a schedule its time is the sum of the step sizes.
    """

    weight_decay: float = weight_decay_axis()

    full_batch = True
    exact = True
    memoryless = True
    iterable = False
    monotone = True
    stationary = True

    def response(self, lr: float | None, modes: Modes, steps: Sequence[int]) -> Response:
        """See :meth:`Optimizer.response`."""
        assert lr is not None
        return gradient_flow(lr * modes.curvature, steps)

    def one_step(self, h: Tensor) -> Response:
        """See :meth:`Optimizer.one_step`."""
        return Response(torch.exp(-h), -torch.expm1(-h))
