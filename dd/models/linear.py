"""Linear regression on the first ``width`` inputs: the textbook model of double descent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from dd.components.model import BIAS, Model
from dd.errors import ConfigError
from dd.runs.axis import axis
from dd.runs.run import OriginOf, Run


@dataclass(frozen=True)
class Linear(Model):
    """features = the first ``width`` inputs; with ``data=linear_teacher`` its risk is known exactly."""

    nested = True

    bias: bool = axis(False, BIAS)

    def check(self, run: Run, origin: OriginOf) -> None:
        """The width cannot exceed the input dimension."""
        inputs = run.data.input_count
        if run.width > inputs:
            raise ConfigError(
                "width", run.width, f"must be <= {inputs}, the inputs of data={run.data.name}", origin("width")
            )

    def features(self, run: Run, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """See :meth:`Model.features`."""
        return x[..., : run.width]

    def interpolation_width(self, run: Run, inputs: int, outputs: int) -> float:
        """As many columns as samples."""
        return run.n_train - int(self.bias)
