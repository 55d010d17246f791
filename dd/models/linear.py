"""Linear regression on the first ``width`` inputs: the textbook model of double descent."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dd.config import OriginOf, RunConfig
from dd.errors import ConfigError
from dd.models._base import BIAS, Model


class Linear(Model):
    """features = the first ``width`` inputs; with ``data=linear_teacher`` its risk is known exactly."""

    options = (BIAS,)

    def check(self, run: RunConfig, origin: OriginOf) -> None:
        """The width cannot exceed the input dimension."""
        inputs = run.component("data").inputs(run)
        if run.width > inputs:
            raise ConfigError(
                "width", run.width, f"must be <= {inputs}, the inputs of data={run.data}", origin("width")
            )

    def features(
        self, run: RunConfig, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor], x: Tensor
    ) -> Tensor:
        """See :meth:`Model.features`."""
        return x[..., : run.width]

    def interpolation_width(self, run: RunConfig, inputs: int, outputs: int) -> float:
        """As many columns as samples."""
        return run.n_train - int(run.group_options("model")["bias"])
