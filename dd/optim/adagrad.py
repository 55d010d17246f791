"""Adagrad (Duchi, Hazan & Singer 2011), as ``torch.optim.Adagrad``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dd.components.optimizer import Hyper, Number, State, UpdateRule, decay, eps_axis, weight_decay_axis
from dd.runs.axis import axis


@dataclass(frozen=True)
class Adagrad(UpdateRule):
    """theta -= lr/(1 + (step - 1) · lr_decay) · g/(sqrt(sum of g²) + eps)."""

    lr_decay: float = axis(0.0, "decay of the step size", low=0)
    initial_accumulator: float = axis(0.0, "start of the sum of squares", low=0)
    eps: float = eps_axis(1e-10)
    weight_decay: float = weight_decay_axis()

    elementwise = True
    adaptive = True

    def init_state(self, theta: Tensor, hyper: Hyper) -> State:
        """Sum of squares at ``initial_accumulator``."""
        return {"sum": torch.zeros_like(theta) + hyper["initial_accumulator"]}

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        grad = decay(theta, grad, hyper)
        state["sum"].addcmul_(grad, grad)
        lr = hyper["lr"] / (1 + (step - 1) * hyper["lr_decay"])
        theta.addcdiv_(grad * lr, self.preconditioner(state, hyper, step), value=-1)

    def preconditioner(self, state: State, hyper: Hyper, step: Number) -> Tensor:
        """sqrt(sum of g²) + eps."""
        return state["sum"].sqrt().add_(hyper["eps"])
