"""The largest eigenvalue of the training loss's whole Hessian, for step sizes in its units: its sharpness."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dd.measure.lanczos import lanczos
from dd.measure.two_layer import TwoLayerHessian, knows
from dd.network import Network

Loss = Callable[[Tensor], Tensor]

RTOL = 1e-10
"""Relative change of the eigenvalue at which Lanczos stops."""

FIRST_SAMPLES, FIRST_RTOL = 4096, 1e-7
"""Of two-layer nets Lanczos starts from the eigenvector of so many samples in float32, known to this change of the
eigenvalue."""

LARGE, LARGE_RTOL = 5e8, 1e-6
"""From so many samples times parameters on products stay in float32, and Lanczos stops at this change."""


def hessian_vector(loss: Loss, theta: Tensor) -> Callable[[Tensor], Tensor]:
    """Return v -> H v for the Hessian H of a scalar loss at flat parameters [parameters]."""
    leaf = theta.detach().requires_grad_(True)
    with torch.enable_grad():
        gradient = torch.autograd.grad(loss(leaf), leaf, create_graph=True)[0]

    def product(vector: Tensor) -> Tensor:
        with torch.enable_grad():
            if not gradient.requires_grad:
                return torch.zeros_like(vector)
            return torch.autograd.grad(gradient, leaf, vector, retain_graph=True, materialize_grads=True)[0]

    return product


def largest_eigenvalue(loss: Loss, theta: Tensor, rtol: float = RTOL) -> float:
    """Largest (algebraic) eigenvalue of a loss's Hessian by Lanczos with full re-orthogonalisation.

    Args:
        loss: scalar function of flat parameters.
        theta: where, [parameters], float64.
        rtol: relative change of the Ritz value at which to stop.

    Returns:
        lambda_max; it converges from below. NaN where the loss overflows.
    """
    return lanczos(hessian_vector(loss, theta), torch.empty_like(theta), rtol).value


def sharpness(network: Network) -> float:
    """Largest eigenvalue of the Hessian of the training loss at the start of a network of one run.

    Returns:
        NaN where the loss overflows.
    """
    theta = network.theta[0].double()
    if not knows(network):
        return largest_eigenvalue(exact_loss(network, network.buffers), theta)
    rough = lanczos(TwoLayerHessian(network, FIRST_SAMPLES, torch.float32), theta, FIRST_RTOL)
    large = len(network.exact_train.targets) * theta.numel() >= LARGE
    every = TwoLayerHessian(network, dtype=torch.float32 if large else torch.float64)
    start = rough.vector if math.isfinite(rough.value) else None
    return lanczos(every, theta, LARGE_RTOL if large else RTOL, start).value


def exact_loss(network: Network, buffers: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """Full-batch training loss in float64 as a function of one run's flat parameters."""

    def loss(flat: Tensor) -> Tensor:
        copies = {k: v[:1].double().clone() for k, v in buffers.items()}  # batch statistics may be remembered
        samples = network.exact_train
        return network.loss(network.named(flat[None]), samples.inputs, samples.targets, copies)[0]

    return loss
