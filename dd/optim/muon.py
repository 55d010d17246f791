"""Muon (Jordan et al. 2024; step scaling of Liu et al., arXiv 2502.16982)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dd.axis import Axis
from dd.config import RunConfig
from dd.optim._base import Number, Split, State, UpdateRule, decouple
from dd.optim.adam import EPS

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


class Muon(UpdateRule):
    """Weight matrices: v = mu v + g; theta -= lr · scale · orthogonalized(g + mu v). Vectors (biases, gains): AdamW.

    ``scale`` is 0.2 sqrt(max(rows, columns)), which gives a step the size of Adam's, so that one ``lr`` serves both.
    """

    adaptive = True  # the preconditioner is a matrix: no diagonal describes it
    elementwise = False
    options = (
        Axis("momentum", float, 0.95, "decay of the velocity of matrices", low=0, high=0.999999),
        Axis("ns_steps", int, 5, "Newton-Schulz iterations", low=1),
        Axis("beta1", float, 0.9, "AdamW's, for vectors", low=0, high=0.999999),
        Axis("beta2", float, 0.95, "AdamW's, for vectors", low=0, high=0.99999999),
        EPS,
        Axis("weight_decay", float, 0.0, "decoupled: each step shrinks theta by lr times this", low=0),
    )

    _split: Split | None = None
    _ns_steps: int = 5

    def bind(self, split: Split, runs: Sequence[RunConfig]) -> Muon:
        """See :meth:`UpdateRule.bind`."""
        bound = Muon()
        bound._split = split
        bound._ns_steps = runs[0].group_options("optimizer")["ns_steps"]
        return bound

    def init_state(self, theta: Tensor, hyper: dict[str, Tensor]) -> State:
        """Velocity, or mean gradient, and mean square zero."""
        return {"mean": torch.zeros_like(theta), "square": torch.zeros_like(theta)}

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: dict[str, Tensor], step: Number) -> None:
        """See :meth:`UpdateRule.update`."""
        if self._split is None:
            raise RuntimeError("muon must be bound to the shapes of its parameters first")
        decouple(theta, hyper)
        parts = (self._split(t) for t in (theta, grad, state["mean"], state["square"]))
        for weight, g, mean, square in zip(*parts, strict=True):
            if weight.ndim == 3:
                mu, lr = hyper["momentum"][:, :, None], hyper["lr"][:, :, None]
                mean.mul_(mu).add_(g)
                scale = 0.2 * math.sqrt(max(weight.shape[1:]))
                weight.sub_(lr * scale * orthogonalized(g + mu * mean, self._ns_steps))
            else:
                mean.lerp_(g, hyper["1-beta1"])
                square.mul_(hyper["beta2"]).addcmul_(g * hyper["1-beta2"], g)
                first = (1 - hyper["exact beta1"] ** step).to(theta.dtype)
                second = (1 - hyper["exact beta2"] ** step).sqrt().to(theta.dtype)
                weight.sub_(mean * (hyper["lr"] / first) / (square.sqrt() / second + hyper["eps"]))
