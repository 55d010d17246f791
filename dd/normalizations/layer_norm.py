"""Layer normalisation over the features of each sample (Ba et al., arXiv 1607.06450)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from dd.normalizations._base import AFFINE, EPS, Normalization, affine


class LayerNorm(Normalization):
    """As ``torch.nn.LayerNorm(width)``."""

    options = (EPS, AFFINE)

    def apply(
        self,
        features: Tensor,
        buffers: dict[str, Tensor],
        trained: Mapping[str, Tensor],
        options: Mapping[str, Any],
        *,
        training: bool,
    ) -> Tensor:
        """Normalise each sample."""
        centred = features - features.mean(dim=2, keepdim=True)
        variance = centred.square().mean(dim=2, keepdim=True)
        return affine(centred * (variance + options["eps"]).rsqrt(), trained)
