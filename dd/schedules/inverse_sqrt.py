"""The step size falls with the inverse square root of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dd.components.schedule import Factors, Schedule
from dd.runs.axis import axis


@dataclass(frozen=True)
class InverseSqrt(Schedule):
    """lr / sqrt(1 + t/scale) after t steps, or epochs."""

    scale: float = axis(1.0, "scale in lr/sqrt(1 + t/scale)", unit="steps or epochs", low=0,
        low_open=True)  # fmt: skip

    prefix = True

    def shape(self, unit: Factors, units: int) -> Factors:
        """1/sqrt(1 + t/scale)."""
        return np.sqrt(self.scale / (self.scale + unit))
