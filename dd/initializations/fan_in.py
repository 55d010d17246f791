"""N(0, 1/fan_in) (LeCun et al. 1998)."""

from dataclasses import dataclass

from dd.components.initialization import Gaussian


@dataclass(frozen=True)
class FanIn(Gaussian):
    """Outputs of unit variance for inputs of unit variance."""

    def variance(self, fan_in: int, fan_out: int) -> float:
        """1/fan_in."""
        return 1 / fan_in
