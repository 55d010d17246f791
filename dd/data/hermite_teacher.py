"""Single-index teacher y = sum_k c_k He_k(<u, x>)/sqrt(k!) + noise, k = 1, 2, 3 (the Mei-Montanari set-up)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dd.data._teacher import Teacher
from dd.runs.axis import axis


@dataclass(frozen=True)
class HermiteTeacher(Teacher):
    """Normalised Hermite polynomials of one direction; for Gaussian inputs the target's power is c1²+c2²+c3²."""

    c1: float = axis(0.8, "weight of the linear part")
    c2: float = axis(0.6, "weight of the quadratic part")
    c3: float = axis(0.0, "weight of the cubic part")

    def target(self, x: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of the three normalised Hermite polynomials."""
        t = x @ direction
        return self.c1 * t + self.c2 * (t**2 - 1) / np.sqrt(2) + self.c3 * (t**3 - 3 * t) / np.sqrt(6)
