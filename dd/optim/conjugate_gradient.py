"""Linear conjugate gradients (Hestenes & Stiefel 1952) on a quadratic training loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dd.config import RunConfig
from dd.optim import _dynamics
from dd.optim._base import WEIGHT_DECAY, Product, QuadraticRule, State
from dd.optim._dynamics import Modes, Response


class ConjugateGradient(QuadraticRule):
    """One direction and one step length for the read-outs of all outputs together; no step size to choose."""

    exact = True
    options = (WEIGHT_DECAY,)

    def update(self, theta: Tensor, grad: Tensor, state: State, product: Product) -> None:
        """See :meth:`QuadraticRule.update`."""
        if "gradient" not in state:
            state["gradient"] = grad.clone()  # afterwards by its recursion, as the method is usually run
            state["direction"] = -grad
            # smaller gradients are rounding, and following them would wander off where the loss is flat
            state["smallest"] = grad.square().sum() * (torch.finfo(grad.dtype).eps ** 2 * grad.numel())
        gradient, direction = state["gradient"], state["direction"]
        square = gradient.square().sum()
        image = product(direction)
        curvature = (direction * image).sum()
        if not square > state["smallest"] or not curvature > 0:
            return  # at the minimum
        alpha = square / curvature
        theta += alpha * direction
        gradient += alpha * image
        state["direction"] = direction * (gradient.square().sum() / square) - gradient

    def response(self, run: RunConfig, lr: float | None, modes: Modes, steps: Sequence[int]) -> Response:
        """See :meth:`Optimizer.response`."""
        return _dynamics.conjugate_gradient(modes, steps)
