"""Ridge regression, by singular value decomposition in float64."""

from __future__ import annotations

from dd.axis import Axis
from dd.config import RunConfig
from dd.optim._closed_form import ClosedForm


class Ridge(ClosedForm):
    """argmin |Z W - Y|² + penalty |W|², as ``sklearn.linear_model.Ridge(alpha=penalty, fit_intercept=False)``.

    A column of ones is penalised like the others.
    """

    options = (Axis("penalty", float, 1e-3, "weight of |W|² beside the summed squared error", low=0),)

    def penalty(self, run: RunConfig) -> float:
        """The option ``optimizer.penalty``."""
        return float(run.group_options("optimizer")["penalty"])
