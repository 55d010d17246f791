"""Half a cosine from the full step size to a final one (Loshchilov & Hutter, arXiv 1608.03983, without restarts)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dd.components.schedule import Factors, Falling


@dataclass(frozen=True)
class Cosine(Falling):
    """lr · (final + (1 - final) · (1 + cos(pi t/T))/2) after t of T steps, or epochs: ``CosineAnnealingLR``."""

    def shape(self, unit: Factors, units: int) -> Factors:
        """(1 + cos 2a)/2 as cos² a, which keeps its digits where it is small."""
        return self.final + (1 - self.final) * np.cos(0.5 * np.pi * unit / units) ** 2
