"""What a normalisation must offer. It acts on the features, [runs, samples, features], just before the read-out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from dd.axis import Axis
from dd.registry import Component

EPS = Axis("eps", float, 1e-5, "added to variances", low=0, low_open=True)
AFFINE = Axis("affine", bool, True, "train a gain and a shift for each feature")


class Normalization(Component):
    """Base: by itself it has nothing to fit, to train or to remember.

    Attributes:
        batch_dependent: whether training uses the statistics of each batch.
        fitted: whether it is anything but the identity.
    """

    batch_dependent: ClassVar[bool] = False
    fitted: ClassVar[bool] = True

    def fit(self, features: Tensor, options: Mapping[str, Any]) -> dict[str, Tensor]:
        """Buffers of a run, from the training features at the start.

        Args:
            features: [runs, n_train, features].
            options: the component's options.

        Returns:
            Buffers by name, each [runs, 1, features].
        """
        return {}

    def trained(self, runs: int, features: Tensor, options: Mapping[str, Any]) -> dict[str, Tensor]:
        """Trained tensors by name, each [runs, 1, features]: gain 1 and shift 0 if ``affine``, else none."""
        if not options.get("affine"):
            return {}
        one = torch.ones(runs, 1, features.shape[2], dtype=features.dtype, device=features.device)
        return {"gain": one, "shift": torch.zeros_like(one)}

    @abstractmethod
    def apply(
        self,
        features: Tensor,
        buffers: dict[str, Tensor],
        trained: Mapping[str, Tensor],
        options: Mapping[str, Any],
        *,
        training: bool,
    ) -> Tensor:
        """Normalise features.

        Args:
            features: [runs, samples, features].
            buffers: of :meth:`fit`; may be updated in place while training.
            trained: of :meth:`trained`.
            options: the component's options.
            training: whether batch statistics are used (and remembered).

        Returns:
            [runs, samples, features].
        """

    def backward(
        self, upstream: Tensor, features: Tensor, buffers: dict[str, Tensor], options: Mapping[str, Any]
    ) -> Tensor:
        """Gradient in the features from the gradient in the normalised ones, both [runs, samples, features].

        Called where nothing is trained and no batch statistics are used; here by autograd.
        """
        leaf = features.detach().requires_grad_(True)
        with torch.enable_grad():
            normalised = self.apply(leaf, buffers, {}, options, training=False)
            return torch.autograd.grad(normalised, leaf, upstream)[0]


def affine(features: Tensor, trained: Mapping[str, Tensor]) -> Tensor:
    """Apply gain and shift where they exist."""
    return torch.addcmul(trained["shift"], features, trained["gain"]) if "gain" in trained else features


def inverse_spread(features: Tensor) -> Tensor:
    """1 / standard deviation of each feature over the samples, 0 for constant ones; [runs, 1, features]."""
    variance = features.var(dim=1, keepdim=True, unbiased=False)
    magnitude = features.square().mean(dim=1, keepdim=True)
    # rounding leaves a constant feature a variance of order eps² times its square
    constant = variance <= 1e-24 * magnitude
    return torch.where(constant, 0.0, variance.where(~constant, 1.0).rsqrt())
