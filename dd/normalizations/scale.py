"""Feature scaling without centring: divide each feature by its training standard deviation at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from dd.components.divisors import Divisors
from dd.components.normalization import Normalization, inverse_spread, spread_divisors


@dataclass(frozen=True)
class Scale(Normalization):
    """h/standard deviation, as scikit-learn's ``StandardScaler(with_mean=False)``; constant features become zero."""

    batch_dependent = False

    def fit(self, features: Tensor) -> dict[str, Tensor]:
        """Inverse standard deviation."""
        return {"inverse": inverse_spread(features)}

    def divisors(self, buffers: Mapping[str, Tensor]) -> Divisors:
        """By the deviations at the start."""
        return spread_divisors(buffers["inverse"])

    def apply(
        self, features: Tensor, buffers: dict[str, Tensor], trained: Mapping[str, Tensor], *, training: bool
    ) -> Tensor:
        """Scale."""
        return features * buffers["inverse"]
