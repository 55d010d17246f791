"""The table of trainers: what trains a run is decided here and nowhere else."""

from __future__ import annotations

import torch

from dd.errors import ConfigError
from dd.runs.run import OriginOf, Run
from dd.trainers.analytic import Analytic
from dd.trainers.base import Trainer
from dd.trainers.closed_form import LeastSquares
from dd.trainers.compiled import Compiled
from dd.trainers.engine import Engine
from dd.trainers.exact import Exact, not_exact
from dd.trainers.function_space import FunctionSpace, not_dual, pays
from dd.trainers.grid import Grid
from dd.trainers.quadratic import not_iterated
from dd.trainers.single import Single
from dd.trainers.span import Span
from dd.trainers.stack import Stack

TRAINERS: tuple[type[Trainer], ...] = (
    LeastSquares, Exact, FunctionSpace, Span, Engine, Grid, Compiled, Analytic, Single, Stack,
)  # fmt: skip
"""In the order of preference: the first without objection trains a run."""

NAMES = ("auto", *(trainer.name for trainer in TRAINERS))
"""What ``trainer`` may be."""


def trainer_for(run: Run, device: torch.device, asked: str = "auto") -> type[Trainer]:
    """What trains a run.

    Args:
        run: the run.
        device: where.
        asked: ``auto`` or the name of one trainer.

    Raises:
        ConfigError: there is no trainer of that name, or it objects.
    """
    if asked not in NAMES:
        raise ConfigError("trainer", asked, "must be one of " + ", ".join(NAMES))
    if asked == "auto":
        return next(trainer for trainer in TRAINERS if refusal(trainer, run, device) is None)
    trainer = next(trainer for trainer in TRAINERS if trainer.name == asked)
    if reason := refusal(trainer, run, device):
        raise ConfigError("trainer", asked, f"cannot train this run: {reason}; trainer=auto takes what can")
    return trainer


def refusal(trainer: type[Trainer], run: Run, device: torch.device) -> str | None:
    """Why a trainer cannot train a run there; None if it can.

    A schedule, augmented images or samples held out are only for those that say that they follow them: ignored, they
    would be a wrong number.
    """
    if run.augment != "none" and not trainer.augments:
        return f"trainer={trainer.name} does not say that it follows data.augment={run.augment}"
    if not (run.schedule.flat or trainer.follows_schedules):
        return f"trainer={trainer.name} does not say that it follows schedule={run.schedule.name}"
    if run.n_validation and not trainer.validates:
        return f"validation={run.validation} holds samples out, at which it does not look"
    return trainer.objection(run, device)


def settled_solver(run: Run, asked: str, origin: OriginOf) -> str:
    """Settle ``solver``, which is part of a run's identity, by the run's own axes alone.

    Args:
        run: the run, otherwise resolved.
        asked: ``auto`` or one of ``SOLVERS``; ``auto`` takes what is cheapest.
        origin: says where a key's value was set.

    Raises:
        ConfigError: the solver asked for cannot take this run, or none can.
    """
    if run.optimizer.closed_form:
        return "exact"  # like a step size, a solver means nothing to it
    objections = {
        "exact": not_exact(run),
        "dual": not_dual(run),
        "iterative": not_iterated(run),
    }
    if asked != "auto":
        if objections[asked]:
            raise ConfigError("solver", asked, f"cannot be: {objections[asked]}; use solver=auto", origin("solver"))
        return asked
    if not objections["exact"]:
        return "exact"
    if objections["iterative"]:
        key = "loss" if run.loss != "mse" else "stop_loss" if run.stop_loss is not None else "optimizer"
        key = "validation" if run.n_validation else key
        given = run.optimizer.name if key == "optimizer" else getattr(run, key)
        raise ConfigError(key, given, f"cannot be: {objections['exact']}", origin(key))
    return "dual" if not objections["dual"] and pays(run) else "iterative"
