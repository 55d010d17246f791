"""Adam (Kingma & Ba, arXiv 1412.6980), as ``torch.optim.Adam``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dd.components.optimizer import Hyper, Number, State, UpdateRule, decay, eps_axis, weight_decay_axis
from dd.runs.axis import axis


@dataclass(frozen=True)
class Adam(UpdateRule):
    """theta -= lr · m̂/(sqrt(v̂) + eps) with bias-corrected means m̂ of g and v̂ of g²."""

    beta1: float = axis(0.9, "decay of the mean gradient", low=0, high=0.999999)
    beta2: float = axis(0.999, "decay of the mean squared gradient", low=0, high=0.99999999)
    eps: float = eps_axis()
    weight_decay: float = weight_decay_axis()

    elementwise = True
    adaptive = True

    def init_state(self, theta: Tensor, hyper: Hyper) -> State:
        """Both means zero."""
        return {"mean": torch.zeros_like(theta), "square": torch.zeros_like(theta)}

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        self._adam(theta, decay(theta, grad, hyper), state, hyper, step)

    def _adam(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
        mean = state["mean"].lerp_(grad, hyper["1-beta1"])
        square = state["square"]
        square.mul_(hyper["beta2"]).addcmul_(grad * hyper["1-beta2"], grad)
        denominator = self.preconditioner(state, hyper, step)
        correction = (1 - hyper["exact beta1"] ** step).to(theta.dtype)
        theta.addcdiv_(mean * (hyper["lr"] / correction), denominator, value=-1)

    def preconditioner(self, state: State, hyper: Hyper, step: Number) -> Tensor:
        """sqrt(v̂) + eps."""
        correction = (1 - hyper["exact beta2"] ** step).sqrt().to(state["square"].dtype)
        return (state["square"].sqrt() / correction).add_(hyper["eps"])
