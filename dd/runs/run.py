"""Run: one validated point of a sweep, and the single list of every axis with its unit, range and scope."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cache, cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

from dd.errors import ConfigError
from dd.runs import registry
from dd.runs.axis import Axis, Scope, Value, axes_of, axis
from dd.runs.component import Component

if TYPE_CHECKING:
    from dd.components.dataset import Dataset
    from dd.components.initialization import Initialization
    from dd.components.model import Model
    from dd.components.normalization import Normalization
    from dd.components.optimizer import Optimizer
    from dd.components.schedule import Schedule

ID_VERSION = 1
"""Part of every run_id; raised when a change of dd makes old rows mean something else."""

SOLVERS = ("exact", "dual", "iterative")

OriginOf = Callable[[str], str]
"""From a key to the place where its value was set, for error messages."""

Key = tuple[Hashable, ...]
"""What runs must agree in to share something."""

_ENCODER = json.JSONEncoder(sort_keys=True)

C = TypeVar("C", bound=Component)


def _component(name: str, help: str, scope: Scope, **rules: object) -> Any:
    """Declare a field of Run that holds a component; on the command line it is a name."""
    return field(metadata={"component": Axis(help=help, scope=scope, kind=str, default=name, **rules)})  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run: every axis that can change its numbers, resolved and checked.

    Axes without a meaning for a run are null (a closed form has no step size), so that runs which differ only in
    them are one run.
    """

    # fmt: off
    model: Model = _component("random_features", "model family", Scope.FEATURES, key="model")
    width: int = axis(100, "random features, hidden units, or input features", unit="units", low=1,
        scope=Scope.FEATURES, trained=Scope.START, prefix=True)
    data: Dataset = _component("digits", "data set or teacher", Scope.DATA, key="data")
    n_train: int = axis(500, "training samples; all: what testing leaves", key="data.n_train", unit="samples", low=1,
        words=("all",), scope=Scope.DATA)
    n_test: int = axis(1000, "test samples; all: the set's test part, or what n_train leaves (a fifth if it is all)",
        key="data.n_test", unit="samples", low=1, words=("all",), scope=Scope.DATA)
    n_validation: int = axis(0, "samples held out beside n_train, for early stopping (or give validation, a share)",
        key="data.n_validation", unit="samples", low=0, scope=Scope.DATA)
    label_noise: float = axis(0.0, "share of training labels replaced", key="data.label_noise", low=0, high=1,
        scope=Scope.DATA)
    label_noise_over: str = axis("other", "replace a noisy label by one of the other classes, or redraw it over all",
        key="data.label_noise_over", choices=("other", "all"), scope=Scope.DATA)
    data_seed: int = axis(0, "seed of split, noise and teacher", key="data.seed", low=0, high=2**63 - 1,
        scope=Scope.DATA)
    test_seed: int | None = axis(None, "draws the test set (of a teacher also the direction); null: data.seed",
        key="data.test_seed", low=0, high=2**63 - 1, scope=Scope.DATA)
    targets: str = axis("given", "targets of the set, or those of the best linear model of the inputs",
        key="data.targets", choices=("given", "linear"), scope=Scope.DATA)
    standardize: str = axis("none", "input standardisation, from training statistics", key="data.standardize",
        choices=("none", "global", "feature", "sphere"), scope=Scope.DATA)
    data_content: str | None = axis(None,
        "sha256 of the samples, found by dd where it knows no checksum; if given, the samples must have it",
        key="data.content", scope=Scope.DATA)
    classes: str | None = axis(None, "classes that take part, as 0,6 or cat,dog, counted from 0 anew; null: all",
        key="data.classes", listed=True, scope=Scope.DATA)
    augment: str = axis("none", "crop_flip: training sees images shifted by up to 4 pixels and mirrored, by chance",
        key="data.augment", choices=("none", "crop_flip"), scope=Scope.STEPS)
    init: Initialization | None = _component("default", "scheme of the trained weights", Scope.START, key="init",
        nullable=True)
    init_scale: float | None = axis(1.0, "multiplies the initial standard deviation", key="init.scale", low=0,
        scope=Scope.START)
    normalization: Normalization = _component("none", "normalisation of the features that the last layer sees",
        Scope.DESIGN, key="normalization", trained=Scope.START)
    optimizer: Optimizer = _component("sgd", "update rule or closed form", Scope.STEPS, key="optimizer")
    lr: float | None = axis(None, "step size in units of lr_unit", low=0, low_open=True, scope=Scope.STEPS)
    lr_unit: str | None = axis(None, "absolute, or sharpness: units of 1/lambda_max of the run's initial Hessian",
        choices=("absolute", "sharpness"), scope=Scope.STEPS)
    schedule: Schedule = _component("constant", "step sizes along the way, as shares of lr", Scope.STEPS,
        key="schedule")
    batch_size: int | None = axis(50, "samples per step", unit="samples", low=1, words=("full",), scope=Scope.STEPS)
    steps: int | None = axis(None, "budget in updates (or give epochs)", unit="updates", low=0, scope=Scope.STEPS,
        prefix=True)
    stop_loss: float | None = axis(None, "stop once the train loss is at or below this", low=0, scope=Scope.STEPS)
    loss: str = axis("mse", "training loss: mean squared error or cross-entropy", choices=("mse", "cross_entropy"),
        scope=Scope.STEPS)
    solver: str = axis("auto",
        "exact (one decomposition), dual (steps in function space) or iterative; auto: the cheapest that applies",
        choices=("auto", *SOLVERS), scope=Scope.STEPS)
    seed: int = axis(0, "seed of features, weights and batch order", low=0, high=2**63 - 1, scope=Scope.FEATURES,
        trained=Scope.START)
    dtype: str = axis("float32",
        "precision of iterative training (bfloat16: of products alone, for deep networks); solvers use float64",
        choices=("float32", "float64", "bfloat16"), scope=Scope.STEPS)
    # fmt: on

    @cached_property
    def run_id(self) -> str:
        """Hash of the resolved axes alone; equal on every machine, device and launcher.

        Axes at their neutral default are left out, so that a new axis does not orphan old results.
        """
        names, read, defaults = _plain_axes()
        identity = {name: own for name, own, default in zip(names, read(self), defaults, strict=True) if own != default}
        # plain iteration is neutral, and a closed form has no choice
        if self.solver == ("exact" if self.optimizer.closed_form else "iterative"):
            del identity["solver"]
        for group, usual in _usual_components():
            component = getattr(self, group)
            name = None if component is None else component.name
            if name != usual:
                identity[group] = name
            if component is not None and component.said:
                identity |= {f"{group}.{key}": option for key, option in component.said.items()}
        return hashlib.sha256(_ENCODER.encode([ID_VERSION, identity]).encode()).hexdigest()[:20]

    def __hash__(self) -> int:
        return hash(self.run_id)

    @property
    def values(self) -> dict[str, Value]:
        """Every axis: fields by name, components by their names, and their options by ``group.key``."""
        found: dict[str, Value] = {}
        for name in core_axes():
            value = getattr(self, name)
            found[name] = value.name if isinstance(value, Component) else value
        for group, component in self.components.items():
            found |= {f"{group}.{key}": value for key, value in component.values().items()}
        return found

    @property
    def components(self) -> dict[str, Component]:
        """The components that it has, by group."""
        found: dict[str, Component | None] = {group: getattr(self, group) for group in registry.ROOMS}
        return {group: component for group, component in found.items() if component is not None}

    def key(self, scope: Scope) -> Key:
        """What runs must agree in to share all that axes up to a scope decide."""
        return _reader(scope, not self.model.frozen_features, True)(self)

    def _beginning(self, scope: Scope) -> Key:
        """:meth:`key`, but for axes of the last scope whose smaller values are the beginning of larger ones."""
        return _reader(scope, not self.model.frozen_features, False)(self)

    def but(self, *names: str) -> Key:
        """Everything that a run is, but for some fields; a trainer names those in which its runs may differ."""
        return _others(names)(self)

    @property
    def data_key(self) -> Key:
        """What the tensors of the run's problem depend on."""
        return self.key(Scope.DATA)

    @property
    def inputs_key(self) -> Key:
        """What a run's inputs to training depend on, the width of nested features apart (``common_inputs``)."""
        return self._beginning(Scope.FEATURES) if self.model.nested else self.key(Scope.FEATURES)

    @property
    def design_key(self) -> Key:
        """What the design matrix of frozen features depends on."""
        return self.key(Scope.DESIGN)

    @property
    def start_key(self) -> Key:
        """What the weights before the first step depend on."""
        return self.key(Scope.START)

    @property
    def trajectory_key(self) -> Key:
        """Iterated runs that agree in it go the same way, some farther than others.

        The run but for its budget, unless the budget decides about step sizes.
        """
        return self._beginning(Scope.STEPS) if self.schedule.prefix else self.key(Scope.STEPS)

    @property
    def batches_per_epoch(self) -> int | None:
        """Updates per pass over the training set; the last batch may be smaller."""
        return None if self.batch_size is None else math.ceil(self.n_train / self.batch_size)

    @property
    def epochs(self) -> float | None:
        """The budget in passes over the training set."""
        if self.steps is None or self.batches_per_epoch is None:
            return None
        return self.steps / self.batches_per_epoch

    @property
    def n_drawn(self) -> int:
        """Training samples that are drawn: those that it trains on, and those held out."""
        return self.n_train + self.n_validation

    @property
    def validation(self) -> float:
        """The shortest share of the training samples drawn that makes :attr:`n_validation`."""
        shares = (round(self.n_validation / self.n_drawn, digits) for digits in range(1, 18))
        return next(share for share in shares if round(share * self.n_drawn) == self.n_validation)

    @property
    def test_set_seed(self) -> int:
        """The seed that draws the test set."""
        return self.data_seed if self.test_seed is None else self.test_seed

    @property
    def classification(self) -> bool:
        """Whether targets are classes: those of the data set, not their linear fit."""
        return self.data.classification and self.targets == "given"

    @property
    def outputs(self) -> int:
        """Number of classes that take part, or of real targets."""
        return self.data.outputs if self.chosen is None else len(self.chosen)

    @cached_property
    def chosen(self) -> tuple[int, ...] | None:
        """Numbers of the classes that take part, ascending; None: all.

        Raises:
            ConfigError: the set has no such class (any more).
        """
        if self.classes is None:
            return None
        names, asked = self.data.class_names, self.classes.split(",")
        if not set(asked) <= set(names):
            raise ConfigError("data.classes", self.classes, f"data={self.data.name} has {', '.join(names)}")
        return tuple(sorted(map(names.index, asked)))

    @property
    def linear(self) -> bool:
        """Whether outputs are linear in what is trained, with a fixed design matrix: frozen features, fixed scaling."""
        return self.model.frozen_features and not self.normalization.batch_dependent and not self.normalization.trains

    @property
    def columns(self) -> int:
        """Columns of the matrix that the read-out sees, the column of ones included."""
        return self.model.feature_count(self) + int(self.model.has_bias)

    def replace(self, **changes: object) -> Run:
        """Return a copy with some fields changed (not checked again)."""
        if unknown := changes.keys() - core_axes().keys():
            raise TypeError(f"a run has no {', '.join(sorted(unknown))}")
        # dataclasses.replace takes four times as long, and a sweep makes 100,000 copies
        copy, fields = object.__new__(type(self)), vars(self) | changes
        fields.pop("run_id", None)
        fields.pop("chosen", None)
        vars(copy).update(fields)
        return copy


@cache
def core_axes() -> dict[str, Axis]:
    """Field name of Run -> its axis, in the order of declaration; components are names there."""
    plain = axes_of(Run)
    return {f.name: plain.get(f.name) or f.metadata["component"] for f in dataclasses.fields(Run)}


@cache
def _plain_axes() -> tuple[tuple[str, ...], Callable[[Run], Key], tuple[Value, ...]]:
    """Names of the axes that are no components, what reads them, and their neutral values; none is a solver's."""
    names = tuple(axes_of(Run))
    defaults = (None if name == "solver" else axis.default for name, axis in axes_of(Run).items())
    return names, attrgetter(*names), tuple(defaults)


@cache
def _usual_components() -> tuple[tuple[str, Value], ...]:
    """Groups, and the name of the component that says nothing."""
    return tuple((group, core_axes()[group].default) for group in registry.ROOMS)


@cache
def _reader(scope: Scope, trained: bool, beginnings: bool) -> Callable[[Run], Key]:
    """Reads the fields of a run whose axes are of a scope or an earlier one.

    Args:
        scope: the last one.
        trained: whether the model trains its features.
        beginnings: whether axes of the last scope count whose smaller values are the beginning of larger ones.
    """
    found = []
    for name, one in core_axes().items():
        own = one.trained if trained and one.trained is not None else one.scope
        assert own is not None
        if own < scope or (own == scope and (beginnings or not one.prefix)):
            found.append(name)
    return attrgetter(*found)


@cache
def _others(names: tuple[str, ...]) -> Callable[[Run], Key]:
    """Reads the fields of a run but for some."""
    return attrgetter(*(name for name in core_axes() if name not in names))
