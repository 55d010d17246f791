"""N(0, 0.02²) whatever the size of the layer: the scheme of many vision transformers."""

from dataclasses import dataclass

from dd.components.initialization import Gaussian

DEVIATION = 0.02


@dataclass(frozen=True)
class Fixed(Gaussian):
    """Weights of one standard deviation, which does not know the width."""

    def variance(self, fan_in: int, fan_out: int) -> float:
        """0.02²."""
        return DEVIATION**2
