"""Names of solutions that are computed, not iterated; ``dd.solvers.closed_form`` computes them."""

from __future__ import annotations

from torch import Tensor

from dd.config import OriginOf, RunConfig
from dd.errors import ConfigError
from dd.optim._base import Optimizer


class ClosedForm(Optimizer):
    """Least squares in the read-out of frozen features."""

    closed_form = True
    iterable = False

    def penalty(self, run: RunConfig) -> float:
        """Weight of |W|²; zero for the min-norm solution."""
        return 0.0

    def inverse(self, run: RunConfig, s: Tensor) -> Tensor:
        """What stands for 1/s in the solution V (1/s) Uᵀ Y.

        Args:
            run: the run; its options are the optimizer's.
            s: singular values above the tolerance, descending, [rank].
        """
        return s / (s * s + self.penalty(run))

    def check(self, run: RunConfig, origin: OriginOf) -> None:
        """A closed form needs frozen features and squared loss."""
        if not run.component("model").frozen_features:
            raise ConfigError(
                "optimizer",
                run.optimizer,
                f"solves for the read-out of frozen features only; model={run.model} trains its features",
                origin("optimizer"),
            )
        if run.loss != "mse":
            raise ConfigError("optimizer", run.optimizer, "solves least squares; use loss=mse", origin("optimizer"))
