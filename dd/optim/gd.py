"""Full-batch gradient descent."""

from __future__ import annotations

from torch import Tensor

from dd.optim._base import WEIGHT_DECAY, State, UpdateRule, decay


class GD(UpdateRule):
    """theta -= lr · g with the gradient of the whole training set."""

    full_batch = True
    options = (WEIGHT_DECAY,)

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: dict[str, Tensor], step: int) -> None:
        """See :meth:`UpdateRule.update`."""
        theta.addcmul_(hyper["lr"], decay(theta, grad, hyper), value=-1)
