"""signSGD and Signum (Bernstein et al., arXiv 1802.04434)."""

from __future__ import annotations

import torch
from torch import Tensor

from dd.axis import Axis
from dd.optim._base import WEIGHT_DECAY, Number, State, UpdateRule, decay


class SignSGD(UpdateRule):
    """m = mu m + (1 - mu) g; theta -= lr · sign(m). Without momentum signSGD, with it Signum."""

    adaptive = True  # every coordinate moves by lr: no fixed diagonal describes it
    options = (Axis("momentum", float, 0.0, "decay of the mean gradient", low=0, high=0.999999), WEIGHT_DECAY)

    def init_state(self, theta: Tensor, hyper: dict[str, Tensor]) -> State:
        """Mean gradient zero."""
        return {"mean": torch.zeros_like(theta)}

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: dict[str, Tensor], step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        grad = decay(theta, grad, hyper)
        mean = state["mean"].mul_(hyper["momentum"]).add_(grad * hyper["1-momentum"])
        theta.addcmul_(hyper["lr"], mean.sign(), value=-1)
