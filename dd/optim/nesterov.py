"""SGD with Nesterov momentum (Sutskever et al. 2013), as ``torch.optim.SGD(nesterov=True)``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dd.config import RunConfig
from dd.optim._base import WEIGHT_DECAY, Number, State, UpdateRule, decay
from dd.optim._dynamics import Modes, Response, decay_rate, nesterov
from dd.optim.momentum import MOMENTUM


class Nesterov(UpdateRule):
    """v = mu v + g; theta -= lr · (g + mu v)."""

    exact = True
    stationary = True
    dual = True
    options = (MOMENTUM, WEIGHT_DECAY)

    def init_state(self, theta: Tensor, hyper: dict[str, Tensor]) -> State:
        """Velocity zero."""
        return {"velocity": torch.zeros_like(theta)}

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: dict[str, Tensor], step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        grad = decay(theta, grad, hyper)
        velocity = state["velocity"].mul_(hyper["momentum"]).add_(grad)
        theta.addcmul_(hyper["lr"], grad.addcmul_(hyper["momentum"], velocity), value=-1)

    def response(self, run: RunConfig, lr: float | None, modes: Modes, steps: Sequence[int]) -> Response:
        """See :meth:`Optimizer.response`."""
        assert lr is not None
        return nesterov(lr * modes.curvature, steps, run.group_options("optimizer")["momentum"])

    def rates(self, run: RunConfig, h: Tensor) -> Tensor | None:
        """See :meth:`Optimizer.rates`."""
        momentum = run.group_options("optimizer")["momentum"]
        if momentum == 0:
            return None  # gradient descent
        return decay_rate(h, momentum * (1 - h))
