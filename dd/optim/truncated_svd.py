"""Least squares on the leading singular directions of the features (truncated singular value decomposition)."""

from __future__ import annotations

import torch
from torch import Tensor

from dd.axis import Axis
from dd.config import RunConfig
from dd.optim._closed_form import ClosedForm


class TruncatedSVD(ClosedForm):
    """The min-norm solution without the directions of small singular values.

    What gradient descent from zero does softly by stopping early (Hansen 1998; the ablation of Schaeffer et al.,
    arXiv 2303.14151).
    """

    options = (
        Axis("cutoff", float, 0.0, "singular values below this share of the largest are dropped", low=0, high=1),
        Axis("rank", int, None, "singular values kept at most", low=0, nullable=True),
    )

    def inverse(self, run: RunConfig, s: Tensor) -> Tensor:
        """See :meth:`ClosedForm.inverse`."""
        options = run.group_options("optimizer")
        keep = s >= options["cutoff"] * (s[0] if s.numel() else 0.0)
        if options["rank"] is not None:
            keep[options["rank"] :] = False
        return torch.where(keep, 1 / s, 0.0)
