"""No normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from dd.components.normalization import Normalization


@dataclass(frozen=True)
class Identity(Normalization):
    """Features as they are."""

    batch_dependent = False
    fitted = False

    def apply(
        self, features: Tensor, buffers: dict[str, Tensor], trained: Mapping[str, Tensor], *, training: bool
    ) -> Tensor:
        """Return the features."""
        return features
