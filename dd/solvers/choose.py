"""Which solver a run gets: exact dynamics, steps in function space, or plain iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dd import registry
from dd.errors import ConfigError

if TYPE_CHECKING:
    from dd.config import OriginOf, RunConfig

SOLVERS = ("exact", "dual", "iterative")


def choose(run: RunConfig, asked: str, origin: OriginOf) -> str:
    """Settle ``solver``, by the run's own axes alone.

    Args:
        run: the run, otherwise resolved.
        asked: ``auto`` or one of ``SOLVERS``; ``auto`` takes what is cheapest.
        origin: says where a key's value was set.

    Raises:
        ConfigError: the solver asked for cannot take this run, or none can.
    """
    if run.component("optimizer").closed_form:
        return "exact"  # like a step size, a solver means nothing to it
    objections = {"exact": not_exact(run), "dual": not_dual(run), "iterative": not_iterative(run)}
    if asked != "auto":
        if objections[asked]:
            raise ConfigError("solver", asked, f"cannot be: {objections[asked]}; use solver=auto", origin("solver"))
        return asked
    if not objections["exact"]:
        return "exact"
    if objections["iterative"]:
        key = "loss" if run.loss != "mse" else "stop_loss" if run.stop_loss is not None else "optimizer"
        raise ConfigError(key, getattr(run, key), f"cannot be: {objections['exact']}", origin(key))
    return "dual" if not objections["dual"] and dual_pays(run) else "iterative"


def _not_quadratic(run: RunConfig) -> str:
    """Why the training loss is not a quadratic with a fixed Hessian; empty where it is."""
    if not run.component("model").frozen_features:
        return f"model={run.model} trains its features, and its loss is not quadratic"
    if not run.linear:
        return (
            f"normalization={run.normalization} trains a gain or uses batch statistics, and the design matrix changes "
            "(normalization.affine=false keeps it fixed, for layer_norm)"
        )
    if run.loss != "mse":
        return f"loss={run.loss} is not quadratic"
    return ""


def not_exact(run: RunConfig) -> str:
    """Why a run has no exact dynamics; empty where it has."""
    optimizer = run.component("optimizer")
    if not optimizer.exact:
        names = [n for n in registry.names("optimizer") if registry.get("optimizer", n).exact]
        return f"optimizer={run.optimizer} has no exact dynamics; those that have: " + ", ".join(names)
    if reason := _not_quadratic(run):
        return reason
    if not run.group_options("optimizer").get("reorthogonalize", True):
        return "optimizer.reorthogonalize=false asks for rounding's effects, which only iteration has"
    if run.batch_size != run.n_train:
        return f"batch_size={run.batch_size} draws batches at random; exact dynamics need batch_size=full"
    if run.stop_loss is not None:
        if not optimizer.monotone:
            return f"with optimizer={run.optimizer} the first step at stop_loss is known by iteration only"
        if run.group_options("optimizer")["weight_decay"] > 0:
            return "with weight decay the first step at stop_loss is known by iteration only"
    return ""


def not_dual(run: RunConfig) -> str:
    """Why a run cannot step in function space; empty where it can."""
    if not run.component("optimizer").dual:
        names = [n for n in registry.names("optimizer") if registry.get("optimizer", n).dual]
        return f"optimizer={run.optimizer} has no function-space form; those that have: " + ", ".join(names)
    return _not_quadratic(run)


def not_iterative(run: RunConfig) -> str:
    """Why a run cannot be iterated; empty where it can."""
    optimizer = run.component("optimizer")
    if not optimizer.iterable:
        return f"optimizer={run.optimizer} takes no steps"
    # without a step size, a method relies on the loss being quadratic
    return "" if optimizer.step_size else _not_quadratic(run)


def dual_pays(run: RunConfig) -> bool:
    """Whether steps in function space save more than forming the kernel matrices costs.

    A step costs 4 · batch · columns flop per output in weight space and 2 · batch · n_train in function space; the
    kernels of training and test samples cost 2 · n_train · (n_train + n_test) · columns once. Function space is always
    float64 (in float32, coefficients of directions that are learned late would drown the others), whose operations
    count twice.
    """
    assert run.batch_size is not None
    assert run.steps is not None
    if run.columns <= run.n_train:
        return False
    weight_space = (2 if run.dtype == "float64" else 1) * 4 * run.columns
    saved = run.steps * run.component("data").outputs * run.batch_size * (weight_space - 2 * 2 * run.n_train)
    return saved > 2 * 2 * run.n_train * (run.n_train + run.n_test) * run.columns
