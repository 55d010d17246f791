"""What an initialization must offer."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from dd.runs.component import Component


class Initialization(Component):
    """Law of one trained layer, a frozen dataclass.

    Weights are drawn unit by unit, so that a narrow layer is the start of a wide one.
    """

    @abstractmethod
    def weight(
        self, generator: np.random.Generator, units: int, per_unit: int, fan_in: int, fan_out: int
    ) -> NDArray[np.float64]:
        """Draw the weights of a layer.

        Args:
            generator: the layer's own stream.
            units: hidden units that the weights belong to (the width).
            per_unit: weights of each unit (inputs of a hidden layer, outputs of a read-out).
            fan_in: inputs of the layer.
            fan_out: outputs of the layer.

        Returns:
            [units, per_unit], before ``init.scale``.
        """

    def bias(self, generator: np.random.Generator, size: int, fan_in: int) -> NDArray[np.float64]:
        """Draw the biases of a layer: zero unless the scheme says otherwise.

        Args:
            generator: the bias's own stream.
            size: number of biases.
            fan_in: inputs of the layer.
        """
        return np.zeros(size)


class Gaussian(Initialization):
    """Base of the schemes N(0, variance) that differ in the variance alone."""

    @abstractmethod
    def variance(self, fan_in: int, fan_out: int) -> float:
        """Variance of a weight."""

    def weight(
        self, generator: np.random.Generator, units: int, per_unit: int, fan_in: int, fan_out: int
    ) -> NDArray[np.float64]:
        """Draw N(0, variance) entries."""
        return generator.standard_normal((units, per_unit)) * np.sqrt(self.variance(fan_in, fan_out))


class OwnStart(Initialization):
    """Base of the scheme by which a torch module starts its own parameters."""
