"""SGD with heavy-ball momentum (Polyak 1964), as ``torch.optim.SGD(momentum=…)``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dd.axis import Axis
from dd.config import RunConfig
from dd.optim._base import WEIGHT_DECAY, Number, State, UpdateRule, decay
from dd.optim._dynamics import Modes, Response, decay_rate, heavy_ball

MOMENTUM = Axis("momentum", float, 0.9, "share of the velocity that is kept", low=0, high=1)


class Momentum(UpdateRule):
    """v = mu v + g; theta -= lr · v. Starts at v = g, without dampening."""

    exact = True
    stationary = True
    dual = True
    options = (MOMENTUM, WEIGHT_DECAY)

    def init_state(self, theta: Tensor, hyper: dict[str, Tensor]) -> State:
        """Velocity zero."""
        return {"velocity": torch.zeros_like(theta)}

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: dict[str, Tensor], step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        velocity = state["velocity"].mul_(hyper["momentum"]).add_(decay(theta, grad, hyper))
        theta.addcmul_(hyper["lr"], velocity, value=-1)

    def response(self, run: RunConfig, lr: float | None, modes: Modes, steps: Sequence[int]) -> Response:
        """See :meth:`Optimizer.response`."""
        assert lr is not None
        return heavy_ball(lr * modes.curvature, steps, run.group_options("optimizer")["momentum"])

    def rates(self, run: RunConfig, h: Tensor) -> Tensor | None:
        """See :meth:`Optimizer.rates`."""
        momentum = run.group_options("optimizer")["momentum"]
        if momentum == 0:
            return None  # gradient descent
        return decay_rate(h, torch.full_like(h, momentum))
