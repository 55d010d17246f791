"""U(-a, a) with a = 1/sqrt(fan_in), biases too: the default of ``torch.nn.Linear``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dd.components.initialization import Initialization


@dataclass(frozen=True)
class TorchLinear(Initialization):
    """What a user of ``torch.nn.Linear`` gets without asking."""

    def weight(
        self, generator: np.random.Generator, units: int, per_unit: int, fan_in: int, fan_out: int
    ) -> NDArray[np.float64]:
        """Draw U(-1/sqrt(fan_in), 1/sqrt(fan_in)) entries."""
        return (2 * generator.random((units, per_unit)) - 1) / np.sqrt(fan_in)

    def bias(self, generator: np.random.Generator, size: int, fan_in: int) -> NDArray[np.float64]:
        """The law of the weights."""
        return (2 * generator.random(size) - 1) / np.sqrt(fan_in)
