"""Muon (Jordan et al. 2024; step scaling of Liu et al., arXiv 2502.16982)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dd.components.optimizer import Hyper, MatrixRule, Number, State, decouple, decoupled_axis, eps_axis
from dd.runs.axis import axis

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration, as published: singular values end between about 0.7 and 1.2."""


def orthogonalized(matrices: Tensor, steps: int) -> Tensor:
    """Pull all singular values of [runs, rows, columns] towards 1, singular vectors kept.

    In the precision of training (the published code uses bfloat16).
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


@dataclass(frozen=True)
class Muon(MatrixRule):
    """Weight matrices: v = mu v + g; theta -= lr · scale · orthogonalized(g + mu v). Vectors (biases, gains): AdamW.

    ``scale`` is 0.2 sqrt(max(rows, columns)), which gives a step the size of Adam's, so that one ``lr`` serves both.
    """

    momentum: float = axis(0.95, "decay of the velocity of matrices", low=0, high=0.999999)
    ns_steps: int = axis(5, "Newton-Schulz iterations", low=1)
    beta1: float = axis(0.9, "decay of the mean gradient (AdamW, for vectors)", low=0, high=0.999999)
    beta2: float = axis(0.95, "decay of the mean squared gradient (AdamW, for vectors)", low=0, high=0.99999999)
    eps: float = eps_axis()
    weight_decay: float = decoupled_axis()

    adaptive = True  # the preconditioner is a matrix: no diagonal describes it

    def init_state(self, theta: Tensor, hyper: Hyper) -> State:
        """Velocity, or mean gradient, and mean square zero."""
        return {"mean": torch.zeros_like(theta), "square": torch.zeros_like(theta)}

    def update_matrix(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
        """See :meth:`MatrixRule.update_matrix`."""
        decouple(theta, hyper)
        mu, lr = hyper["momentum"][:, :, None], hyper["lr"][:, :, None]
        velocity = state["mean"].mul_(mu).add_(grad)
        scale = 0.2 * math.sqrt(max(theta.shape[1:]))
        theta.sub_(lr * scale * orthogonalized(grad + mu * velocity, self.ns_steps))

    def update_vector(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
        """See :meth:`MatrixRule.update_vector`."""
        decouple(theta, hyper)
        mean = state["mean"].lerp_(grad, hyper["1-beta1"])
        square = state["square"].mul_(hyper["beta2"]).addcmul_(grad * hyper["1-beta2"], grad)
        first = (1 - hyper["exact beta1"] ** step).to(theta.dtype)
        second = (1 - hyper["exact beta2"] ** step).sqrt().to(theta.dtype)
        theta.sub_(mean * (hyper["lr"] / first) / (square.sqrt() / second + hyper["eps"]))
