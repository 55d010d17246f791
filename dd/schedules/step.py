"""The step size falls by a factor every so often."""

from __future__ import annotations

from dataclasses import dataclass

from dd.components.schedule import Factors, Schedule
from dd.runs.axis import axis


@dataclass(frozen=True)
class Step(Schedule):
    """lr · gamma^floor(t/every) after t steps, or epochs: torch's ``StepLR``."""

    every: int = axis(100, "between two falls", unit="steps or epochs", low=1)
    gamma: float = axis(0.1, "what a fall multiplies the step size by", low=0, high=1, low_open=True)

    prefix = True

    def shape(self, unit: Factors, units: int) -> Factors:
        """Powers of gamma."""
        return self.gamma ** (unit // self.every)
