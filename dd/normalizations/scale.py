"""Feature scaling without centring: divide each feature by its training standard deviation at the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dd.normalizations._base import Normalization, inverse_spread


class Scale(Normalization):
    """h/standard deviation, as scikit-learn's ``StandardScaler(with_mean=False)``; constant features become zero."""

    def fit(self, features: Tensor, options: Mapping[str, Any]) -> dict[str, Tensor]:
        """Inverse standard deviation."""
        return {"inverse": inverse_spread(features)}

    def apply(
        self,
        features: Tensor,
        buffers: dict[str, Tensor],
        trained: Mapping[str, Tensor],
        options: Mapping[str, Any],
        *,
        training: bool,
    ) -> Tensor:
        """Scale."""
        return features * buffers["inverse"]
