"""signSGD and Signum (Bernstein et al., arXiv 1802.04434)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dd.components.optimizer import Hyper, Number, State, UpdateRule, decay, weight_decay_axis
from dd.runs.axis import axis


@dataclass(frozen=True)
class SignSGD(UpdateRule):
    """m = mu m + (1 - mu) g; theta -= lr · sign(m). Without momentum signSGD, with it Signum."""

    momentum: float = axis(0.0, "decay of the mean gradient", low=0, high=0.999999)
    weight_decay: float = weight_decay_axis()

    elementwise = True
    adaptive = True  # every coordinate moves by lr: no fixed diagonal describes it

    def init_state(self, theta: Tensor, hyper: Hyper) -> State:
        """Mean gradient zero."""
        return {"mean": torch.zeros_like(theta)}

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        grad = decay(theta, grad, hyper)
        mean = state["mean"].mul_(hyper["momentum"]).add_(grad * hyper["1-momentum"])
        theta.addcmul_(hyper["lr"], mean.sign(), value=-1)
