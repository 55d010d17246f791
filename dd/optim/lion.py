"""Lion (Chen et al., arXiv 2302.06675)."""

from __future__ import annotations

import torch
from torch import Tensor

from dd.axis import Axis
from dd.optim._base import Number, State, UpdateRule, decouple


class Lion(UpdateRule):
    """theta -= lr · (sign(beta1 m + (1 - beta1) g) + weight_decay · theta); then m = beta2 m + (1 - beta2) g."""

    adaptive = True  # every coordinate moves by lr: no fixed diagonal describes it
    options = (
        Axis("beta1", float, 0.9, "weight of the mean gradient in the step", low=0, high=0.999999),
        Axis("beta2", float, 0.99, "decay of the mean gradient", low=0, high=0.999999),
        Axis("weight_decay", float, 0.0, "decoupled: each step shrinks theta by lr times this", low=0),
    )

    def init_state(self, theta: Tensor, hyper: dict[str, Tensor]) -> State:
        """Mean gradient zero."""
        return {"mean": torch.zeros_like(theta)}

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: dict[str, Tensor], step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        decouple(theta, hyper)
        mean = state["mean"]
        theta.addcmul_(hyper["lr"], (mean * hyper["beta1"] + grad * hyper["1-beta1"]).sign_(), value=-1)
        mean.mul_(hyper["beta2"]).add_(grad * hyper["1-beta2"])
