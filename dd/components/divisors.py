"""What features and inputs are divided by, and where that is next to nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

NEAR = 0.05
"""A deviation below this share of the median one is next to nothing: a usual change is more than 20 deviations."""


def near_constant(deviations: NDArray[np.float64]) -> int:
    """How many features hardly vary: their deviation is below :data:`NEAR` times the median one.

    Constant features are left out, of the count and of the median: what divides by deviations makes zeros of them.

    Args:
        deviations: standard deviation of each feature over the training samples, any shape.

    >>> near_constant(np.array([0.0, 0.01, 0.9, 1.0, 1.1]))
    1
    """
    varying = deviations[deviations > 0]
    return int((varying < NEAR * np.median(varying)).sum()) if varying.size else 0


@dataclass(frozen=True)
class Divisors:
    """What features are divided by in evaluation: the root of their variance over training samples, perhaps plus eps.

    Attributes:
        variance: of each feature, any shape.
        eps: what is added to it, a number or one for each feature; None: nothing, and constant features become zero.
    """

    variance: Tensor
    eps: Tensor | float | None

    @property
    def count(self) -> int:
        """Features."""
        return self.variance.numel()

    @property
    def dead(self) -> int:
        """Features that are divided by about the root of eps: eps is at least half of variance + eps."""
        return 0 if self.eps is None else int((self.variance <= self.eps).sum())

    @property
    def near_constant(self) -> int:
        """Features that are divided by next to nothing, no eps being added; see :func:`near_constant`."""
        return near_constant(self.variance.sqrt().cpu().double().numpy()) if self.eps is None else 0
