"""What a family of deep networks must offer beside :class:`dd.models._base.Model`: normalisation inside the network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from dd.config import RunConfig
from dd.models._base import Model, Tensors


class Compiled(Protocol):
    """One architecture in compiled code; tensors of one run, contiguous, on the CPU."""

    def gradient(
        self, theta: Tensor, buffers: Tensors, inputs: Tensor, targets: Tensor, out: Tensor, *, loss: str
    ) -> None:
        """Gradient of the training loss on a batch, with batch statistics; running ones move in place.

        Args:
            theta: parameters, [parameters].
            buffers: running statistics by name, each [1, 1, features]; none are kept where empty.
            inputs: prepared inputs, [samples, columns].
            targets: [samples, outputs].
            out: the gradient, [parameters].
            loss: ``mse`` or ``cross_entropy``.
        """

    def features(self, theta: Tensor, buffers: Tensors, inputs: Tensor, *, training: bool) -> Tensor:
        """Features of inputs, [samples, features]; with ``training`` by the statistics of all of them."""


class DeepModel(Model):
    """Base of the families whose normalisation acts inside, on several layers."""

    frozen_features = False
    deep = True

    @abstractmethod
    def build(self, run: RunConfig, device: torch.device, dtype: torch.dtype) -> None:
        """Make what all forward passes on a device share: inside a transform of ``torch.func`` it is too late."""

    @abstractmethod
    def buffers(self, run: RunConfig, inputs: int) -> Tensors:
        """Running statistics at the start by name, each [1, 1, features], float64."""

    @abstractmethod
    def normalised_features(
        self,
        run: RunConfig,
        trained: Mapping[str, Tensor],
        x: Tensor,
        buffers: Mapping[str, Tensor],
        *,
        training: bool,
    ) -> Tensor:
        """Features that the read-out sees, differentiable.

        Args:
            run: any run of the stack.
            trained: trained tensors, each [runs, rows, columns].
            x: prepared inputs, [1 or runs, samples, columns].
            buffers: running statistics, each [runs, 1, features]; moved in place where ``training``, but none are
                kept where empty.
            training: whether statistics are those of the batch.

        Returns:
            [runs, samples, features].
        """

    def compiled(self, run: RunConfig, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> Compiled | None:
        """The run's network in compiled code for the CPU; None where there is none.

        Args:
            run: any run of the stack.
            shapes: shapes of the trained tensors in the order in which they lie in a row of parameters.
            dtype: of parameters and inputs.
        """
        return None

    def features(
        self, run: RunConfig, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor], x: Tensor
    ) -> Tensor:
        """See :meth:`Model.features`: by the statistics of ``x``."""
        return self.normalised_features(run, trained, x, {}, training=True)
