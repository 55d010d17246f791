"""Minimum-norm and ridge solutions of the read-out, by singular value decomposition in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dd.measure.spectrum import Spectrum, kept, tolerance


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

    @property
    def spectrum(self) -> Spectrum:
        """Rank, extreme singular values and condition number."""
        return kept(self.s, (self.u.shape[0], self.vh.shape[1]))


def factorize(design: Tensor) -> Factors:
    """Decompose a design matrix [rows, columns] in float64."""
    if design.shape[0] >= design.shape[1]:
        return Factors(*torch.linalg.svd(design.double(), full_matrices=False))
    v, s, uh = torch.linalg.svd(design.double().T, full_matrices=False)  # LAPACK takes a third less for tall ones
    return Factors(uh.T, s, v.T)


def least_squares(factors: Factors, targets: Tensor, penalty: float = 0.0) -> Tensor:
    """Minimise |Z W - Y|² + penalty |W|²; the solution of least norm where penalty = 0.

    Singular values up to max(shape) · eps · s_max count as zero, as in ``scipy.linalg.pinv``.

    Args:
        factors: decomposition of Z, [rows, columns].
        targets: Y, [rows, outputs].
        penalty: ridge penalty, >= 0, not divided by the number of samples.

    Returns:
        W, [columns, outputs].
    """
    s = factors.s
    keep = s > tolerance((factors.u.shape[0], factors.vh.shape[1]), float(s[0]) if s.numel() else 0.0)
    filtered = torch.where(keep, s / torch.where(keep, s * s + penalty, 1.0), 0.0)
    return factors.vh.T @ (filtered[:, None] * (factors.u.T @ targets.double()))
