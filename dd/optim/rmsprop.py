"""RMSprop (Hinton 2012), as ``torch.optim.RMSprop``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dd.components.optimizer import Hyper, Number, State, UpdateRule, decay, eps_axis, weight_decay_axis
from dd.runs.axis import axis


@dataclass(frozen=True)
class RMSprop(UpdateRule):
    """theta -= lr · g/(sqrt(v) + eps), v the running mean of g²; optional momentum on the quotient."""

    alpha: float = axis(0.99, "decay of the mean squared gradient", low=0, high=1)
    eps: float = eps_axis()
    momentum: float = axis(0.0, "momentum of the scaled gradient", low=0, high=1)
    weight_decay: float = weight_decay_axis()

    elementwise = True
    adaptive = True

    def init_state(self, theta: Tensor, hyper: Hyper) -> State:
        """Mean square and velocity zero."""
        return {"square": torch.zeros_like(theta), "velocity": torch.zeros_like(theta)}

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        grad = decay(theta, grad, hyper)
        state["square"].mul_(hyper["alpha"]).addcmul_(grad * hyper["1-alpha"], grad)
        scaled = grad / self.preconditioner(state, hyper, step)
        velocity = state["velocity"].mul_(hyper["momentum"]).add_(scaled)
        theta.addcmul_(hyper["lr"], velocity, value=-1)

    def preconditioner(self, state: State, hyper: Hyper, step: Number) -> Tensor:
        """sqrt(v) + eps."""
        return state["square"].sqrt().add_(hyper["eps"])
