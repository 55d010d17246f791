"""A fixed design matrix, with what is computed from it once for all runs on it."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from dd.closed.dynamics import Group
from dd.measure.factors import factorize
from dd.measure.smoother import mode_power
from dd.measure.spectrum import Spectrum
from dd.network import Network


class Design:
    """The matrix that the read-out of a linear network sees.

    Args:
        network: any run's on this matrix.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.factors = factorize(network.exact_train.inputs[0])

    @property
    def spectrum(self) -> Spectrum:
        """Rank, extreme singular values and condition number."""
        return self.factors.spectrum

    @cached_property
    def test_power(self) -> Tensor:
        """Mean square of the test inputs along the singular directions, [rank]."""
        return mode_power(self.network.exact_test.inputs[0] @ self.factors.kept().vh.T)

    @cached_property
    def group(self) -> Group:
        """Exact dynamics on it."""
        return Group(self.network, self.factors)
