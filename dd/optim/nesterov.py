"""SGD with Nesterov momentum (Sutskever et al. 2013), as ``torch.optim.SGD(nesterov=True)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dd.components.optimizer import Hyper, Number, State, decay
from dd.components.polynomials import Modes, Response, decay_rate, nesterov
from dd.optim.momentum import Momentum


@dataclass(frozen=True)
class Nesterov(Momentum):
    """v = mu v + g; theta -= lr · (g + mu v)."""

    elementwise = True
    exact = True
    stationary = True
    dual = True

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        grad = decay(theta, grad, hyper)
        velocity = state["velocity"].mul_(hyper["momentum"]).add_(grad)
        theta.addcmul_(hyper["lr"], grad.addcmul_(hyper["momentum"], velocity), value=-1)

    def response(self, lr: float | None, modes: Modes, steps: Sequence[int]) -> Response:
        """See :meth:`Optimizer.response`."""
        assert lr is not None
        return nesterov(lr * modes.curvature, steps, self.momentum)

    def rates(self, h: Tensor) -> Tensor | None:
        """See :meth:`Optimizer.rates`."""
        if self.momentum == 0:
            return None  # gradient descent
        return decay_rate(h, self.momentum * (1 - h))
