"""Names of solutions that are computed, not iterated; ``dd.solvers.closed_form`` computes them."""

from __future__ import annotations

from dd.config import OriginOf, RunConfig
from dd.errors import ConfigError
from dd.optim._base import Optimizer


class ClosedForm(Optimizer):
    """Least squares in the read-out of frozen features."""

    closed_form = True

    def penalty(self, run: RunConfig) -> float:
        """Weight of |W|²; zero for the min-norm solution."""
        return 0.0

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
