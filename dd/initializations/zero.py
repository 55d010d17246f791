"""All trained weights and biases zero."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dd.components.initialization import Initialization


@dataclass(frozen=True)
class Zero(Initialization):
    """Start at the origin: gradient descent on random features then tends to the min-norm solution."""

    def weight(
        self, generator: np.random.Generator, units: int, per_unit: int, fan_in: int, fan_out: int
    ) -> NDArray[np.float64]:
        """Zeros."""
        return np.zeros((units, per_unit))
