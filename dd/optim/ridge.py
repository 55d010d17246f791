"""Ridge regression, by singular value decomposition in float64."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dd.components.optimizer import ClosedForm
from dd.runs.axis import axis


@dataclass(frozen=True)
class Ridge(ClosedForm):
    """argmin |Z W - Y|² + penalty |W|², as ``sklearn.linear_model.Ridge(alpha=penalty, fit_intercept=False)``.

    A column of ones is penalised like the others.
    """

    penalty: float = axis(1e-3, "weight of |W|² beside the summed squared error", low=0)

    @property
    def shrinkage(self) -> float:
        """See :attr:`Optimizer.shrinkage`."""
        return self.penalty

    def inverse(self, s: Tensor) -> Tensor:
        """See :meth:`ClosedForm.inverse`."""
        return s / (s * s + self.penalty)
