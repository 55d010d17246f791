"""The step size falls by a factor every so often."""

from __future__ import annotations

from dataclasses import dataclass

from dd.components.schedule import Factors, Schedule
from dd.runs.axis import axis


@dataclass(frozen=True)
class Step(Schedule):
    """lr · gamma^floor(t/every) after t steps, or epochs: torch's ``StepLR``."""

    every: int = axis(100, "interval between two falls of the step size", unit="steps or epochs", low=1)
    gamma: float = axis(0.1, "factor of the step size at each fall", low=0, high=1, low_open=True)

    prefix = True

    def shape(self, unit: Factors, units: int) -> Factors:
        """Powers of gamma."""
        return self.gamma ** (unit // self.every)
