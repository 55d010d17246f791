"""Adam (Kingma & Ba, arXiv 1412.6980), as ``torch.optim.Adam``."""

from __future__ import annotations

import torch
from torch import Tensor

from dd.axis import Axis
from dd.optim._base import WEIGHT_DECAY, Number, State, UpdateRule, decay

BETA1 = Axis("beta1", float, 0.9, "decay of the mean gradient", low=0, high=0.999999)
BETA2 = Axis("beta2", float, 0.999, "decay of the mean squared gradient", low=0, high=0.99999999)
EPS = Axis("eps", float, 1e-8, "added to the denominator", low=0)


class Adam(UpdateRule):
    """theta -= lr · m̂/(sqrt(v̂) + eps) with bias-corrected means m̂ of g and v̂ of g²."""

    adaptive = True
    options = (BETA1, BETA2, EPS, WEIGHT_DECAY)

    def init_state(self, theta: Tensor, hyper: dict[str, Tensor]) -> State:
        """Both means zero."""
        return {"mean": torch.zeros_like(theta), "square": torch.zeros_like(theta)}

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: dict[str, Tensor], step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        self._adam(theta, decay(theta, grad, hyper), state, hyper, step)

    def _adam(self, theta: Tensor, grad: Tensor, state: State, hyper: dict[str, Tensor], step: Number) -> None:
        mean = state["mean"].lerp_(grad, hyper["1-beta1"])
        square = state["square"]
        square.mul_(hyper["beta2"]).addcmul_(grad * hyper["1-beta2"], grad)
        denominator = self.preconditioner(state, hyper, step)
        correction = (1 - hyper["exact beta1"] ** step).to(theta.dtype)
        theta.addcdiv_(mean * (hyper["lr"] / correction), denominator, value=-1)

    def preconditioner(self, state: State, hyper: dict[str, Tensor], step: Number) -> Tensor:
        """sqrt(v̂) + eps."""
        correction = (1 - hyper["exact beta2"] ** step).sqrt().to(state["square"].dtype)
        return (state["square"].sqrt() / correction).add_(hyper["eps"])
