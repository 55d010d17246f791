"""Layer normalisation over the features of each sample (Ba et al., arXiv 1607.06450)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from dd.components.normalization import AffineNormalization


@dataclass(frozen=True)
class LayerNorm(AffineNormalization):
    """As ``torch.nn.LayerNorm(width)``.

    It has no divisors that training samples decide: each sample is divided by its own deviation over the features, and
    none of its features becomes larger than the root of their number.
    """

    batch_dependent = False

    def apply(
        self, features: Tensor, buffers: dict[str, Tensor], trained: Mapping[str, Tensor], *, training: bool
    ) -> Tensor:
        """Normalise each sample."""
        centred = features - features.mean(dim=2, keepdim=True)
        variance = centred.square().mean(dim=2, keepdim=True)
        return self.scaled(centred, variance, trained)
