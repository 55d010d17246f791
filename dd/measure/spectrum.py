"""Singular values, numerical rank and condition number of the matrix that the last layer sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from dd.measure.lanczos import lanczos
from dd.numerics import all_finite

EPS = torch.finfo(torch.float64).eps

SMALL = 100
"""Matrices up to this size are decomposed in full: it takes no longer."""

SAFE = 1e10
"""Up to this condition number a matrix has full rank without doubt."""


Found = TypeVar("Found")


def guarded(measure: Callable[[], Found]) -> Found | None:
    """A measurement, or None where it has none: memory is short, or entries of a diverged run are not finite."""
    try:
        return measure()
    except (MemoryError, RuntimeError, ValueError, ArithmeticError):
        # torch's LinAlgError and its lack of memory are RuntimeErrors, NumPy's LinAlgError is a ValueError
        return None


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
    if not all_finite(matrix):
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


class Rows:
    """A matrix whose rows come in blocks, [rows, columns], reduced to a triangle on the way."""

    def __init__(self) -> None:
        self._held: Tensor | None = None
        self._count = 0

    def add(self, block: Tensor) -> None:
        """Append a block of rows, [rows, columns], float64; a block alone is held as it is."""
        self._count += len(block)
        self._held = block if self._held is None else torch.linalg.qr(torch.cat([self._held, block]), mode="r")[1]

    def spectrum(self) -> Spectrum:
        """Spectrum of all rows, by QR and SVD in float64, never by normal equations.

        Raises:
            torch.linalg.LinAlgError: the matrix has entries that are not finite.
        """
        assert self._held is not None
        return kept(singular_values(finite(self._held)), (self._count, self._held.shape[1]))


def extremes(matrix: Tensor) -> Spectrum:
    """Rank and extreme singular values of [rows, columns] in float64; ``values`` holds those, or all.

    By Lanczos on RᵀR and its inverse, R from a QR factorisation without columns of zeros: a fraction of the time, with
    errors of order eps · condition number as an SVD's. A matrix so nearly singular that rank is in doubt, and one on
    which Lanczos is slow, are decomposed in full.
    """
    shape = tuple(matrix.shape)
    r = _square(matrix)
    seen = (r != 0).any(dim=0)
    if not seen.all():
        r = _square(r[:, seen])
    if not r.numel():
        return kept(r.flatten(), shape)
    diagonal = r.diagonal().abs()
    size = r.shape[0]
    if size > SMALL and float(diagonal.min()) > float(diagonal.max()) / SAFE:
        top = lanczos(lambda v: r.T @ (r @ v), diagonal, 1e-12)

        def inverse(v: Tensor) -> Tensor:
            half = torch.linalg.solve_triangular(r.T, v[:, None], upper=False)
            return torch.linalg.solve_triangular(r, half, upper=True)[:, 0]

        bottom = lanczos(inverse, diagonal, 1e-12) if top.settled else top
        if bottom.settled and 0 < bottom.value * top.value < SAFE**2:
            values = torch.tensor([top.value**0.5, bottom.value**-0.5], dtype=torch.float64)
            return Spectrum(size, float(values[0]), float(values[1]), values)
    return kept(torch.linalg.svdvals(r), shape)


def spectrum(matrix: Tensor) -> Spectrum:
    """Spectrum of one matrix [rows, columns]; see :meth:`Rows.spectrum`."""
    rows = Rows()
    rows.add(matrix)
    return rows.spectrum()
