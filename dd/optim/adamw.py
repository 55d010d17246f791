"""Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101), as ``torch.optim.AdamW``."""

from __future__ import annotations

from torch import Tensor

from dd.axis import Axis
from dd.optim._base import Number, State, decouple
from dd.optim.adam import BETA1, BETA2, EPS, Adam


class AdamW(Adam):
    """theta *= 1 - lr · weight_decay, then Adam's step."""

    options = (BETA1, BETA2, EPS, Axis("weight_decay", float, 0.01, "decoupled decay", low=0))

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: dict[str, Tensor], step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        decouple(theta, hyper)
        self._adam(theta, grad, state, hyper, step)
