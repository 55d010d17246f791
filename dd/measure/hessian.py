"""Eigenvalues of the training loss's Hessian, as it is and as the optimizer sees it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from dd.measure.lanczos import lanczos
from dd.measure.spectrum import extreme_singular_values, kept

DENSE_LIMIT = 1000
"""Parameters up to which a Hessian without closed form is computed in full; beyond, its condition is null."""

PRECONDITIONED_LIMIT = 5e11
"""Work (outputs · rows · columns · min(rows, columns)) up to which the preconditioned spectrum is computed."""

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


def condition(loss: Loss, theta: Tensor, preconditioner: Tensor | None = None) -> float:
    """Ratio of the largest to the smallest |eigenvalue| above the tolerance, of D^-1/2 H D^-1/2.

    Args:
        loss: scalar function of flat parameters.
        theta: where, [parameters], float64; at most ``DENSE_LIMIT`` parameters.
        preconditioner: the diagonal D > 0, [parameters], or None for D = 1.

    Returns:
        The condition number; NaN for a zero Hessian.

    Raises:
        torch.linalg.LinAlgError: the Hessian has entries that are not finite.
    """
    product = hessian_vector(loss, theta)
    eye = torch.eye(theta.numel(), dtype=theta.dtype, device=theta.device)
    matrix = torch.stack([product(row) for row in eye])
    matrix = (matrix + matrix.T) / 2
    if not torch.isfinite(matrix).all():
        raise torch.linalg.LinAlgError("the Hessian has entries that are not finite")
    if preconditioner is not None:
        scale = preconditioner.double().rsqrt()
        matrix = scale[:, None] * matrix * scale
    return kept(torch.linalg.eigvalsh(matrix).abs(), tuple(matrix.shape)).condition


def preconditioned_least_squares(design: Tensor, preconditioner: Tensor) -> float:
    """Condition number of D^-1/2 H D^-1/2 for least squares: H = I_outputs (x) ZᵀZ up to a factor.

    Args:
        design: Z, [rows, columns].
        preconditioner: diagonal D > 0 of the read-out's parameters, [outputs, columns].

    Returns:
        Largest over smallest kept eigenvalue of all outputs' blocks; NaN beyond ``PRECONDITIONED_LIMIT``.
    """
    outputs = preconditioner.shape[0]
    if outputs * design.numel() * min(design.shape) > PRECONDITIONED_LIMIT:
        return math.nan
    scale = preconditioner.double().rsqrt()
    values = torch.tensor([v for c in range(outputs) for v in extreme_singular_values(design * scale[c])])
    return kept(values.double(), tuple(design.shape)).condition ** 2
