"""U(-a, a) with a = sqrt(6/(fan_in + fan_out)) (Glorot & Bengio 2010)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dd.components.initialization import Initialization


@dataclass(frozen=True)
class GlorotUniform(Initialization):
    """The uniform form of ``glorot``, same variance."""

    def weight(
        self, generator: np.random.Generator, units: int, per_unit: int, fan_in: int, fan_out: int
    ) -> NDArray[np.float64]:
        """Draw U(-a, a) entries."""
        return np.sqrt(6 / (fan_in + fan_out)) * (2 * generator.random((units, per_unit)) - 1)
