"""L-BFGS with a strong-Wolfe line search: ``torch.optim.LBFGS``, one outer iteration a step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dd.components.optimizer import UnpackedRule
from dd.runs.axis import axis


@dataclass(frozen=True)
class LBFGS(UnpackedRule):
    """Full batches, one run at a time: the line search takes as many evaluations as each run needs.

    torch leaves out curvature pairs with y·s <= 1e-10, so very small losses are approached slowly.
    """

    history: int = axis(10, "curvature pairs that are kept", low=1)

    full_batch = True

    def build(self, parameters: list[Tensor], lr: float) -> torch.optim.Optimizer:
        """One iteration a call; the curvature pairs stay in the optimizer between calls, and it never stops early."""
        return torch.optim.LBFGS(
            parameters,
            lr=lr,
            max_iter=1,
            history_size=self.history,
            line_search_fn="strong_wolfe",
            tolerance_grad=0.0,
            tolerance_change=0.0,
        )
