"""The model family's own scheme: ``fan_in`` for random features, ``torch`` for two-layer nets, ``fixed`` for rmt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dd.components.initialization import Initialization


@dataclass(frozen=True)
class Default(Initialization):
    """Stands for the scheme that the model names; models replace it before drawing."""

    def weight(
        self, generator: np.random.Generator, units: int, per_unit: int, fan_in: int, fan_out: int
    ) -> NDArray[np.float64]:
        """Refuse to draw: only a model knows its own scheme.

        Raises:
            TypeError: always.
        """
        raise TypeError("init=default is resolved by the model family")
