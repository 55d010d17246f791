"""What trains a run: preferences, objections, and the plan's word for it.

Covers: dd/trainers/quadratic.py.
"""

from __future__ import annotations

import pytest
import torch

from dd.errors import ConfigError
from dd.packs.plan import Pack
from dd.runs.run import Run
from dd.trainers import table
from dd.trainers.stack import Stack
from dd.trainers.table import NAMES, TRAINERS, trainer_for
from tests.helpers import run_of, solve_rows

CPU, GPU = torch.device("cpu"), torch.device("cuda")
ON_CPU = ("function_space", "span", "engine", "compiled")
"""Those that are compiled for a CPU."""

SMALL = ("data.n_train=60", "data.n_test=40")
NET = "model=two_layer width=20 batch_size=13"
TYPICAL: dict[str, tuple[str, ...]] = {
    "optimizer=min_norm": ("closed_form",),
    "optimizer=ridge normalization=batch_norm": ("closed_form",),
    "optimizer=gd": ("exact", "analytic", "stack"),
    "optimizer=gd solver=iterative": ("engine", "analytic", "stack"),
    "optimizer=gradient_flow": ("exact",),
    "optimizer=conjugate_gradient": ("exact", "analytic", "stack"),
    "optimizer=chebyshev solver=iterative": ("analytic", "stack"),
    "optimizer=sgd batch_size=10 width=200 solver=dual": ("function_space", "analytic", "stack"),
    "optimizer=sgd batch_size=10 width=20": ("engine", "analytic", "stack"),
    "optimizer=adam loss=cross_entropy model.bias=true": ("engine", "analytic", "stack"),
    "optimizer=muon": ("analytic", "stack"),
    "optimizer=lbfgs": ("stack",),
    "optimizer=sgd batch_size=10 normalization=batch_norm": ("stack",),
    "optimizer=adam batch_size=10 normalization=layer_norm": ("stack",),
    f"{NET} optimizer=momentum epochs=100": ("span", "engine", "analytic", "stack"),
    f"{NET} optimizer=adam": ("engine", "analytic", "stack"),
    f"{NET} optimizer=adam normalization=scale": ("analytic", "stack"),
    f"{NET} optimizer=pytorch_optimizer": ("stack",),
    "model=rmt width=2 batch_size=13 optimizer=adam epochs=1": ("compiled", "single", "stack"),
    "model=rmt width=2 batch_size=13 optimizer=pytorch_optimizer epochs=1": ("single", "stack"),
    "model=rmt width=2 batch_size=13 optimizer=adam epochs=1 dtype=bfloat16": ("single", "stack"),
}


def typical(line: str) -> Run:
    return run_of(*SMALL, *(() if "epochs" in line else ("steps=9",)), *line.split())


def test_names_are_unique_and_as_the_setting_has_them() -> None:
    assert ("auto", *(trainer.name for trainer in TRAINERS)) == NAMES
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("line", TYPICAL)
def test_which_trainers_take_a_run_and_which_first(line: str) -> None:
    run = typical(line)
    willing = [trainer for trainer in TRAINERS if trainer.objection(run, CPU) is None]
    assert tuple(trainer.name for trainer in willing) == TYPICAL[line]
    assert trainer_for(run, CPU) is willing[0]
    assert [trainer_for(run, CPU, name).name for name in TYPICAL[line]] == list(TYPICAL[line]), "asked for by name"
    for trainer in set(TRAINERS) - set(willing):
        reason = trainer.objection(run, CPU)
        assert reason is not None
        with pytest.raises(ConfigError) as caught:
            trainer_for(run, CPU, trainer.name)
        expected = f"trainer={trainer.name}: cannot train this run: {reason}; trainer=auto takes what can"
        assert str(caught.value) == expected
        assert "\n" not in expected


@pytest.mark.parametrize("line", TYPICAL)
def test_without_a_cpu_what_is_compiled_for_it_objects(line: str) -> None:
    run = typical(line)
    assert trainer_for(run, GPU).name not in ON_CPU
    objections = {trainer.name: trainer.objection(run, GPU) for trainer in TRAINERS}
    assert all(objections[name] for name in ON_CPU)


def test_a_trainer_that_does_not_say_that_it_follows_schedules_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(Stack):
        follows_schedules = False

    flat, scheduled = run_of(*SMALL), run_of(*SMALL, "schedule=cosine")
    monkeypatch.setattr(table, "TRAINERS", (Careless, Stack))
    assert trainer_for(flat, CPU) is Careless
    assert trainer_for(scheduled, CPU) is Stack
    with pytest.raises(ConfigError, match="trainer=stack does not say that it follows schedule=cosine"):
        trainer_for(scheduled, CPU, "stack")


def test_a_name_that_is_none_is_answered_with_the_names() -> None:
    with pytest.raises(ConfigError, match=r"^trainer=grids: must be one of auto, closed_form, exact, "):
        trainer_for(run_of(), CPU, "grids")


def test_runs_are_planned_for_the_trainer_that_trains_them() -> None:
    """Random features behind batch_norm, too: their design matrix changes, and hand-written gradients do not serve."""
    runs = {typical(line): line for line in TYPICAL}
    rows = {row["run_id"]: row for row in solve_rows(*runs)}
    for run, line in runs.items():
        assert Pack((run,)).trainers == [TYPICAL[line][0]]
        row = rows[run.run_id]
        assert row["status"] == "ok", row
        assert row["trainer"] == TYPICAL[line][0], line


@pytest.mark.parametrize("line", TYPICAL)
def test_estimates_are_positive_numbers(line: str) -> None:
    run = typical(line)
    for name in TYPICAL[line]:
        trainer = trainer_for(run, CPU, name)
        assert trainer.seconds(run) > 0 or name == "closed_form"
        if run.steps:
            assert trainer.seconds(run.replace(steps=100 * run.steps)) >= trainer.seconds(run)
        assert trainer.bytes(run) > 0
        assert trainer.shared_bytes(run) >= 0


@pytest.mark.parametrize(
    ("overrides", "key", "words"),
    [
        (("optimizer=adam", "solver=exact"), "solver", "no exact dynamics; those that have: chebyshev"),
        (("optimizer=sgd", "solver=exact"), "solver", "batch_size=full"),
        (("optimizer=gd", "solver=exact", "loss=cross_entropy"), "solver", "not quadratic"),
        (("optimizer=gd", "solver=exact", "model=two_layer"), "solver", "trains its features"),
        (("optimizer=gd", "solver=exact", "normalization=layer_norm"), "solver", "affine=false"),
        (("optimizer=momentum", "batch_size=full", "solver=exact", "stop_loss=0.1"), "solver", "by iteration only"),
        (("optimizer=gradient_flow", "solver=iterative"), "solver", "takes no steps"),
        (("optimizer=gradient_flow", "model=two_layer"), "optimizer", "trains its features"),
        (("optimizer=conjugate_gradient", "loss=cross_entropy"), "loss", "not quadratic"),
        (("optimizer=chebyshev", "batch_size=10"), "batch_size", "full only"),
        (("optimizer=adam", "solver=dual"), "solver", "no function-space form; those that have: momentum"),
        (("optimizer=gd", "solver=fast"), "solver", "auto, exact, dual, iterative"),
    ],
)
def test_a_solver_that_cannot_is_refused_in_one_line(overrides: tuple[str, ...], key: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}=") as caught:
        run_of(*overrides)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_solver_of_auto_says_what_it_took() -> None:
    assert run_of("optimizer=gd").solver == "exact"
    assert run_of("optimizer=min_norm").solver == run_of("optimizer=min_norm", "solver=iterative").solver == "exact"
    assert run_of("optimizer=gd", "stop_loss=0.1").solver == "exact"
    assert run_of("optimizer=gd", "stop_loss=0.1", "optimizer.weight_decay=0.1").solver == "iterative"
    assert run_of("optimizer=momentum", "batch_size=full", "stop_loss=0.1").solver == "iterative"
    assert run_of("optimizer=conjugate_gradient", "optimizer.reorthogonalize=false").solver == "iterative"
    assert run_of("optimizer=gd", "normalization=standardize").solver == "exact"
    assert run_of("optimizer=gd", "normalization=batch_norm").solver == "iterative"
    assert run_of("optimizer=gd", "normalization=layer_norm", "normalization.affine=false").solver == "exact"
    assert run_of("optimizer=gd", "model=two_layer").solver == "iterative"
    assert run_of("optimizer=sgd", "width=2000").solver == "dual"
    assert run_of("optimizer=sgd", "width=2000", "steps=1").solver == "iterative", "Gram matrices would cost more"
    assert run_of("optimizer=sgd", "width=400").solver == "iterative"
