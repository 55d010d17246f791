"""N(0, 2/fan_in) (He et al., arXiv 1502.01852)."""

from dataclasses import dataclass

from dd.components.initialization import Gaussian


@dataclass(frozen=True)
class He(Gaussian):
    """Keeps the second moment through ReLU layers."""

    def variance(self, fan_in: int, fan_out: int) -> float:
        """2/fan_in."""
        return 2 / fan_in
