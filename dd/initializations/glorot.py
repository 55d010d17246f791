"""N(0, 2/(fan_in + fan_out)) (Glorot & Bengio 2010)."""

from dataclasses import dataclass

from dd.components.initialization import Gaussian


@dataclass(frozen=True)
class Glorot(Gaussian):
    """Balances the variance of signals forward and of gradients backward."""

    def variance(self, fan_in: int, fan_out: int) -> float:
        """2/(fan_in + fan_out)."""
        return 2 / (fan_in + fan_out)
