"""Spectrum of the generalised Gauss-Newton matrix H = Fᵀ F: exact from singular values of F, or by Lanczos."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dd.measure.jacobian import Jacobian
from dd.measure.lanczos import lanczos as top_of
from dd.measure.spectrum import EPS, Spectrum, extremes, kept, singular_values

LANCZOS_RTOL = 1e-4
"""Relative accuracy asked of eigenvalues by Lanczos."""

LANCZOS_RESTARTS = 10
"""Implicit restarts at most; then the smallest eigenvalue stays unknown."""

LANCZOS_VECTORS = 60

GRAM_WORK = 1e11
"""Where Lanczos does not find the smallest eigenvalue, all are found by up to so many multiplications, some minutes."""

PRODUCT_COST = 10
"""What a multiplication costs in a product of the operator, in units of one in a matrix product."""

GRAM_COPIES = 3
"""Matrices of the size of Fᵀ F, or of F Fᵀ, that this holds at once."""


@dataclass(frozen=True)
class Curvature:
    """Non-zero spectrum of a positive semi-definite matrix.

    Attributes:
        highest: largest eigenvalue.
        lowest: smallest one above the tolerance; NaN for a zero matrix, and where unknown.
        trace: sum of all eigenvalues; NaN where unknown.
        rank: eigenvalues above the tolerance; None where unknown.
        method: ``exact`` (closed form), ``jacobian`` (singular values of the whole Jacobian), ``lanczos``, ``gram``
            (all eigenvalues of a matrix made of products), or ``lanczos_top`` where ``lowest`` is unknown.
        values: eigenvalues above the tolerance, or the extreme ones.
    """

    highest: float
    lowest: float
    trace: float
    rank: int | None
    method: str
    values: Tensor

    @property
    def condition(self) -> float:
        """Highest / lowest; infinite for a zero matrix."""
        return self.highest / self.lowest if self.highest > 0 else math.inf

    @property
    def effective_rank(self) -> float:
        """Trace / highest (Bartlett et al., arXiv 1906.11300, r_0); 0 for a zero matrix."""
        return self.trace / self.highest if self.highest > 0 else 0.0


def from_singular_values(found: Spectrum, scale: float = 1.0, copies: int = 1, method: str = "jacobian") -> Curvature:
    """Curvature of scale · Fᵀ F from the spectrum of F.

    Args:
        found: kept singular values of F.
        scale: factor of the matrix.
        copies: how often each eigenvalue occurs (an output of a shared design matrix each).
        method: how F's spectrum was found.
    """
    values = scale * found.values.square()
    lowest = float(values.min()) if found.rank else math.nan
    highest = float(values.max()) if found.rank else 0.0
    return Curvature(highest, lowest, copies * float(values.sum()), copies * found.rank, method, values)


def dense(factor: Tensor, *, every: bool = False) -> Curvature:
    """Curvature of Fᵀ F from singular values of F, [rows, parameters].

    Args:
        factor: F.
        every: whether ``values`` must hold every eigenvalue; else, where F has full rank, the extreme ones, which take
            a fraction of the time.
    """
    found = kept(singular_values(factor), tuple(factor.shape)) if every else extremes(factor)
    return replace(from_singular_values(found), trace=float(factor.double().square().sum()))


def scaled_columns(factor: Tensor, diagonal: Tensor) -> Tensor:
    """F D^-1/2: the factor of D^-1/2 H D^-1/2, for D > 0; columns with D = 0 become zero."""
    return factor * torch.where(diagonal > 0, diagonal.double().rsqrt(), 0.0)


def jacobi(factor: Tensor) -> Tensor:
    """The diagonal of Fᵀ F, [parameters]: the preconditioner of Jacobi's method."""
    return factor.square().sum(dim=-2)


def lanczos(jacobian: Jacobian, budget: int, *, curved: bool = True, diagonal: Tensor | None = None) -> Curvature:
    """Extreme non-zero eigenvalues of Fᵀ F (or of the tangent kernel J Jᵀ) without forming F.

    By ``scipy.sparse.linalg.eigsh`` on the smaller one of Fᵀ F and F Fᵀ, which share their non-zero eigenvalues. Where
    it does not find the smallest, because it is a zero or close to many others, that matrix is formed and decomposed,
    if this fits ``budget`` and :data:`GRAM_WORK`.

    Args:
        jacobian: of the run.
        budget: bytes for the rows that the trace is summed from, and for that matrix.
        curved: whether rows carry the loss's curvature.
        diagonal: preconditioner D > 0, [parameters], for D^-1/2 Fᵀ F D^-1/2.
    """
    forward, backward = jacobian.products()
    scale = torch.ones_like(jacobian.flat) if diagonal is None else diagonal.double().rsqrt()

    def down(vector: Tensor) -> Tensor:
        out = forward(scale * vector)
        return jacobian.curved(out) if curved else out

    def up(vector: Tensor) -> Tensor:
        return scale * backward(jacobian.curved_transposed(vector) if curved else vector)

    rows, columns = jacobian.shape
    first, second, size = (down, up, columns) if columns <= rows else (up, down, rows)

    def product(vector: Tensor) -> Tensor:
        return second(first(vector))

    like = torch.empty(size, dtype=torch.float64, device=jacobian.flat.device)
    highest, lowest = _extremes(product, like)
    trace = _trace(jacobian, budget, scale, curved=curved)
    if math.isnan(lowest) and highest > 0:
        matrix = _gram(jacobian, product, like, budget, scale, curved=curved)
        values = None if matrix is None else _above_rounding(matrix, highest)
        if values is not None:
            return Curvature(highest, float(values[0]), trace, len(values), "gram", values)
    values = torch.tensor([lowest, highest], dtype=torch.float64)
    return Curvature(highest, lowest, trace, None, "lanczos_top" if math.isnan(lowest) else "lanczos", values)


def largest(jacobian: Jacobian) -> float:
    """Largest eigenvalue of the generalised Gauss-Newton matrix Fᵀ F, by Lanczos to ``LANCZOS_RTOL``."""
    forward, backward = jacobian.products()

    def product(vector: Tensor) -> Tensor:
        return backward(jacobian.curved_transposed(jacobian.curved(forward(vector))))

    return top_of(product, torch.empty_like(jacobian.flat), LANCZOS_RTOL).value


def _extremes(product: Callable[[Tensor], Tensor], like: Tensor) -> tuple[float, float]:
    """Largest and smallest eigenvalue of v -> A v >= 0; the latter NaN where it is zero or has not converged."""
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    size = like.numel()

    def apply(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = product(torch.tensor(vector.ravel(), device=like.device)).cpu().numpy()
        return found

    smallest = size * EPS  # in units of the largest: below, eigenvalues are rounding
    if size <= LANCZOS_VECTORS + 1:
        values = np.linalg.eigvalsh(_matrix(product, like))
        above = values[values > smallest * values[-1]]
        return max(float(values[-1]), 0.0), float(above[0]) if len(above) else math.nan
    # ARPACK restarts from random vectors where its basis is exhausted
    options = {
        "k": 1, "v0": np.random.default_rng(0).standard_normal(size), "ncv": LANCZOS_VECTORS, "tol": LANCZOS_RTOL,
        "maxiter": LANCZOS_RESTARTS, "return_eigenvectors": False, "rng": 0,
    }  # fmt: skip
    operator = LinearOperator((size, size), matvec=apply, dtype=np.float64)
    highest = float(eigsh(operator, which="LA", **options)[0])
    if not highest > 0:
        return 0.0, math.nan
    try:
        lowest = float(eigsh(operator, which="SA", **options)[0])
    except ArpackNoConvergence:
        return highest, math.nan
    # a zero hides the smallest eigenvalue that is none
    return highest, lowest if lowest > smallest * highest else math.nan


def _gram(
    jacobian: Jacobian, product: Callable[[Tensor], Tensor], like: Tensor, budget: int, scale: Tensor, *, curved: bool
) -> NDArray[np.float64] | None:
    """The smaller one of Fᵀ F and F Fᵀ, [size, size]; None where it takes too much memory or work."""
    rows, columns = jacobian.shape
    size = like.numel()
    if GRAM_COPIES * 8 * size**2 > budget:
        return None
    if columns <= rows and not jacobian.coupled:
        if rows * columns**2 > GRAM_WORK:
            return None
        total = torch.zeros(size, size, dtype=torch.float64, device=like.device)
        for block in _factor_rows(jacobian, budget, scale, curved=curved):
            total.addmm_(block.T, block)
        return total.cpu().numpy()
    return _matrix(product, like) if PRODUCT_COST * size * jacobian.samples * columns <= GRAM_WORK else None


def _matrix(product: Callable[[Tensor], Tensor], like: Tensor) -> NDArray[np.float64]:
    """The symmetric matrix of v -> A v, [size, size]."""
    matrix = np.empty((like.numel(), like.numel()))
    for row in range(len(matrix)):
        unit = torch.zeros_like(like)
        unit[row] = 1.0
        matrix[row] = product(unit).cpu().numpy()
    return matrix


def _above_rounding(matrix: NDArray[np.float64], highest: float) -> Tensor | None:
    """Eigenvalues above rounding, ascending; None where the smallest of them has not ``LANCZOS_RTOL`` left of it."""
    values = np.linalg.eigvalsh(matrix)
    rounding = len(values) * EPS * highest
    values = values[values > rounding]
    return torch.from_numpy(values) if rounding <= LANCZOS_RTOL * values[0] else None


def _trace(jacobian: Jacobian, budget: int, scale: Tensor, *, curved: bool) -> float:
    """Sum of squares of F's entries; NaN where batch statistics tie samples together."""
    if jacobian.coupled:
        return math.nan
    return sum(float(rows.square().sum()) for rows in _factor_rows(jacobian, budget, scale, curved=curved))


def _factor_rows(jacobian: Jacobian, budget: int, scale: Tensor, *, curved: bool) -> Iterator[Tensor]:
    """Rows of F in blocks of samples, [rows, parameters] each."""
    first = 0
    for block in jacobian.blocks(budget // 4):
        count = len(block)
        rows = block.reshape(count * jacobian.outputs, -1) * scale
        yield jacobian.curved(rows, first) if curved else rows
        first += count
