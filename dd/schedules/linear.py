"""The step size falls linearly to a final one."""

from __future__ import annotations

from dataclasses import dataclass

from dd.components.schedule import Factors, Falling


@dataclass(frozen=True)
class Linear(Falling):
    """lr · (1 - (1 - final) t/T) after t of T steps, or epochs: torch's ``LinearLR`` from 1 to ``final``."""

    def shape(self, unit: Factors, units: int) -> Factors:
        """Of both ends, so that nothing cancels near the last."""
        return ((units - unit) + self.final * unit) / units
