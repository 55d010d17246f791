"""Every trainer against ``trainer=stack``, plain PyTorch and autograd, over all that it accepts; in float64, to 1e-9.

The registries are walked: a new activation, rule, normalization or loss is covered as it is.

Covers: dd/trainers/base.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from dd.closed.design import Design
from dd.components.model import Model
from dd.components.optimizer import Optimizer
from dd.components.schedule import Schedule
from dd.errors import ConfigError
from dd.runs import registry
from dd.runs.run import Run, core_axes
from dd.trainers.base import Task, Trainer
from dd.trainers.exact import not_exact
from dd.trainers.stack import Stack
from dd.trainers.table import TRAINERS, refusal
from tests.helpers import run_of
from tests.training import numbers, task_of

CPU, GPU = torch.device("cpu"), torch.device("cuda")
# of 16 samples, 7, 7 and 2 are an epoch: four steps end one and begin the next
SMALL = ("data.n_train=16", "data.n_test=8", "steps=4", "dtype=float64", "lr_unit=absolute")
LR = {"lion": 0.003, "signsgd": 0.003, "muon": 0.01, "pytorch_optimizer": 0.003, "adagrad": 0.02}


def models() -> Iterator[tuple[str, ...]]:
    """Every family with every activation that is trained through, with and without biases."""
    for name in registry.names("model"):
        kind = registry.kind("model", name)
        assert issubclass(kind, Model)
        axes = kind.axes()
        activations = axes["activation"].choices if "activation" in axes else ()
        if kind.frozen_features:  # trainers meet what comes out of it
            activations = activations[:1]
        width = f"width={2 if kind.deep else 9}"  # with fewer features some sample has none, and its outputs tie
        for activation, bias in itertools.product(
            activations or (None,), ("true", "false") if "bias" in axes and name != "module" else (None,)
        ):  # whether a network of one's own has a bias is found, not chosen
            own = [f"model.activation={activation}"] if activation else []
            own += [f"model.bias={bias}"] if bias else []
            yield (f"model={name}", width, *own)


def normalizations() -> Iterator[tuple[str, ...]]:
    """Every normalization, with and without a trained gain and shift."""
    for name in registry.names("normalization"):
        if "affine" in registry.kind("normalization", name).axes():
            yield from ((f"normalization={name}", f"normalization.affine={a}") for a in ("true", "false"))
        else:
            yield (f"normalization={name}",)


def optimizers() -> Iterator[tuple[str, ...]]:
    """Every iterated rule, with small batches that leave a rest, and with the whole set and weight decay."""
    for name in registry.names("optimizer"):
        kind = registry.kind("optimizer", name)
        assert issubclass(kind, Optimizer)
        if not kind.iterable:
            continue
        lr = (f"lr={LR.get(name, 0.05)}",) if kind.step_size else ()
        # a gradient that is zero but for rounding, as before batch normalization, would else be divided by itself
        lr += ("optimizer.eps=0.001",) if "eps" in kind.axes() else ()
        decay = ("optimizer.weight_decay=0.05",) if "weight_decay" in kind.axes() else ()
        if not kind.full_batch:
            yield (f"optimizer={name}", "batch_size=7", *lr)
        yield (f"optimizer={name}", "batch_size=full", *lr, *decay)


def accepted(*overrides: str) -> list[Run]:
    """The run, by every solver that takes it; none where the combination is refused."""
    found = []
    for solver in ("exact", "dual", "iterative"):
        try:
            found.append(run_of(*SMALL, *overrides, f"solver={solver}"))
        except ConfigError:
            continue
    return found


LOSSES = core_axes()["loss"].choices
MODELS, OPTIMIZERS = list(models()), list(optimizers())


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=" ".join)
@pytest.mark.parametrize("model", MODELS, ids=" ".join)
def test_every_trainer_agrees_with_the_stack(model: tuple[str, ...], optimizer: tuple[str, ...]) -> None:
    settings = list(itertools.product(normalizations(), LOSSES))
    if "model=rmt" in model:  # its normalizations and losses do not know of each other, and it is slow
        settings = settings[:: len(LOSSES) + 1]
    else:  # of model, rule, normalization and loss any three meet in every way: the losses take turns
        turn = MODELS.index(model) + OPTIMIZERS.index(optimizer)
        settings = [(n, LOSSES[(turn + i) % len(LOSSES)]) for i, n in enumerate(normalizations())]
    for normalization, loss in settings:
        for run in accepted(*model, *optimizer, *normalization, f"loss={loss}"):
            # long steps of deep networks make much of little
            agree(run.replace(lr=run.lr / 10) if run.model.deep and run.lr else run)


def schedules() -> Iterator[Schedule]:
    """Every schedule that is not flat, with a warm-up, per step and per epoch, again and again."""
    kinds = [registry.kind("schedule", name) for name in registry.names("schedule")]
    every = [replace(kind(), warmup=1, per=per) for per in ("step", "epoch") for kind in kinds]  # type: ignore[call-arg]
    return itertools.cycle(every)


def test_every_trainer_follows_schedules() -> None:
    """A step's size is one number to a trainer: the schedules take turns over models and rules, with all else plain."""
    taken, turn = set(), schedules()
    for model in ("model=random_features width=9", "model=two_layer width=9", "model=rmt width=2"):
        for optimizer in optimizers():
            if "rmt" in model and optimizer[0] not in ("optimizer=adamw", "optimizer=muon"):
                continue
            for plain in accepted(*model.split(), *optimizer):
                run = plain.replace(schedule=next(turn))
                if run.optimizer.step_size and (run.solver != "exact" or not_exact(run) is None):
                    agree(run)
                    taken |= {trainer.name for trainer in TRAINERS for d in (CPU, GPU) if not refusal(trainer, run, d)}
    assert taken == {trainer.name for trainer in TRAINERS if trainer.follows_schedules}


def frozen_activations() -> Iterator[tuple[str, ...]]:
    """Every activation of families whose features are frozen."""
    for name in registry.names("model"):
        kind = registry.kind("model", name)
        if issubclass(kind, Model) and kind.frozen_features and "activation" in kind.axes():
            yield from ((f"model={name}", f"model.activation={a}") for a in kind.axes()["activation"].choices)


@pytest.mark.parametrize("model", list(frozen_activations()), ids=" ".join)
def test_activations_of_frozen_features_are_no_trainers_business(model: tuple[str, ...]) -> None:
    for run in accepted(*model, "width=6", "optimizer=momentum", "batch_size=full", "lr=0.05"):
        agree(run)


def agree(run: Run) -> None:
    """Train a run by the stack and by every other trainer that takes it, and compare all that comes out."""
    rivals = [t for t in TRAINERS if t is not Stack and None in (t.objection(run, CPU), t.objection(run, GPU))]
    # of a deep network some biases have no gradient but for rounding, whose sign is nobody's
    signs_of_rounding = run.model.deep and run.optimizer.name in ("lion", "signsgd")
    if not rivals or Stack.objection(run, CPU) or signs_of_rounding:
        return
    ((reference,),) = Stack.train([ready(run, Stack)])
    assert reference.status == "ok"
    for trainer in rivals:
        ((found,),) = trainer.train([ready(run, trainer)])
        told = f"{trainer.name} {run.solver} {run.normalization} {run.loss}"
        assert found.trainer == trainer.name, told
        close(found.theta, reference.theta, f"weights: {told}")
        for ours, theirs in zip(found.curve, reference.curve, strict=True):
            assert numbers(ours) == pytest.approx(numbers(theirs), rel=1e-9, abs=1e-12), told
        for key, buffer in reference.buffers.items() if not run.linear else ():
            close(found.buffers[key], buffer, f"{key}: {told}")
        if reference.preconditioner is not None:
            assert found.preconditioner is not None, told
            close(found.preconditioner, reference.preconditioner, f"preconditioner: {told}")


def ready(run: Run, trainer: type[Trainer]) -> Task:
    """A run at its start, on the CPU: what trainers do on a GPU is the same in other words."""
    task = task_of(run)
    task.design = Design(task.network) if trainer.decomposes and task.network.linear else None
    return task


def close(ours: torch.Tensor, theirs: torch.Tensor, told: str) -> None:
    """To 1e-9, relative to the largest entry."""
    largest, apart = float(theirs.abs().max()), float((ours - theirs).abs().max())
    assert apart <= 1e-9 * largest + 1e-12, f"{told}: {apart:.3g} of {largest:.3g}"


def test_every_trainer_takes_some_of_these_runs() -> None:
    taken = set()
    for model in models():
        for run in accepted(*model, "optimizer=momentum", "batch_size=full", "lr=0.05"):
            taken |= {trainer.name for trainer in TRAINERS for d in (CPU, GPU) if trainer.objection(run, d) is None}
    # span pays for more data than these (tests/trainers/test_span.py), and a closed form takes no steps
    assert taken >= {trainer.name for trainer in TRAINERS} - {"span", "closed_form"}
