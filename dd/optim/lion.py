"""Lion (Chen et al., arXiv 2302.06675)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dd.components.optimizer import Hyper, Number, State, UpdateRule, decouple, decoupled_axis
from dd.runs.axis import axis


@dataclass(frozen=True)
class Lion(UpdateRule):
    """theta -= lr · (sign(beta1 m + (1 - beta1) g) + weight_decay · theta); then m = beta2 m + (1 - beta2) g."""

    beta1: float = axis(0.9, "weight of the mean gradient in the step", low=0, high=0.999999)
    beta2: float = axis(0.99, "decay of the mean gradient", low=0, high=0.999999)
    weight_decay: float = decoupled_axis()

    elementwise = True
    adaptive = True  # every coordinate moves by lr: no fixed diagonal describes it

    def init_state(self, theta: Tensor, hyper: Hyper) -> State:
        """Mean gradient zero."""
        return {"mean": torch.zeros_like(theta)}

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        decouple(theta, hyper)
        mean = state["mean"]
        theta.addcmul_(hyper["lr"], (mean * hyper["beta1"] + grad * hyper["1-beta1"]).sign_(), value=-1)
        mean.mul_(hyper["beta2"]).add_(grad * hyper["1-beta2"])
