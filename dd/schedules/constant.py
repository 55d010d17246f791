"""One step size from the first step, or the end of the warm-up, to the last."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from dd.components.schedule import Factors, Schedule


@dataclass(frozen=True)
class Constant(Schedule):
    """lr."""

    level = True
    prefix = True

    def canonical(self) -> Self:
        """Without warm-up there is nothing to count."""
        return replace(self, per="step") if self.flat and self.per != "step" else self

    def shape(self, unit: Factors, units: int) -> Factors:
        """1."""
        return np.ones_like(unit)
