"""Scopes: every axis and option of every component changes exactly the keys, and the numbers, that its scope says."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache

import pytest
import torch

from dd.components.dataset import Dataset
from dd.components.model import Model
from dd.components.schedule import Schedule
from dd.errors import ConfigError
from dd.measure.solution import Solution
from dd.network import common_inputs
from dd.packs.prepare import prepare
from dd.packs.schedule import train_jobs
from dd.packs.shared import Shared
from dd.runs import registry
from dd.runs.axis import Axis, Scope
from dd.runs.component import Component
from dd.runs.run import Run, core_axes
from dd.runs.settings import Settings, setting_axes
from tests.helpers import run_of
from tests.models import networks

SMALL = ("data.n_train=30", "data.n_test=12", "batch_size=10", "steps=9", "dtype=float64")
BASES = {
    "frozen": ("model=random_features", "width=6", "normalization=layer_norm", "normalization.affine=false"),
    "trained": ("model=two_layer", "width=6"),
    "deep": ("model=rmt", "width=2", "optimizer=adam"),
}
MADE = {
    "data_key": Scope.DATA,
    "inputs_key": Scope.FEATURES,
    "design_key": Scope.DESIGN,
    "start_key": Scope.START,
    "trajectory_key": Scope.STEPS,
}
"""Key of a run -> the last scope that it holds."""

OTHER = {
    "data.classes": "0,6",
    "data.content": "0" * 64,
    "data.label_noise": 0.5,
    "model.depths": "2-2",
    "optimizer.cutoff": 0.5,
    "optimizer.history": 2,
    "optimizer.momentum": 0.5,
}
"""Values of axes where one more or one less is no other value."""

NETWORK = f"model.path={networks.__file__}:mlp"
NEEDS = {
    "model.readout": (NETWORK,),
    "model.source": (NETWORK,),
    "data.label_noise_over": ("data.label_noise=0.5",),
    "data.image": ("data.dim=64",),
    "model.bandwidth": ("model.activation=fourier",),
    "optimizer.lr_decay": ("lr=0.1",),
    "schedule.every": ("schedule.every=2",),
    "schedule.gamma": ("schedule.every=2",),
    "schedule.per": ("schedule.warmup=2",),
    "steps": ("stop_loss=1e-30",),  # then short budgets, too, are logged at all steps
}
"""Axes that mean something beside others only -> those."""


def another(key: str, axis: Axis, value: object) -> object:
    """Another value that an axis allows."""
    if key in OTHER:
        return OTHER[key]
    if axis.choices:
        return next(choice for choice in axis.choices if choice not in (value, "auto"))
    if axis.kind is bool:
        return not value
    if axis.kind is str:
        return f"{value}x"
    number = 1.0 if value is None or isinstance(value, str) else float(value)  # type: ignore[arg-type]
    for candidate in (number + 1, number * 0.5, number * 2 + 1e-3):
        changed = int(candidate) if axis.kind is int else candidate
        if changed != value and (axis.low is None or changed > axis.low) and (axis.high is None or changed < axis.high):
            return changed
    raise AssertionError(f"no other value of {key} than {value}")


def scope_of(run: Run, axis: Axis) -> Scope:
    """What an axis of the run itself changes."""
    own = axis.trained if axis.trained is not None and not run.model.frozen_features else axis.scope
    assert own is not None
    return own


def of_the_run(base: str) -> Iterator[tuple[str, Run, Run, Scope, bool]]:
    """(key, run, the run with one axis changed, scope, whether smaller values begin larger ones) for a run's axes."""
    for name, axis in core_axes().items():
        run = run_of(*SMALL, *BASES[base], *NEEDS.get(axis.key, ()))
        if name in registry.ROOMS:
            changed = run.replace(**{name: sibling(name, getattr(run, name))})
        else:
            changed = run.replace(**{name: another(axis.key, axis, getattr(run, name))})
        yield axis.key, run, changed, scope_of(run, axis), axis.prefix


def of_the_components() -> Iterator[tuple[str, Run, Run, Scope, bool]]:
    """The same for every option of every component."""
    for group in registry.ROOMS:
        for name in registry.names(group):
            for field, axis in registry.kind(group, name).axes().items():
                if axis.scope is Scope.WHERE:
                    continue
                run = with_component(group, name, f"{group}.{axis.key}")
                part = getattr(run, group)
                value = another(f"{group}.{axis.key}", axis, getattr(part, field))
                changed = run.replace(**{group: dataclasses.replace(part, **{field: value})})
                yield f"{group}={name}: {axis.key}", run, changed, scope_of(run, core_axes()[group]), False


def sibling(group: str, component: Component) -> Component:
    """Another component of a group, which so few steps tell from it; another model trains its features, or not, too."""
    kinds = [registry.kind(group, name) for name in registry.names(group) if name != component.name]
    if isinstance(component, Model):
        frozen = component.frozen_features
        kinds = [kind for kind in kinds if issubclass(kind, Model) and kind.frozen_features is frozen]
    if isinstance(component, Dataset):
        kinds = [kind for kind in kinds if issubclass(kind, Dataset) and kind.generated and kind.name != "tensors"]
    if isinstance(component, Schedule):
        kinds = [kind for kind in kinds if kind.name == "cosine"]
    return kinds[-1]()


def with_component(group: str, name: str, key: str) -> Run:
    """A small run with a component, and with what that asks for."""
    tries = [
        (f"{group}={name}",),
        (f"{group}={name}", "batch_size=full"),
        (f"{group}={name}", "data=digits", "width=2"),
    ]
    order = ("trained", "frozen", "deep") if group == "optimizer" else tuple(BASES)
    if name == "module":
        tries.append((f"{group}={name}", NETWORK))
    for base in (BASES[name] for name in order):
        for own in tries:
            line = {one.partition("=")[0]: one for one in (*SMALL, *base, *own, *NEEDS.get(key, ()))}
            try:
                return run_of(*line.values())
            except ConfigError:
                continue
    if group == "data":  # the caller's own tensors
        return run_of(*SMALL, *BASES["frozen"]).replace(data=registry.kind(group, name)())
    raise AssertionError(f"no run with {group}={name}")


def told(pair: tuple[str, Run, Run, Scope, bool]) -> str:
    """Name of a pair."""
    return f"{pair[1].model.name} {pair[0]}"


PAIRS = [*(pair for base in BASES for pair in of_the_run(base)), *of_the_components()]


@pytest.mark.parametrize("pair", PAIRS, ids=told)
def test_an_axis_changes_the_keys_of_its_scope_and_no_other(pair: tuple[str, Run, Run, Scope, bool]) -> None:
    key, run, changed, scope, prefix = pair
    assert run != changed
    assert run.run_id != changed.run_id, f"{key} is part of the identity"
    for name, last in MADE.items():
        beginning = prefix and last == scope and name in ("inputs_key", "trajectory_key")
        differs = scope <= last and not beginning
        assert (getattr(run, name) != getattr(changed, name)) is differs, name


def test_options_that_say_where_are_no_part_of_the_identity_and_mix_nothing_up() -> None:
    found = 0
    for group in registry.ROOMS:
        for name in registry.names(group):
            for field, axis in registry.kind(group, name).axes().items():
                if axis.scope is not Scope.WHERE:
                    assert axis.scope is None
                    continue
                found += 1
                run = run_of(*SMALL, *BASES["frozen"]).replace(**{group: registry.kind(group, name)()})
                value = another(f"{group}.{axis.key}", axis, getattr(getattr(run, group), field))
                changed = run.replace(**{group: dataclasses.replace(getattr(run, group), **{field: value})})
                assert run.run_id == changed.run_id
                assert run != changed
                first = scope_of(run, core_axes()[group])
                assert all((getattr(run, key) != getattr(changed, key)) is (first <= MADE[key]) for key in MADE)
    assert found == 5


def test_every_axis_has_a_scope() -> None:
    assert all(axis.scope is not None and axis.scope <= Scope.STEPS for axis in core_axes().values())
    settings = [axis for axis in setting_axes() if axis.key not in ("epochs", "validation")]
    assert all(axis.scope in (Scope.MEASUREMENT, Scope.WHERE) for axis in settings)


SILENT = {
    "stop_loss": "is not reached",
    "solver": "is another way to the same numbers",
    "optimizer=conjugate_gradient: reorthogonalize": "is about rounding, which so few steps do not gather",
}
"""Axes that leave all numbers of so small a run as they are -> why."""

STAGES = (Scope.DATA, Scope.FEATURES, Scope.DESIGN, Scope.START, Scope.STEPS)


@cache
def numbers(run: Run, stage: Scope) -> list[torch.Tensor]:
    """The numbers that axes up to a scope decide: problem, inputs, design matrix, weights at the start, curve."""
    shared = Shared(Settings(device="cpu"), [run])
    network = shared.network(run)
    problem = network.problem
    if stage == Scope.DATA:
        return [problem.train_x, problem.train_y, problem.test_x, problem.test_y]
    if stage == Scope.FEATURES:
        inputs = common_inputs(run, problem, torch.device("cpu"))
        return [inputs.train, inputs.test]
    if stage == Scope.DESIGN:
        return [network.exact_train.inputs, network.exact_test.inputs]
    if stage == Scope.START:
        return [network.theta.float()]
    (job,) = train_jobs([prepare(run, shared)])
    assert isinstance(job.result, Solution)
    return [job.result.theta, torch.tensor([(p.step, p.train_loss, p.test_loss) for p in job.result.curve])]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    """Whether numbers agree to the last bit."""
    return all(x.shape == y.shape and torch.equal(x, y) for x, y in zip(a, b, strict=True))


def buildable(run: Run) -> bool:
    """Whether a run exists: its components take each other, and its samples are at hand."""
    if run.data.from_files or run.data.name == "tensors" or run.data_content is not None:
        return False
    try:
        for component in run.components.values():
            component.check(run, lambda key: "")
    except ConfigError:
        return False
    return run.loss == "mse" or run.classification


@pytest.mark.parametrize("pair", [p for p in PAIRS if buildable(p[1]) and buildable(p[2])], ids=told)
def test_what_is_shared_is_equal_and_what_is_not_differs(pair: tuple[str, Run, Run, Scope, bool]) -> None:
    key, run, changed, scope, prefix = pair
    assert all(equal(numbers(run, stage), numbers(changed, stage)) for stage in STAGES if stage < scope), key
    later = [(numbers(run, stage), numbers(changed, stage)) for stage in STAGES if stage >= scope]
    assert key in SILENT or not all(equal(*both) for both in later), f"{key} changes nothing"
    if prefix and scope == Scope.FEATURES:
        columns = min(run.width, changed.width)
        assert equal(*([x[..., :columns] for x in both] for both in later[0])), "features of a narrow run come first"
    if prefix and scope == Scope.STEPS:
        (_, ours), (_, theirs) = later[0]
        assert equal([ours[:4]], [theirs[:4]]), "a short run is the beginning of a long one"


def test_a_budget_that_decides_about_step_sizes_is_the_beginning_of_no_other() -> None:
    for name in registry.names("schedule"):
        short, long = (run_of(*BASES["deep"], f"schedule={name}", f"steps={steps}") for steps in (20, 40))
        alike = (short.schedule.factors(short, 0, 20) == long.schedule.factors(long, 0, 20)).all()
        assert (short.trajectory_key == long.trajectory_key) == alike == (name not in ("cosine", "linear"))
