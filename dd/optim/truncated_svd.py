"""Least squares on the leading singular directions of the features (truncated singular value decomposition)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dd.components.optimizer import ClosedForm
from dd.runs.axis import axis


@dataclass(frozen=True)
class TruncatedSVD(ClosedForm):
    """The min-norm solution without the directions of small singular values.

    What gradient descent from zero does softly by stopping early (Hansen 1998; the ablation of Schaeffer et al.,
    arXiv 2303.14151).
    """

    cutoff: float = axis(0.0, "singular values below this share of the largest are dropped", low=0, high=1)
    rank: int | None = axis(None, "singular values kept at most", low=0)

    def inverse(self, s: Tensor) -> Tensor:
        """See :meth:`ClosedForm.inverse`."""
        keep = s >= self.cutoff * (s[0] if s.numel() else 0.0)
        if self.rank is not None:
            keep[self.rank :] = False
        return torch.where(keep, 1 / s, 0.0)
