"""Adagrad (Duchi, Hazan & Singer 2011), as ``torch.optim.Adagrad``."""

from __future__ import annotations

import torch
from torch import Tensor

from dd.axis import Axis
from dd.optim._base import WEIGHT_DECAY, Number, State, UpdateRule, decay


class Adagrad(UpdateRule):
    """theta -= lr/(1 + (step - 1) · lr_decay) · g/(sqrt(sum of g²) + eps)."""

    adaptive = True
    options = (
        Axis("lr_decay", float, 0.0, "decay of the step size", low=0),
        Axis("initial_accumulator", float, 0.0, "start of the sum of squares", low=0),
        Axis("eps", float, 1e-10, "added to the denominator", low=0),
        WEIGHT_DECAY,
    )

    def init_state(self, theta: Tensor, hyper: dict[str, Tensor]) -> State:
        """Sum of squares at ``initial_accumulator``."""
        return {"sum": torch.zeros_like(theta) + hyper["initial_accumulator"]}

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: dict[str, Tensor], step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        grad = decay(theta, grad, hyper)
        state["sum"].addcmul_(grad, grad)
        lr = hyper["lr"] / (1 + (step - 1) * hyper["lr_decay"])
        theta.addcdiv_(grad * lr, self.preconditioner(state, hyper, step), value=-1)

    def preconditioner(self, state: State, hyper: dict[str, Tensor], step: Number) -> Tensor:
        """sqrt(sum of g²) + eps."""
        return state["sum"].sqrt().add_(hyper["eps"])
