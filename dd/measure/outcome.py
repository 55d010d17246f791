"""Losses and errors of a trained stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from dd import losses
from dd.components.model import Tensors
from dd.measure.label_noise import CleanAndNoisy
from dd.measure.solution import CurvePoint
from dd.network import Network, Parameters, Samples


@dataclass(frozen=True)
class Outcome:
    """Losses and 0-1 errors, each [runs]; errors are None for real targets, validation where nothing is held out."""

    train_loss: Tensor
    test_loss: Tensor
    train_error: Tensor | None
    test_error: Tensor | None
    validation_loss: Tensor | None = None
    validation_error: Tensor | None = None

    @classmethod
    def of_sides(cls, losses: Sequence[Tensor], errors: Sequence[Tensor | None]) -> Outcome:
        """From what training, test and perhaps validation samples give, in this order."""
        return cls(*losses[:2], *errors[:2], *losses[2:], *errors[2:])

    def points(self) -> list[CurvePoint]:
        """One point of a curve for each run; its step is still to be set."""
        known = {name: values.tolist() for name, values in vars(self).items() if values is not None}
        blank = {"train_error": None, "test_error": None}
        points = (dict(zip(known, values, strict=True)) for values in zip(*known.values(), strict=True))
        return [CurvePoint(step=0, **blank | point) for point in points]


def outcome(
    network: Network,
    theta: Parameters,
    buffers: Tensors,
    train: Samples,
    test: Samples,
    validation: Samples | None = None,
    *,
    parts: CleanAndNoisy | None = None,
) -> Outcome:
    """Evaluate a stack on its training, test and validation samples (running statistics, noisy training labels).

    Args:
        network: the stack.
        theta: parameters.
        buffers: the normalisation's memory.
        train: the network's training samples in theta's precision.
        test: its test samples in theta's precision.
        validation: its validation samples, if it has some.
        parts: takes the outputs on the training samples.
    """
    values, wrongs = [], []
    for samples in (train, test, *([validation] if validation else [])):
        outputs = network.predict(theta, samples.inputs, buffers)
        if samples is train and parts is not None:
            parts.add(outputs, samples)
        values.append(losses.value(network.run.loss, outputs, samples.targets))
        wrongs.append(None if samples.classes is None else losses.error(outputs, samples.classes))
    return Outcome.of_sides(values, wrongs)
