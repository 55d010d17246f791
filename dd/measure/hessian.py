"""The largest eigenvalue of the training loss's whole Hessian, for step sizes in its units."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dd.measure.lanczos import lanczos
from dd.network import Network

Loss = Callable[[Tensor], Tensor]


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


def largest_eigenvalue(loss: Loss, theta: Tensor, rtol: float = 1e-10) -> float:
    """Largest (algebraic) eigenvalue of a loss's Hessian by Lanczos with full re-orthogonalisation.

    Args:
        loss: scalar function of flat parameters.
        theta: where, [parameters], float64.
        rtol: relative change of the Ritz value at which to stop.

    Returns:
        lambda_max; it converges from below. NaN where the loss overflows.
    """
    value, _ = lanczos(hessian_vector(loss, theta), torch.empty_like(theta), rtol)
    return value


def exact_loss(network: Network, buffers: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """Full-batch training loss in float64 as a function of one run's flat parameters."""

    def loss(flat: Tensor) -> Tensor:
        copies = {k: v[:1].double().clone() for k, v in buffers.items()}  # batch statistics may be remembered
        samples = network.exact_train
        return network.loss(network.named(flat[None]), samples.inputs, samples.targets, copies)[0]

    return loss
