"""What every component must be, and the registries (``dd/runs/component.py``, ``dd/runs/registry.py``).

Covers: dd/runs/component.py, dd/runs/registry.py.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import pytest
import yaml

from dd.cli.conf import conf_dir
from dd.components.dataset import Dataset
from dd.components.initialization import Initialization
from dd.components.model import Model
from dd.components.normalization import Normalization
from dd.components.optimizer import Optimizer
from dd.components.schedule import Schedule
from dd.errors import ConfigError
from dd.optim.sgd import SGD
from dd.runs import registry
from dd.runs.axis import axis
from dd.runs.component import Component
from dd.runs.run import core_axes
from dd.runs.settings import setting_axes

BASES: dict[str, type[Component]] = {
    "model": Model,
    "data": Dataset,
    "init": Initialization,
    "normalization": Normalization,
    "optimizer": Optimizer,
    "schedule": Schedule,
}
GROUPS = sorted(registry.ROOMS)
COMPONENTS = [(group, name) for group in GROUPS for name in registry.names(group)]


@pytest.mark.parametrize("group", GROUPS)
def test_every_component_has_a_file_and_every_file_a_component(group: str) -> None:
    files = {path.stem for path in (conf_dir() / group).glob("*.yaml")}
    assert files == set(registry.names(group))


@pytest.mark.parametrize(("group", "name"), COMPONENTS)
def test_file_and_fields_agree(group: str, name: str) -> None:
    """The YAML states every option, at the field's default; what else it states are axes of the run."""
    text = (conf_dir() / group / f"{name}.yaml").read_text(encoding="utf-8")
    body = yaml.safe_load(text)
    whole = text.startswith("# @package _global_")
    own = body[group] if whole else body
    axes = registry.kind(group, name).axes().values()
    every = (*core_axes().values(), *setting_axes())
    shared = {a.key.split(".")[1]: a for a in every if a.key.startswith(f"{group}.")}
    assert own["name"] == name
    stated = {key: value for key, value in own.items() if key not in shared and key != "name"}
    assert stated == {a.key: a.default for a in axes}
    assert {key: type(value) for key, value in stated.items()} == {a.key: type(a.default) for a in axes}
    assert not shared.keys() & {a.key for a in axes}, "an option would hide an axis"
    for key, value in own.items():
        if key in shared:
            shared[key].check(value)
    outside = body.keys() - {group, "defaults"} if whole else set()
    assert outside <= {a.key for a in core_axes().values()}
    comments = [line for line in text.splitlines()[:2] if line.startswith("# ") and "@package" not in line]
    assert comments, "a comment for --help"


@pytest.mark.parametrize(("group", "name"), COMPONENTS)
def test_a_component_is_a_value(group: str, name: str) -> None:
    """Frozen, equal by its options, complete; every field is an axis, so that it is part of a run's identity."""
    kind = registry.kind(group, name)
    assert issubclass(kind, BASES[group])
    assert vars(kind)["__dataclass_params__"].frozen, "the class is decorated itself"
    assert {field.name for field in dataclasses.fields(kind)} == kind.axes().keys()
    open_ones = [label for label in dir(kind) if getattr(getattr(kind, label), "__isabstractmethod__", False)]
    assert not open_ones
    made = kind()
    assert made == kind()
    assert hash(made) == hash(kind())
    assert made.name == name
    assert made.canonical() == made, "defaults stand for themselves"
    assert made.values() == {a.key: a.default for a in kind.axes().values()}
    for one in kind.axes().values():
        assert one.check(one.default) == one.default
        assert one.help
        assert "\n" not in one.help


def test_options_of_all_components_have_one_type_each() -> None:
    keys = [key for key, _ in registry.option_axes()]
    assert len(set(keys)) == len(keys)
    assert keys == sorted(keys)


def test_an_unknown_name_is_answered_with_the_names() -> None:
    with pytest.raises(ConfigError, match=r"^optimizer=sdg: must be one of adagrad, .*, truncated_svd$"):
        registry.kind("optimizer", "sdg")


def test_a_component_from_outside_takes_part_and_leaves() -> None:
    @dataclass(frozen=True)
    class Scaled(SGD, name="scaled_sgd"):
        factor: float = axis(1.0, "multiplies the gradient", low=0)

    with registry.visiting("optimizer", Scaled):
        assert "scaled_sgd" in registry.names("optimizer")
        assert registry.kind("optimizer", "scaled_sgd") is Scaled
        assert "optimizer.factor" in dict(registry.option_axes())
        assert Scaled(factor=2.0).values() == {"weight_decay": 0.0, "factor": 2.0}
    assert "scaled_sgd" not in registry.names("optimizer")
    assert "optimizer.factor" not in dict(registry.option_axes())


def test_a_field_of_no_axis_type_is_refused() -> None:
    @dataclass(frozen=True)
    class Odd(SGD, name="odd"):
        shape: tuple[int, ...] = axis((1, 2), "a tuple")

    with pytest.raises(TypeError, match=r"Odd.shape: .* is no type of an axis"):
        Odd.axes()
