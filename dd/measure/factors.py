"""Minimum-norm and ridge solutions of the read-out, by singular value decomposition in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dd.measure.spectrum import Spectrum, kept


@dataclass(frozen=True)
class Factors:
    """Thin singular value decomposition of a design matrix, Z = U diag(s) Vᵀ.

    Attributes:
        u: [rows, rank limit].
        s: [rank limit], descending.
        vh: [rank limit, columns].
    """

    u: Tensor
    s: Tensor
    vh: Tensor

    def kept(self) -> Factors:
        """Without the singular values that count as zero: up to max(shape) · eps · s_max."""
        rank = self.spectrum.rank
        return Factors(self.u[:, :rank], self.s[:rank], self.vh[:rank])

    @property
    def spectrum(self) -> Spectrum:
        """Rank, extreme singular values and condition number."""
        return kept(self.s, (self.u.shape[0], self.vh.shape[1]))


def factorize(design: Tensor) -> Factors:
    """Decompose a design matrix [rows, columns] in float64."""
    if design.shape[0] >= design.shape[1]:
        return Factors(*torch.linalg.svd(design.double(), full_matrices=False))
    v, s, uh = torch.linalg.svd(design.double().mT, full_matrices=False)  # LAPACK takes a third less for tall ones
    return Factors(uh.mT, s, v.mT)


def least_squares(factors: Factors, targets: Tensor, inverse: Callable[[Tensor], Tensor] = torch.reciprocal) -> Tensor:
    """The solution V f(s) Uᵀ Y; with f(s) = 1/s the least-squares solution of least norm.

    Singular values up to max(shape) · eps · s_max count as zero, as in ``scipy.linalg.pinv``.

    Args:
        factors: decomposition of Z, [rows, columns].
        targets: Y, [rows, outputs].
        inverse: f, from the singular values above the tolerance, descending.

    Returns:
        W, [columns, outputs].
    """
    factors = factors.kept()
    filtered = inverse(factors.s)[:, None] * (factors.u.T @ targets.double())
    return factors.vh.T @ filtered
