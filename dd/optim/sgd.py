"""Stochastic gradient descent without momentum, as ``torch.optim.SGD``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dd.components.optimizer import Hyper, Number, State, UpdateRule, decay, weight_decay_axis
from dd.components.polynomials import Modes, Response, gradient_descent


@dataclass(frozen=True)
class SGD(UpdateRule):
    """theta -= lr · g."""

    weight_decay: float = weight_decay_axis()

    elementwise = True
    exact = True
    memoryless = True
    monotone = True
    stationary = True
    dual = True

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        theta.addcmul_(hyper["lr"], decay(theta, grad, hyper), value=-1)

    def response(self, lr: float | None, modes: Modes, steps: Sequence[int]) -> Response:
        """See :meth:`Optimizer.response`."""
        assert lr is not None
        return gradient_descent(lr * modes.curvature, steps)

    def one_step(self, h: Tensor) -> Response:
        """See :meth:`Optimizer.one_step`."""
        return Response(1 - h, h)
