"""N(0, 1/fan_in) (LeCun et al. 1998)."""

from dd.initializations._base import Gaussian


class FanIn(Gaussian):
    """Outputs of unit variance for inputs of unit variance."""

    def variance(self, fan_in: int, fan_out: int) -> float:
        """1/fan_in."""
        return 1 / fan_in
