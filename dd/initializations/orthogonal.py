"""Orthonormal rows or columns (Saxe et al., arXiv 1312.6120), as ``torch.nn.init.orthogonal_`` with gain 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dd.components.initialization import Initialization


@dataclass(frozen=True)
class Orthogonal(Initialization):
    """Haar-distributed; not nested across widths, since every column depends on all."""

    def weight(
        self, generator: np.random.Generator, units: int, per_unit: int, fan_in: int, fan_out: int
    ) -> NDArray[np.float64]:
        """Orthonormalise a Gaussian matrix by QR, with the sign that makes the law uniform."""
        gaussian = generator.standard_normal((units, per_unit))
        q, r = np.linalg.qr(gaussian if units >= per_unit else gaussian.T)
        q *= np.sign(np.diag(r))
        return q if units >= per_unit else q.T
