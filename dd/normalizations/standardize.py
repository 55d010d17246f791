"""Feature standardisation: centre and scale each feature by its training statistics at the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dd.normalizations._base import Normalization, inverse_spread


class Standardize(Normalization):
    """(h - mean)/standard deviation; constant features become zero. Without a bias the rank falls to n - 1."""

    def fit(self, features: Tensor, options: Mapping[str, Any]) -> dict[str, Tensor]:
        """Mean and inverse standard deviation."""
        return {"mean": features.mean(dim=1, keepdim=True), "inverse": inverse_spread(features)}

    def apply(
        self,
        features: Tensor,
        buffers: dict[str, Tensor],
        trained: Mapping[str, Tensor],
        options: Mapping[str, Any],
        *,
        training: bool,
    ) -> Tensor:
        """Centre and scale."""
        return (features - buffers["mean"]) * buffers["inverse"]
