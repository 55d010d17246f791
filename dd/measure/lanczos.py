"""The largest eigenvalue of a symmetric operator, by Lanczos with full re-orthogonalisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

STEPS = 100
"""At most so many products."""


@dataclass(frozen=True)
class Eigenpair:
    """What Lanczos has come to.

    Attributes:
        value: largest eigenvalue, approached from below; NaN where products overflow.
        settled: whether the steps sufficed.
        vector: its Ritz vector, [size], of length 1; zeros where products overflow.
    """

    value: float
    settled: bool
    vector: Tensor


def lanczos(product: Callable[[Tensor], Tensor], like: Tensor, rtol: float, start: Tensor | None = None) -> Eigenpair:
    """Largest (algebraic) eigenvalue of v -> A v.

    Args:
        product: the operator on vectors shaped as ``like``.
        like: [size], float64; gives size and device.
        rtol: relative change of the Ritz value at which to stop.
        start: first vector, [size]; a fixed random one where None.
    """
    size = like.numel()
    vector = start
    if vector is None:
        generator = torch.Generator().manual_seed(0)
        vector = torch.randn(size, generator=generator, dtype=torch.float64).to(like.device)
    basis = torch.zeros(min(STEPS, size), size, dtype=torch.float64, device=like.device)
    basis[0] = vector / vector.norm()
    small = np.zeros((len(basis), len(basis)))  # the operator in the basis: tridiagonal
    ritz, largest = -math.inf, 0.0
    for k in range(len(basis)):
        held = basis[: k + 1]
        image = product(basis[k])
        small[k, k] = float(image @ basis[k])
        if not math.isfinite(small[k, k]):
            return Eigenpair(math.nan, False, torch.zeros_like(like))
        for _ in range(2):  # twice is enough (Parlett)
            image = image - held.T @ (held @ image)
        previous, ritz = ritz, float(np.linalg.eigvalsh(small[: k + 1, : k + 1])[-1])
        norm, largest = float(image.norm()), max(largest, abs(small[k, k]))
        exhausted = norm <= 1e-14 * max(largest, norm)
        settled = exhausted or abs(ritz - previous) <= rtol * abs(ritz) or k + 1 == size
        if settled or k + 1 == len(basis):
            break
        small[k, k + 1] = small[k + 1, k] = norm
        basis[k + 1] = image / norm
    vectors = np.linalg.eigh(small[: len(held), : len(held)])[1]
    return Eigenpair(ritz, settled, held.T @ torch.from_numpy(vectors[:, -1]).to(like.device))
