"""Singular values, numerical rank and condition number of the matrix that the last layer sees."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dd.measure.lanczos import lanczos

EPS = torch.finfo(torch.float64).eps

SMALL = 100
"""Matrices up to this size are decomposed in full: it takes no longer."""

SAFE = 1e10
"""Up to this condition number a matrix has full rank without doubt."""


@dataclass(frozen=True)
class Spectrum:
    """Kept spectrum of a matrix.

    Attributes:
        rank: singular values above the tolerance max(shape) · eps · sigma_max (float64).
        sigma_max: the largest singular value.
        sigma_min: the smallest one above the tolerance; dead and duplicate columns do not count.
        values: all above the tolerance, [rank], float64.
    """

    rank: int
    sigma_max: float
    sigma_min: float
    values: Tensor = field(repr=False, compare=False)

    @property
    def condition(self) -> float:
        """sigma_max / sigma_min; infinite for a zero matrix."""
        return self.sigma_max / self.sigma_min if self.rank else math.inf


def tolerance(shape: tuple[int, ...], largest: float) -> float:
    """Below this a singular value counts as zero: max(shape) · eps(float64) · largest."""
    return max(shape) * EPS * largest


def kept(values: Tensor, shape: tuple[int, ...]) -> Spectrum:
    """Summarise singular values (or absolute eigenvalues), in any order, of a matrix of the given shape."""
    largest = float(values.max()) if values.numel() else 0.0
    above = values[values > tolerance(shape, largest)]
    return Spectrum(above.numel(), largest, float(above.min()) if above.numel() else math.nan, above)


def finite(matrix: Tensor) -> Tensor:
    """The matrix itself.

    Raises:
        torch.linalg.LinAlgError: it has entries that are not finite.
    """
    if not torch.isfinite(matrix).all():
        raise torch.linalg.LinAlgError("the matrix has entries that are not finite")
    return matrix


def singular_values(matrix: Tensor) -> Tensor:
    """Singular values of matrices [..., rows, columns] in float64, descending; a batch in one call.

    Matrices that are not square are reduced by QR first: as exact, and half the time of LAPACK's own way.
    """
    return torch.linalg.svdvals(_square(matrix))


def _square(matrix: Tensor) -> Tensor:
    """Triangular (or square) matrices with the same non-trivial singular values, float64."""
    tall = matrix.double() if matrix.shape[-2] >= matrix.shape[-1] else matrix.double().mT
    return torch.linalg.qr(tall, mode="r")[1]


def extremes(matrix: Tensor) -> Spectrum:
    """Rank and extreme singular values of [rows, columns] in float64; ``values`` holds those, or all.

    Rows and columns of zeros are left out. By Lanczos on RᵀR and its inverse, R from a QR factorisation: a fraction of
    the time, with errors of order eps · condition number as an SVD's. A matrix so nearly singular that rank is in
    doubt, and one on which Lanczos is slow, are decomposed in full.
    """
    shape = tuple(matrix.shape)
    matrix = matrix.double()
    matrix = matrix[(matrix != 0).any(dim=1)][:, (matrix != 0).any(dim=0)]
    if not matrix.numel():
        return kept(matrix.flatten(), shape)
    r = _square(matrix)
    diagonal = r.diagonal().abs()
    size = r.shape[0]
    if size > SMALL and float(diagonal.min()) > float(diagonal.max()) / SAFE:
        top, found = lanczos(lambda v: r.T @ (r @ v), diagonal, 1e-12)

        def inverse(v: Tensor) -> Tensor:
            half = torch.linalg.solve_triangular(r.T, v[:, None], upper=False)
            return torch.linalg.solve_triangular(r, half, upper=True)[:, 0]

        bottom, also = lanczos(inverse, diagonal, 1e-12) if found else (math.nan, False)
        if found and also and 0 < bottom * top < SAFE**2:
            values = torch.tensor([top**0.5, bottom**-0.5], dtype=torch.float64)
            return Spectrum(size, float(values[0]), float(values[1]), values)
    return kept(torch.linalg.svdvals(r), shape)


def spectrum(matrix: Tensor) -> Spectrum:
    """Spectrum of one matrix [rows, columns], by SVD in float64, never by normal equations.

    Raises:
        torch.linalg.LinAlgError: the matrix has entries that are not finite.
    """
    return kept(singular_values(finite(matrix)), tuple(matrix.shape))
