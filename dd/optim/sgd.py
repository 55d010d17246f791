"""Stochastic gradient descent without momentum, as ``torch.optim.SGD``."""

from __future__ import annotations

from torch import Tensor

from dd.optim._base import WEIGHT_DECAY, State, UpdateRule, decay


class SGD(UpdateRule):
    """theta -= lr · g."""

    options = (WEIGHT_DECAY,)

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: dict[str, Tensor], step: int) -> None:
        """See :meth:`UpdateRule.update`."""
        theta.addcmul_(hyper["lr"], decay(theta, grad, hyper), value=-1)
