"""What an optimizer must offer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from dd.axis import Axis
from dd.config import OriginOf, RunConfig
from dd.errors import ConfigError
from dd.optim._dynamics import Modes, Response
from dd.registry import Component

WEIGHT_DECAY = Axis("weight_decay", float, 0.0, "L2 penalty added to the gradient, as torch", low=0)

State = dict[str, Tensor]

Number = int | Tensor
"""Number of a step, from 1; where steps are recorded a tensor of no dimension, float64: they find it on the device."""

Split = Callable[[Tensor], list[Tensor]]
"""From flat parameters [runs, parameters] to views: matrices [runs, rows, columns] and vectors [runs, size]."""


class Optimizer(Component):
    """Base of update rules and closed forms.

    Attributes:
        closed_form: the solution is computed, not iterated.
        full_batch: takes whole training sets only.
        adaptive: has a preconditioner of its own.
        packable: whether runs can share one call; if not, each run is trained alone.
        step_size: whether it takes ``lr``.
        exact: whether full-batch steps on a quadratic have a closed form, :meth:`response`.
        sequential: whether :meth:`response` costs as many steps as the longest asked for.
        iterable: whether it can be iterated.
        monotone: whether its loss on a quadratic never rises, as long as it converges.
        stationary: whether each step applies the same linear map to the distance from a quadratic's minimum, so that
            the Hessian's spectrum, by :meth:`rates`, decides convergence.
        smooths: whether its residual polynomial is the same for all targets, so that what it learns in some number of
            steps on a quadratic is linear in them.
        dual: whether a read-out's steps stay in the span of the training features and its start, so that they can be
            taken in function space (``dd.solvers.kernel``).
    """

    closed_form: ClassVar[bool] = False
    full_batch: ClassVar[bool] = False
    adaptive: ClassVar[bool] = False
    packable: ClassVar[bool] = True
    step_size: ClassVar[bool] = True
    exact: ClassVar[bool] = False
    sequential: ClassVar[bool] = False
    iterable: ClassVar[bool] = True
    monotone: ClassVar[bool] = False
    stationary: ClassVar[bool] = False
    smooths: ClassVar[bool] = True
    dual: ClassVar[bool] = False

    def rates(self, run: RunConfig, h: Tensor) -> Tensor | None:
        """Share of each eigendirection's distance that a late step removes, [modes]; negative where it diverges.

        Args:
            run: the run; its options are the optimizer's.
            h: step size times eigenvalue, [modes].

        Returns:
            None where it is h, as for gradient descent with small steps: then the Hessian's condition number counts.
        """
        return None

    def response(self, run: RunConfig, lr: float | None, modes: Modes, steps: Sequence[int]) -> Response:
        """What some numbers of full-batch steps do to each eigendirection of a quadratic.

        Args:
            run: the run; its options are the optimizer's.
            lr: absolute step size; None without one.
            modes: eigendirections, weight decay included.
            steps: numbers of steps.
        """
        raise NotImplementedError(f"{run.optimizer} has no exact dynamics")

    def check(self, run: RunConfig, origin: OriginOf) -> None:
        """Refuse mini-batches where only full batches make sense."""
        if self.full_batch and not self.closed_form and run.batch_size != run.n_train:
            raise ConfigError(
                "batch_size",
                run.batch_size,
                f"optimizer={run.optimizer} takes batch_size=full only",
                origin("batch_size"),
            )


class UpdateRule(Optimizer):
    """Base of the packed rules.

    Attributes:
        elementwise: whether each parameter is updated from its own gradient and state alone, and a zero without
            gradient stays zero, for tensors of any number of leading axes: only then may runs be padded.
    """

    elementwise: ClassVar[bool] = True

    def hyper(self, runs: Sequence[RunConfig], lr: Tensor) -> dict[str, Tensor]:
        """Hyper-parameters of a stack.

        Args:
            runs: the stack.
            lr: absolute step sizes, [runs].

        Returns:
            ``lr`` and every numeric option, each [runs, 1]; with ``exact NAME`` in float64 and ``1-NAME`` rounded
            from there, since 1 - 0.999 keeps only four digits in float32.
        """
        out = {"lr": lr[:, None]}
        for axis in self.options:
            if axis.kind is float:
                values = [run.group_options("optimizer")[axis.key] for run in runs]
                exact = torch.tensor(values, dtype=torch.float64, device=lr.device)[:, None]
                out |= {
                    axis.key: exact.to(lr.dtype),
                    f"exact {axis.key}": exact,
                    f"1-{axis.key}": (1 - exact).to(lr.dtype),
                }
        return out

    def bind(self, split: Split, runs: Sequence[RunConfig]) -> UpdateRule:
        """Return the rule for parameters of known shapes; most rules do not look at shapes."""
        return self

    def init_state(self, theta: Tensor, hyper: dict[str, Tensor]) -> State:
        """State before the first step, for parameters [runs, parameters]."""
        return {}

    @abstractmethod
    def update(self, theta: Tensor, grad: Tensor, state: State, hyper: dict[str, Tensor], step: Number) -> None:
        """Take one step in place.

        Args:
            theta: [runs, parameters].
            grad: [runs, parameters]; may be used as scratch space.
            state: of :meth:`init_state`, updated in place.
            hyper: of :meth:`hyper`.
            step: number of this step, from 1.
        """

    def preconditioner(self, state: State, hyper: dict[str, Tensor], step: Number) -> Tensor | None:
        """Diagonal D of the last step theta -= lr · m / D, [runs, parameters]; None where D = 1."""
        return None


Product = Callable[[Tensor], Tensor]
"""From a direction [runs, parameters] to its product with the Hessian of the training loss plus weight decay."""


class QuadraticRule(Optimizer):
    """Base of the methods for quadratics without a step size, full batches only; each run is trained alone."""

    full_batch = True
    packable = False
    step_size = False

    def start(self, run: RunConfig, lowest: float, highest: float) -> State:
        """State before the first step.

        Args:
            run: the run.
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

    packable = False

    @abstractmethod
    def build(self, parameters: list[Tensor], run: RunConfig, lr: float) -> torch.optim.Optimizer:
        """Return an optimizer of one run.

        Args:
            parameters: leaves: weight matrices [rows, columns] and vectors [size].
            run: the run; its options are the optimizer's.
            lr: absolute step size.
        """


def decay(theta: Tensor, grad: Tensor, hyper: dict[str, Tensor]) -> Tensor:
    """Add ``weight_decay · theta`` to the gradient, in place, where any run asks for it."""
    weight_decay = hyper["weight_decay"]
    # decided once a tensor, not once a step: reading a value waits for the device
    if "decays" not in hyper:
        hyper["decays"] = (weight_decay != 0).any().cpu()
    return grad.addcmul_(weight_decay, theta) if hyper["decays"] else grad


def decouple(theta: Tensor, hyper: dict[str, Tensor]) -> None:
    """Shrink ``theta`` by ``lr · weight_decay`` of itself, in place, where any run asks for it."""
    if "decays" not in hyper:
        hyper["decays"] = (hyper["weight_decay"] != 0).any().cpu()
    if hyper["decays"]:
        theta.mul_(1 - hyper["lr"] * hyper["weight_decay"])
