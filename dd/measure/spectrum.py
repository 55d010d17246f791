"""Singular values, numerical rank and condition number of the matrix that the last layer sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Spectrum:
    """Kept spectrum of a matrix.

    Attributes:
        rank: singular values above the tolerance max(shape) · eps · sigma_max (float64).
        sigma_max: the largest singular value.
        sigma_min: the smallest one above the tolerance; dead and duplicate columns do not count.
    """

    rank: int
    sigma_max: float
    sigma_min: float

    @property
    def condition(self) -> float:
        """sigma_max / sigma_min; NaN for a zero matrix."""
        return self.sigma_max / self.sigma_min if self.rank else math.nan


def tolerance(shape: tuple[int, ...], largest: float) -> float:
    """Below this a singular value counts as zero: max(shape) · eps(float64) · largest."""
    return max(shape) * torch.finfo(torch.float64).eps * largest


def kept(values: Tensor, shape: tuple[int, ...]) -> Spectrum:
    """Summarise singular values (or absolute eigenvalues), in any order, of a matrix of the given shape."""
    largest = float(values.max()) if values.numel() else 0.0
    above = values[values > tolerance(shape, largest)]
    return Spectrum(above.numel(), largest, float(above.min()) if above.numel() else math.nan)


def singular_values(matrix: Tensor) -> Tensor:
    """Singular values of a matrix [rows, columns] in float64, descending.

    A matrix that is not square is reduced by QR first: as exact, and half the time of LAPACK's own way.
    """
    wide = matrix.double() if matrix.shape[0] >= matrix.shape[1] else matrix.double().T
    if wide.shape[0] > wide.shape[1]:
        wide = torch.linalg.qr(wide, mode="r")[1]
    return torch.linalg.svdvals(wide)


def spectrum(matrix: Tensor) -> Spectrum:
    """Spectrum of one matrix [rows, columns], by SVD in float64, never by normal equations.

    Raises:
        torch.linalg.LinAlgError: the matrix has entries that are not finite.
    """
    if not torch.isfinite(matrix).all():
        raise torch.linalg.LinAlgError("the matrix has entries that are not finite")
    return kept(singular_values(matrix), tuple(matrix.shape))
