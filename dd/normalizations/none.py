"""No normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dd.normalizations._base import Normalization


class Identity(Normalization):
    """Features as they are."""

    fitted = False

    def apply(
        self,
        features: Tensor,
        buffers: dict[str, Tensor],
        trained: Mapping[str, Tensor],
        options: Mapping[str, Any],
        *,
        training: bool,
    ) -> Tensor:
        """Return the features."""
        return features

    def backward(
        self, upstream: Tensor, features: Tensor, buffers: dict[str, Tensor], options: Mapping[str, Any]
    ) -> Tensor:
        """Return the gradient."""
        return upstream
