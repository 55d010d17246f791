"""Linear conjugate gradients (Hestenes & Stiefel 1952) on a quadratic training loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dd.components.optimizer import Product, QuadraticRule, State, weight_decay_axis
from dd.components.polynomials import Modes, Response, conjugate_gradient
from dd.runs.axis import axis


@dataclass(frozen=True)
class ConjugateGradient(QuadraticRule):
    """One direction and one step length for the read-outs of all outputs together; no step size to choose.

    Every gradient is made orthogonal to all earlier ones, as it is in exact arithmetic; the plain recursion, with
    ``reorthogonalize=false``, loses that to rounding after some ten steps on ill-conditioned features, and lags behind.
    """

    reorthogonalize: bool = axis(True, "keep gradients orthogonal against rounding; false: the plain recursion")
    weight_decay: float = weight_decay_axis()

    exact = True
    sequential = True
    smooths = False

    def update(self, theta: Tensor, grad: Tensor, state: State, product: Product) -> None:
        """See :meth:`QuadraticRule.update`."""
        if "gradient" not in state:
            state["gradient"] = grad.clone()  # afterwards by its recursion, as the method is usually run
            state["direction"] = -grad
            # smaller gradients are rounding, and following them would wander off where the loss is flat
            state["smallest"] = grad.square().sum() * (torch.finfo(grad.dtype).eps ** 2 * grad.numel())
            state["basis"], state["count"] = grad.new_empty(16, grad.numel()), torch.tensor(0)
        gradient, direction = state["gradient"], state["direction"]
        square = gradient.square().sum()
        image = product(direction)
        curvature = (direction * image).sum()
        if not square > state["smallest"] or not curvature > 0:
            return  # at the minimum
        alpha = square / curvature
        theta += alpha * direction
        unit = gradient / square.sqrt()
        gradient += alpha * image
        if self.reorthogonalize:
            seen = self._remembered(unit, state)
            for _ in range(2):
                gradient -= (gradient @ seen.T) @ seen
        state["direction"] = direction * (gradient.square().sum() / square) - gradient

    def _remembered(self, unit: Tensor, state: State) -> Tensor:
        """All normalised gradients so far, [steps, parameters], this one included."""
        count = int(state["count"])
        if count == len(state["basis"]):
            state["basis"] = torch.cat([state["basis"], torch.empty_like(state["basis"])])
        state["basis"][count] = unit[0]
        state["count"] += 1
        return state["basis"][: count + 1]

    def response(self, lr: float | None, modes: Modes, steps: Sequence[int]) -> Response:
        """See :meth:`Optimizer.response`."""
        return conjugate_gradient(modes, steps)
