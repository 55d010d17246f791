"""Batch normalisation of each feature (Ioffe & Szegedy, arXiv 1502.03167)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dd.components.divisors import Divisors
from dd.components.normalization import AffineNormalization
from dd.errors import ConfigError
from dd.runs.axis import axis
from dd.runs.run import OriginOf, Run


@dataclass(frozen=True)
class BatchNorm(AffineNormalization):
    """As ``torch.nn.BatchNorm1d(width)``: batch statistics in training, running ones in evaluation.

    A closed form has no batches: it uses the statistics of the whole training set, gain 1 and shift 0.
    """

    momentum: float = axis(0.1, "weight of a new batch in the running statistics", low=0, high=1, low_open=True)

    @property
    def memory(self) -> float | None:
        """The option ``momentum``."""
        return self.momentum

    def check(self, run: Run, origin: OriginOf) -> None:
        """A batch of one sample has no variance, but in a deep network, whose maps have many pixels."""
        if run.model.deep:
            return
        if run.batch_size is not None and (run.batch_size == 1 or run.n_train % run.batch_size == 1):
            raise ConfigError(
                "batch_size",
                run.batch_size,
                f"normalization=batch_norm needs at least 2 samples in every batch of data.n_train={run.n_train}",
                origin("batch_size"),
            )

    def fit(self, features: Tensor) -> dict[str, Tensor]:
        """Running mean 0 and variance 1, as torch starts."""
        shape = (features.shape[0], 1, features.shape[2])
        return {"mean": features.new_zeros(shape), "variance": features.new_ones(shape)}

    def settled(self, features: Tensor) -> dict[str, Tensor]:
        """Mean and variance of all features."""
        variance = features.var(dim=1, keepdim=True, unbiased=False)
        return {"mean": features.mean(dim=1, keepdim=True), "variance": variance}

    def divisors(self, buffers: Mapping[str, Tensor]) -> Divisors:
        """By the variances that evaluation uses."""
        return Divisors(buffers["variance"], self.eps)

    def apply(
        self, features: Tensor, buffers: dict[str, Tensor], trained: Mapping[str, Tensor], *, training: bool
    ) -> Tensor:
        """Normalise by batch or running statistics; in training the running ones, if any, move (unbiased)."""
        if training:
            mean = features.mean(dim=1, keepdim=True)
            variance = features.var(dim=1, keepdim=True, unbiased=False)
            if buffers:
                with torch.no_grad():
                    count = features.shape[1]
                    buffers["mean"].lerp_(mean, self.momentum)
                    buffers["variance"].lerp_(variance * (count / max(count - 1, 1)), self.momentum)
        else:
            mean, variance = buffers["mean"], buffers["variance"]
        return self.scaled(features - mean, variance, trained)
