"""Full-batch gradient descent."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dd.config import RunConfig
from dd.optim._base import WEIGHT_DECAY, State, UpdateRule, decay
from dd.optim._dynamics import Modes, Response, gradient_descent


class GD(UpdateRule):
    """theta -= lr · g with the gradient of the whole training set."""

    full_batch = True
    exact = True
    monotone = True
    stationary = True
    options = (WEIGHT_DECAY,)

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: dict[str, Tensor], step: int) -> None:
        """See :meth:`UpdateRule.update`."""
        theta.addcmul_(hyper["lr"], decay(theta, grad, hyper), value=-1)

    def response(self, run: RunConfig, lr: float | None, modes: Modes, steps: Sequence[int]) -> Response:
        """See :meth:`Optimizer.response`."""
        assert lr is not None
        return gradient_descent(lr * modes.curvature, steps)
