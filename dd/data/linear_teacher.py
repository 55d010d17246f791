"""Linear teacher y = <b, x> + noise with |b| = 1; its min-norm risk is known exactly (dd.theory.isotropic)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dd.data._teacher import Teacher


@dataclass(frozen=True)
class LinearTeacher(Teacher):
    """Isotropic linear regression; with ``model=linear`` the textbook double-descent problem."""

    def target(self, x: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """<b, x>."""
        return x @ direction
