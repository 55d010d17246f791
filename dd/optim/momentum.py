"""SGD with heavy-ball momentum (Polyak 1964), as ``torch.optim.SGD(momentum=…)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dd.components.optimizer import Hyper, Number, State, UpdateRule, decay, weight_decay_axis
from dd.components.polynomials import Modes, Response, decay_rate, heavy_ball
from dd.runs.axis import axis


@dataclass(frozen=True)
class Momentum(UpdateRule):
    """v = mu v + g; theta -= lr · v. Starts at v = g, without dampening."""

    momentum: float = axis(0.9, "share of the velocity that is kept", low=0, high=1)
    weight_decay: float = weight_decay_axis()

    elementwise = True
    exact = True
    stationary = True
    dual = True

    def init_state(self, theta: Tensor, hyper: Hyper) -> State:
        """Velocity zero."""
        return {"velocity": torch.zeros_like(theta)}

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        velocity = state["velocity"].mul_(hyper["momentum"]).add_(decay(theta, grad, hyper))
        theta.addcmul_(hyper["lr"], velocity, value=-1)

    def response(self, lr: float | None, modes: Modes, steps: Sequence[int]) -> Response:
        """See :meth:`Optimizer.response`."""
        assert lr is not None
        return heavy_ball(lr * modes.curvature, steps, self.momentum)

    def rates(self, h: Tensor) -> Tensor | None:
        """See :meth:`Optimizer.rates`."""
        if self.momentum == 0:
            return None  # gradient descent
        return decay_rate(h, torch.full_like(h, self.momentum))
