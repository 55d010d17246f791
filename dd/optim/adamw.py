"""Adam with decoupled weight decay (Loshchilov & Hutter, arXiv 1711.05101), as ``torch.optim.AdamW``."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dd.components.optimizer import Hyper, Number, State, decouple
from dd.optim.adam import Adam
from dd.runs.axis import axis


@dataclass(frozen=True)
class AdamW(Adam):
    """theta *= 1 - lr · weight_decay, then Adam's step."""

    weight_decay: float = axis(0.01, "decoupled decay", low=0)

    elementwise = True

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        decouple(theta, hyper)
        self._adam(theta, grad, state, hyper, step)
