"""Stochastic gradient descent without momentum, as ``torch.optim.SGD``."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dd.config import RunConfig
from dd.optim._base import WEIGHT_DECAY, Number, State, UpdateRule, decay
from dd.optim._dynamics import Modes, Response, gradient_descent


class SGD(UpdateRule):
    """theta -= lr · g."""

    exact = True
    monotone = True
    stationary = True
    dual = True
    options = (WEIGHT_DECAY,)

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: dict[str, Tensor], step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        theta.addcmul_(hyper["lr"], decay(theta, grad, hyper), value=-1)

    def response(self, run: RunConfig, lr: float | None, modes: Modes, steps: Sequence[int]) -> Response:
        """See :meth:`Optimizer.response`."""
        assert lr is not None
        return gradient_descent(lr * modes.curvature, steps)
