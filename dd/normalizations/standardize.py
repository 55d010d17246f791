"""Feature standardisation: centre and scale each feature by its training statistics at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from dd.components.divisors import Divisors
from dd.components.normalization import Normalization, inverse_spread, spread_divisors


@dataclass(frozen=True)
class Standardize(Normalization):
    """(h - mean)/standard deviation; constant features become zero. Without a bias the rank falls to n - 1."""

    batch_dependent = False

    def fit(self, features: Tensor) -> dict[str, Tensor]:
        """Mean and inverse standard deviation."""
        return {"mean": features.mean(dim=1, keepdim=True), "inverse": inverse_spread(features)}

    def divisors(self, buffers: Mapping[str, Tensor]) -> Divisors:
        """By the deviations at the start."""
        return spread_divisors(buffers["inverse"])

    def apply(
        self, features: Tensor, buffers: dict[str, Tensor], trained: Mapping[str, Tensor], *, training: bool
    ) -> Tensor:
        """Centre and scale."""
        return (features - buffers["mean"]) * buffers["inverse"]
