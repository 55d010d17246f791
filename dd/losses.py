"""Training losses and their gradients, for each run of a stack."""

from __future__ import annotations

import torch
from torch import Tensor


def value(name: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Loss of each run.

    Args:
        name: ``mse``: mean squared error over samples and outputs; ``cross_entropy``: mean over samples.
        outputs: [runs, samples, outputs].
        targets: one-hot classes or real targets, [samples, outputs] or [runs, samples, outputs].

    Returns:
        [runs].
    """
    if name == "mse":
        return (outputs - targets).square().mean(dim=(1, 2))
    _must_be_cross_entropy(name)
    return -(outputs.log_softmax(dim=2) * targets).sum(dim=2).mean(dim=1)


def gradient(name: str, outputs: Tensor, targets: Tensor) -> Tensor:
    """Gradient of :func:`value` in the outputs, [runs, samples, outputs]; arguments as there."""
    if name == "mse":
        return (outputs - targets).mul_(2.0 / (outputs.shape[1] * outputs.shape[2]))
    _must_be_cross_entropy(name)
    return (outputs.softmax(dim=2) - targets).mul_(1.0 / outputs.shape[1])


def _must_be_cross_entropy(name: str) -> None:
    if name != "cross_entropy":
        raise ValueError(f"loss={name} has no formula in dd/losses.py")


def error(outputs: Tensor, classes: Tensor) -> Tensor:
    """0-1 error of each run, [runs]: share of samples whose largest output is not the target class.

    Args:
        outputs: [runs, samples, outputs]; of equal largest ones the first counts.
        classes: target classes, [samples] or [runs, samples].
    """
    # max is ten times faster than argmax where outputs are stored output by output, as the read-out leaves them
    wrong = outputs.mT.max(dim=1).indices != classes
    return wrong.to(torch.float64).mean(dim=1)
