"""When a training loss is a quadratic, and which optimizers have a shorter way on one."""

from __future__ import annotations

from functools import cache

from dd.components.optimizer import Optimizer
from dd.runs import registry
from dd.runs.component import Component
from dd.runs.run import Run


def not_quadratic(run: Run) -> str | None:
    """Why the training loss is not a quadratic with a fixed Hessian; None where it is."""
    if not run.model.frozen_features:
        return f"model={run.model.name} trains its features, and its loss is not quadratic"
    if not run.linear:
        return (
            f"normalization={run.normalization.name} trains a gain or uses batch statistics, and the design matrix "
            "changes (normalization.affine=false keeps it fixed, for layer_norm)"
        )
    return None if run.loss == "mse" else f"loss={run.loss} is not quadratic"


def lacking(run: Run, attribute: str, what: str) -> str | None:
    """Why the optimizer's class attribute, false, keeps a run from ``what``; None where it is true."""
    if getattr(run.optimizer, attribute):
        return None
    names = ", ".join(_having(attribute, registry.kinds("optimizer")))
    return f"optimizer={run.optimizer.name} has no {what}; those that have: {names}"


@cache
def _having(attribute: str, kinds: tuple[type[Component], ...]) -> tuple[str, ...]:
    """Names of the optimizers whose class attribute is true."""
    return tuple(kind.name for kind in kinds if issubclass(kind, Optimizer) and getattr(kind, attribute))


def not_iterated(run: Run) -> str | None:
    """Why a run takes no steps; None if it takes them."""
    if not run.optimizer.iterable:
        return f"optimizer={run.optimizer.name} takes no steps"
    return None if run.optimizer.step_size else not_quadratic(run)
