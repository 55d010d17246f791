"""The largest eigenvalue of a symmetric operator, by Lanczos with full re-orthogonalisation."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

STEPS = 100
"""At most so many products."""


def lanczos(product: Callable[[Tensor], Tensor], like: Tensor, rtol: float) -> tuple[float, bool]:
    """Largest (algebraic) eigenvalue of v -> A v, from a fixed random start.

    Args:
        product: the operator on vectors shaped as ``like``.
        like: [size], float64; gives size and device.
        rtol: relative change of the Ritz value at which to stop.

    Returns:
        The eigenvalue, approached from below, and whether the steps sufficed; NaN where products overflow.
    """
    size = like.numel()
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(size, generator=generator, dtype=torch.float64).to(like.device)
    basis = torch.zeros(min(STEPS, size), size, dtype=torch.float64, device=like.device)
    basis[0] = vector / vector.norm()
    diagonal: list[float] = []
    off: list[float] = []
    ritz = -math.inf
    for k in range(len(basis)):
        image = product(basis[k])
        diagonal.append(float(image @ basis[k]))
        if not math.isfinite(diagonal[-1]):
            return math.nan, False
        for _ in range(2):  # twice is enough (Parlett)
            image = image - basis[: k + 1].T @ (basis[: k + 1] @ image)
        tri = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
        if off:
            side = torch.tensor(off, dtype=torch.float64)
            tri += torch.diag(side, 1) + torch.diag(side, -1)
        previous, ritz = ritz, float(torch.linalg.eigvalsh(tri)[-1])
        norm = float(image.norm())
        scale = max(abs(d) for d in diagonal)
        if norm <= 1e-14 * max(scale, norm) or abs(ritz - previous) <= rtol * abs(ritz):
            return ritz, True
        if k + 1 < len(basis):
            off.append(norm)
            basis[k + 1] = image / norm
    return ritz, len(basis) == size
