"""Linear conjugate gradients (Hestenes & Stiefel 1952) on a quadratic training loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dd.axis import Axis
from dd.config import RunConfig
from dd.optim import _dynamics
from dd.optim._base import WEIGHT_DECAY, Product, QuadraticRule, State
from dd.optim._dynamics import Modes, Response


class ConjugateGradient(QuadraticRule):
    """One direction and one step length for the read-outs of all outputs together; no step size to choose.

    Every gradient is made orthogonal to all earlier ones, as it is in exact arithmetic; the plain recursion, with
    ``reorthogonalize=false``, loses that to rounding after some ten steps on ill-conditioned features, and lags behind.
    """

    exact = True
    sequential = True
    smooths = False
    options = (
        Axis("reorthogonalize", bool, True, "keep gradients orthogonal against rounding; false: the plain recursion"),
        WEIGHT_DECAY,
    )

    def start(self, run: RunConfig, lowest: float, highest: float) -> State:
        """See :meth:`QuadraticRule.start`."""
        return {"keeps": torch.tensor(run.group_options("optimizer")["reorthogonalize"])}

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
        if state["keeps"]:
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

    def response(self, run: RunConfig, lr: float | None, modes: Modes, steps: Sequence[int]) -> Response:
        """See :meth:`Optimizer.response`."""
        return _dynamics.conjugate_gradient(modes, steps)
