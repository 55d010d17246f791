"""What a normalisation must offer. It acts on the features, [runs, samples, features], just before the read-out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from dd.components.divisors import Divisors
from dd.errors import ConfigError
from dd.runs.axis import axis
from dd.runs.component import Component


class Normalization(Component):
    """Base: by itself it has nothing to fit, to train or to remember; a frozen dataclass.

    Attributes:
        batch_dependent: whether what it makes of a sample may depend on the batch or change in training; one that says
            no is applied once to frozen features.
        fitted: whether it is anything but the identity.
    """

    batch_dependent: ClassVar[bool] = True
    fitted: ClassVar[bool] = True

    def __init_subclass__(cls, name: str | None = None) -> None:
        super().__init_subclass__(name)
        cls.withdraw({"batch_dependent": True, "fitted": True}, ("apply",))
        cls.withdraw({"divisors": Normalization.divisors}, ("apply", "fit", "settled", "scaled"))

    @property
    def trains(self) -> bool:
        """Whether a gain and a shift of the features are trained."""
        return False

    @property
    def memory(self) -> float | None:
        """Weight of a new batch in the running statistics; None without such statistics."""
        return None

    def fit(self, features: Tensor) -> dict[str, Tensor]:
        """Buffers of a run, from the training features at the start.

        Args:
            features: [runs, n_train, features].

        Returns:
            Buffers by name, each [runs, 1, features].
        """
        return {}

    def settled(self, features: Tensor) -> dict[str, Tensor]:
        """Buffers after training with all features as the batch for ever, as a closed form uses them; see :meth:`fit`.

        Raises:
            NotImplementedError: it is ``batch_dependent``, and does not say.
        """
        if self.batch_dependent:
            raise NotImplementedError(f"normalization={self.name} says nothing about closed forms")
        return self.fit(features)

    def trained(self, runs: int, features: Tensor) -> dict[str, Tensor]:
        """Trained tensors of a stack by name, each [runs, 1, features]: gain 1 and shift 0, if it ``trains``."""
        if not self.trains:
            return {}
        one = torch.ones(runs, 1, features.shape[2], dtype=features.dtype, device=features.device)
        return {"gain": one, "shift": torch.zeros_like(one)}

    def untrained(self) -> Self:
        """The same with nothing trained, for closed forms; one that ``trains`` says how.

        Raises:
            ConfigError: it trains, and does not say.
        """
        if self.trains:
            raise ConfigError("normalization", self.name, "is trained: closed forms need one that is not")
        return self

    def divisors(self, buffers: Mapping[str, Tensor]) -> Divisors | None:
        """What evaluation divides features by, where training samples decide it; None: they do not, or nobody says.

        Args:
            buffers: of :meth:`fit` or :meth:`settled`, as training has left them.
        """
        return None

    @abstractmethod
    def apply(
        self, features: Tensor, buffers: dict[str, Tensor], trained: Mapping[str, Tensor], *, training: bool
    ) -> Tensor:
        """Normalise features.

        Args:
            features: [runs, samples, features].
            buffers: of :meth:`fit`; may be updated in place while training.
            trained: of :meth:`trained`.
            training: whether batch statistics are used (and remembered).

        Returns:
            [runs, samples, features].
        """


@dataclass(frozen=True)
class AffineNormalization(Normalization):
    """Base of the normalizations by a mean and a variance, with a gain and a shift for each feature after them."""

    eps: float = axis(1e-5, "added to variances", low=0, low_open=True)
    affine: bool = axis(True, "train a gain and a shift for each feature")

    @property
    def trains(self) -> bool:
        """The option ``affine``."""
        return self.affine

    def untrained(self) -> Self:
        """See :meth:`Normalization.untrained`."""
        return replace(self, affine=False)

    def scaled(self, centred: Tensor, variance: Tensor, trained: Mapping[str, Tensor]) -> Tensor:
        """Divide centred features by the root of ``variance + eps``; then gain and shift, where they exist."""
        unit = centred * (variance + self.eps).rsqrt()
        return torch.addcmul(trained["shift"], unit, trained["gain"]) if "gain" in trained else unit


def spread_divisors(inverse: Tensor) -> Divisors:
    """Divisors of a normalization that multiplies by :func:`inverse_spread`."""
    return Divisors(torch.where(inverse > 0, inverse.square().reciprocal(), 0.0), eps=None)


def inverse_spread(features: Tensor) -> Tensor:
    """1 / standard deviation of each feature over the samples, 0 for constant ones; [runs, 1, features]."""
    variance = features.var(dim=1, keepdim=True, unbiased=False)
    magnitude = features.square().mean(dim=1, keepdim=True)
    # rounding leaves a constant feature a variance of order eps² times its square
    constant = variance <= 1e-24 * magnitude
    return torch.where(constant, 0.0, variance.where(~constant, 1.0).rsqrt())
