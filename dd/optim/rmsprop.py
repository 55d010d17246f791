"""RMSprop (Hinton 2012), as ``torch.optim.RMSprop``."""

from __future__ import annotations

import torch
from torch import Tensor

from dd.axis import Axis
from dd.optim._base import WEIGHT_DECAY, Number, State, UpdateRule, decay
from dd.optim.adam import EPS


class RMSprop(UpdateRule):
    """theta -= lr · g/(sqrt(v) + eps), v the running mean of g²; optional momentum on the quotient."""

    adaptive = True
    options = (
        Axis("alpha", float, 0.99, "decay of the mean squared gradient", low=0, high=1),
        EPS,
        Axis("momentum", float, 0.0, "momentum of the scaled gradient", low=0, high=1),
        WEIGHT_DECAY,
    )

    def init_state(self, theta: Tensor, hyper: dict[str, Tensor]) -> State:
        """Mean square and velocity zero."""
        return {"square": torch.zeros_like(theta), "velocity": torch.zeros_like(theta)}

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: dict[str, Tensor], step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        grad = decay(theta, grad, hyper)
        state["square"].mul_(hyper["alpha"]).addcmul_(grad * hyper["1-alpha"], grad)
        scaled = grad / self.preconditioner(state, hyper, step)
        velocity = state["velocity"].mul_(hyper["momentum"]).add_(scaled)
        theta.addcmul_(hyper["lr"], velocity, value=-1)

    def preconditioner(self, state: State, hyper: dict[str, Tensor], step: Number) -> Tensor:
        """sqrt(v) + eps."""
        return state["square"].sqrt().add_(hyper["eps"])
