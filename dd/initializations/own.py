"""What a torch module draws itself when it is made, torch's generator seeded by the run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dd.components.initialization import OwnStart
from dd.components.module import ModuleModel
from dd.errors import ConfigError
from dd.initializations.torch import TorchLinear
from dd.runs.run import OriginOf, Run


@dataclass(frozen=True)
class Own(OwnStart):
    """For models that are torch modules; a read-out that dd adds to one starts as ``torch.nn.Linear`` does."""

    def weight(
        self, generator: np.random.Generator, units: int, per_unit: int, fan_in: int, fan_out: int
    ) -> NDArray[np.float64]:
        """As ``init=torch``."""
        return TorchLinear().weight(generator, units, per_unit, fan_in, fan_out)

    def bias(self, generator: np.random.Generator, size: int, fan_in: int) -> NDArray[np.float64]:
        """As ``init=torch``."""
        return TorchLinear().bias(generator, size, fan_in)

    def check(self, run: Run, origin: OriginOf) -> None:
        """Refuse models that are no modules."""
        if not isinstance(run.model, ModuleModel):
            allowed = f"is for models that are torch modules; model={run.model.name} is none: use init=torch"
            raise ConfigError("init", self.name, allowed, origin("init"))
