"""What an optimizer must offer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from dd.components.polynomials import Modes, Response
from dd.errors import ConfigError
from dd.runs.axis import axis
from dd.runs.component import Component
from dd.runs.run import OriginOf, Run

State = dict[str, Tensor]
"""What a rule remembers between steps, by name."""

Hyper = dict[str, Tensor]
"""``lr`` and every option that is a ``float``, each [runs, 1].

Beside ``NAME`` there are ``exact NAME`` in float64, and ``1-NAME`` rounded from there, since 1 - 0.999 keeps only four
digits in float32.
"""

Number = int | Tensor
"""Number of a step, from 1; where steps are recorded a tensor of no dimension, float64: they find it on the device."""

Split = Callable[[Tensor], list[Tensor]]
"""From flat parameters [runs, parameters] to views: matrices [runs, rows, columns] and vectors [runs, size]."""


def weight_decay_axis() -> float:
    """Declare ``weight_decay`` as torch's rules without decoupling have it."""
    return axis(0.0, "L2 penalty added to the gradient, as torch", low=0)


def decoupled_axis() -> float:
    """Declare ``weight_decay`` of a rule that calls :func:`decouple`."""
    return axis(0.0, "decoupled: each step shrinks theta by lr times this", low=0)


def eps_axis(default: float = 1e-8) -> float:
    """Declare ``eps`` of a rule that divides by the root of a mean or sum of squares."""
    return axis(default, "added to the denominator", low=0)


CLAIMS = dict.fromkeys(("exact", "memoryless", "sequential", "monotone", "stationary", "dual", "elementwise"), False)
"""What a class says about its own :data:`STEPS`; a subclass with others says it again, or it does not hold."""

STEPS = ("init_state", "start", "update")
"""Methods that decide about a rule's steps."""


class Optimizer(Component):
    """Base of update rules and closed forms; a frozen dataclass whose fields are its options.

    All claims of the class, :data:`CLAIMS`, are false unless it makes them: a rule from outside is iterated by plain
    steps, whatever it inherits from.

    Attributes:
        closed_form: the solution is computed, not iterated.
        full_batch: takes whole training sets only.
        adaptive: has a preconditioner of its own.
        step_size: whether it takes ``lr``, and with it a schedule.
        exact: whether full-batch steps on a quadratic have a closed form, :meth:`response`.
        memoryless: whether such a step depends on the present point and its own size alone, so that its effect,
            :meth:`one_step`, may be multiplied over steps of any sizes: exact dynamics under a schedule.
        sequential: whether :meth:`response` costs as many steps as the longest asked for.
        iterable: whether it can be iterated.
        monotone: whether its loss on a quadratic never rises, as long as it converges.
        stationary: whether each step applies the same linear map to the distance from a quadratic's minimum, so that
            the Hessian's spectrum, by :meth:`rates`, decides convergence.
        smooths: whether its residual polynomial is the same for all targets, so that what it learns in some number of
            steps on a quadratic is linear in them.
        dual: whether a read-out's steps stay in the span of the training features and its start, so that they can be
            taken in function space (``dd.trainers.function_space``).
        elementwise: whether each parameter is updated from its own gradient and state alone, and a zero without
            gradient stays zero, for tensors of any number of leading axes: only then may runs be padded.
    """

    closed_form: ClassVar[bool] = False
    full_batch: ClassVar[bool] = False
    adaptive: ClassVar[bool] = False
    step_size: ClassVar[bool] = True
    exact: ClassVar[bool] = False
    memoryless: ClassVar[bool] = False
    sequential: ClassVar[bool] = False
    iterable: ClassVar[bool] = True
    monotone: ClassVar[bool] = False
    stationary: ClassVar[bool] = False
    smooths: ClassVar[bool] = True
    dual: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False

    def __init_subclass__(cls, name: str | None = None) -> None:
        super().__init_subclass__(name)
        cls.withdraw(CLAIMS, STEPS)

    @property
    def weight_decay(self) -> float:
        """Weight decay, as the rule means it; one that has it declares a field."""
        return 0.0

    @property
    def shrinkage(self) -> float:
        """Weight of |W|² beside the summed squared error in what a closed form minimises."""
        return 0.0

    def rates(self, h: Tensor) -> Tensor | None:
        """Share of each eigendirection's distance that a late step removes, [modes]; negative where it diverges.

        Args:
            h: step size times eigenvalue, [modes].

        Returns:
            None where it is h, as for gradient descent with small steps: then the Hessian's condition number counts.
        """
        return None

    def response(self, lr: float | None, modes: Modes, steps: Sequence[int]) -> Response:
        """What some numbers of full-batch steps do to each eigendirection of a quadratic.

        Args:
            lr: absolute step size; None without one.
            modes: eigendirections, weight decay included.
            steps: numbers of steps.
        """
        raise NotImplementedError(f"{self.name} has no exact dynamics")

    def one_step(self, h: Tensor) -> Response:
        """What one full-batch step does to an eigendirection of a quadratic: P_1 and 1 - P_1, in the shape of h.

        Args:
            h: step size times curvature, weight decay included.
        """
        raise NotImplementedError(f"{self.name} has no single steps")

    def check(self, run: Run, origin: OriginOf) -> None:
        """Refuse mini-batches where only full batches make sense."""
        if self.full_batch and not self.closed_form and run.batch_size != run.n_train:
            raise ConfigError(
                "batch_size",
                run.batch_size,
                f"optimizer={self.name} takes batch_size=full only",
                origin("batch_size"),
            )


class ClosedForm(Optimizer):
    """Base of least squares in the read-out of frozen features; ``dd.measure.factors`` computes it."""

    closed_form = True
    iterable = False

    @abstractmethod
    def inverse(self, s: Tensor) -> Tensor:
        """What stands for 1/s in the solution V (1/s) Uᵀ Y.

        Args:
            s: singular values above the tolerance, descending, [rank].
        """

    def check(self, run: Run, origin: OriginOf) -> None:
        """A closed form needs frozen features and squared loss."""
        if not run.model.frozen_features:
            raise ConfigError(
                "optimizer",
                self.name,
                f"solves for the read-out of frozen features only; model={run.model.name} trains its features",
                origin("optimizer"),
            )
        if run.loss != "mse":
            raise ConfigError("optimizer", self.name, "solves least squares; use loss=mse", origin("optimizer"))


class UpdateRule(Optimizer):
    """Base of the packed rules: one step of a whole stack, whose runs may differ in every ``float`` option.

    A rule finds those in ``hyper``, and all other options, in which the runs of a stack agree, in its own fields.
    """

    def init_state(self, theta: Tensor, hyper: Hyper) -> State:
        """State before the first step, for parameters [runs, parameters]."""
        return {}

    @abstractmethod
    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
        """Take one step in place.

        Args:
            theta: [runs, parameters].
            grad: [runs, parameters]; may be used as scratch space.
            state: of :meth:`init_state`, updated in place.
            hyper: hyper-parameters of the stack.
            step: number of this step, from 1.
        """

    def preconditioner(self, state: State, hyper: Hyper, step: Number) -> Tensor | None:
        """Diagonal D of the last step theta -= lr · m / D, [runs, parameters]; None where D = 1."""
        return None


class MatrixRule(UpdateRule):
    """Base of the rules that see weight matrices as matrices; trainers :data:`Split` what is flat.

    ``state`` holds the same part of every tensor of :meth:`init_state` as ``theta`` is of the parameters.
    """

    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
        """Refuse parameters that are not split.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{self.name} updates matrices and vectors, not flat parameters")

    @abstractmethod
    def update_matrix(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
        """Take one step in place of a weight matrix, [runs, rows, columns]; see :meth:`UpdateRule.update`."""

    @abstractmethod
    def update_vector(self, theta: Tensor, grad: Tensor, state: State, hyper: Hyper, step: Number) -> None:
        """Take one step in place of a vector (biases, gains), [runs, size]; see :meth:`UpdateRule.update`."""


Product = Callable[[Tensor], Tensor]
"""From a direction [runs, parameters] to its product with the Hessian of the training loss plus weight decay."""


class QuadraticRule(Optimizer):
    """Base of the methods for quadratics without a step size, full batches only; each run is trained alone."""

    full_batch = True
    step_size = False

    def start(self, lowest: float, highest: float) -> State:
        """State before the first step.

        Args:
            lowest: smallest eigenvalue above the tolerance of the training loss's Hessian, plus weight decay.
            highest: the largest one.
        """
        return {}

    @abstractmethod
    def update(self, theta: Tensor, grad: Tensor, state: State, product: Product) -> None:
        """Take one step in place.

        Args:
            theta: [1, parameters].
            grad: gradient of the training loss plus weight decay, [1, parameters].
            state: of :meth:`start`, updated in place.
            product: the loss's Hessian.
        """


class UnpackedRule(Optimizer):
    """Base of the optimizers that decide for one model at a time; each run is trained alone."""

    @abstractmethod
    def build(self, parameters: list[Tensor], lr: float) -> torch.optim.Optimizer:
        """Return an optimizer of one run.

        Args:
            parameters: leaves: weight matrices [rows, columns] and vectors [size].
            lr: absolute step size.
        """


def decay(theta: Tensor, grad: Tensor, hyper: Hyper) -> Tensor:
    """Add ``weight_decay · theta`` to the gradient, in place, where any run asks for it."""
    return grad.addcmul_(hyper["weight_decay"], theta) if _decays(hyper) else grad


def decouple(theta: Tensor, hyper: Hyper) -> None:
    """Shrink ``theta`` by ``lr · weight_decay`` of itself, in place, where any run asks for it."""
    if _decays(hyper):
        kept = 1 - hyper["lr"] * hyper["weight_decay"]
        theta.mul_(kept[..., None] if theta.ndim > kept.ndim else kept)  # a matrix of each run has one axis more


def _decays(hyper: Hyper) -> Tensor:
    """Whether any run has weight decay; decided once a stack, not once a step: reading a value waits for the device."""
    if "decays" not in hyper:
        hyper["decays"] = (hyper["weight_decay"] != 0).any().cpu()
    return hyper["decays"]
