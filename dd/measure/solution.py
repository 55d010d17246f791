"""What every trainer returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from dd.components.model import Tensors
from dd.measure.factors import Factors
from dd.measure.smoother import EffectiveParameters


@dataclass
class CurvePoint:
    """Losses and errors of one run at one logged step.

    Attributes:
        step: updates before it.
        train_loss: over the training samples that count, noisy labels included.
        test_loss: over the test samples that count.
        train_error: 0-1 error; None for real targets.
        test_error: None for real targets.
        curve_samples: training samples that count, the first ones. Fewer than all: as many test samples count at most.
        validation_loss: over all samples held out; None without.
        validation_error: None without, and for real targets.
    """

    step: int
    train_loss: float
    test_loss: float
    train_error: float | None
    test_error: float | None
    curve_samples: int = 0
    validation_loss: float | None = None
    validation_error: float | None = None


@dataclass
class Snapshot:
    """State of one run at some step.

    Attributes:
        theta: trained parameters, [parameters].
        buffers: the normalisation's memory, each [1, features].
        preconditioner: diagonal of the optimizer, [parameters], or None.
    """

    theta: Tensor
    buffers: Tensors
    preconditioner: Tensor | None


@dataclass(frozen=True)
class Measured:
    """What a trainer knows of its solution better than the weights tell: small losses keep their relative accuracy.

    Attributes:
        point: losses and errors.
        weight_norm: Euclidean norm of all trained parameters.
        gradient_norm: of the full-batch training loss.
    """

    point: CurvePoint
    weight_norm: float
    gradient_norm: float


@dataclass
class Solution:
    """Outcome of training one run.

    Attributes:
        theta: trained parameters, [parameters].
        buffers: the normalisation's memory, each [1, features].
        trainer: name of what trained it.
        status: ``ok`` or ``diverged`` (then everything is from the last finite state).
        steps_done: updates behind ``theta``; None for a closed form.
        preconditioner: diagonal of the optimizer at that step, [parameters], or None.
        curve: logged steps.
        measured: losses and norms, where the trainer knows them itself.
        effective_parameters: where outputs are known to be linear in the targets, else None.
        factors: decomposition of the matrix that the read-out sees, where the trainer alone knows it.
    """

    theta: Tensor
    buffers: Tensors
    trainer: str
    status: str = "ok"
    steps_done: int | None = None
    preconditioner: Tensor | None = None
    curve: list[CurvePoint] = field(default_factory=list)
    measured: Measured | None = None
    effective_parameters: EffectiveParameters | None = None
    factors: Factors | None = None
