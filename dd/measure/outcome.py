"""Losses and errors of a trained stack."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dd import losses
from dd.components.model import Tensors
from dd.measure.label_noise import CleanAndNoisy
from dd.measure.solution import CurvePoint
from dd.network import Network, Parameters, Samples


@dataclass(frozen=True)
class Outcome:
    """Losses and 0-1 errors, each [runs]; errors are None for real targets."""

    train_loss: Tensor
    test_loss: Tensor
    train_error: Tensor | None
    test_error: Tensor | None

    def points(self) -> list[CurvePoint]:
        """One point of a curve for each run; its step is still to be set."""
        blank: list[None] = [None] * len(self.train_loss)
        errors = (blank if e is None else e.tolist() for e in (self.train_error, self.test_error))
        columns = zip(self.train_loss.tolist(), self.test_loss.tolist(), *errors, strict=True)
        return [CurvePoint(0, *values) for values in columns]


def outcome(
    network: Network,
    theta: Parameters,
    buffers: Tensors,
    train: Samples,
    test: Samples,
    *,
    parts: CleanAndNoisy | None = None,
) -> Outcome:
    """Evaluate a stack on its training and test samples (running statistics, noisy training labels).

    Args:
        network: the stack.
        theta: parameters.
        buffers: the normalisation's memory.
        train: the network's training samples in theta's precision.
        test: its test samples in theta's precision.
        parts: takes the outputs on the training samples.
    """
    values, wrongs = [], []
    for samples in (train, test):
        outputs = network.predict(theta, samples.inputs, buffers)
        if samples is train and parts is not None:
            parts.add(outputs, samples)
        values.append(losses.value(network.run.loss, outputs, samples.targets))
        wrongs.append(None if samples.classes is None else losses.error(outputs, samples.classes))
    return Outcome(values[0], values[1], wrongs[0], wrongs[1])
