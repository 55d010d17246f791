"""RunConfig: one validated point of a sweep, and the single list of every axis with its unit and range."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from dd import registry
from dd.axis import Axis
from dd.errors import ConfigError, is_control
from dd.solvers.choose import SOLVERS, choose

ID_VERSION = 1
"""Part of every run_id; raised when a change of dd makes old rows mean something else."""

OriginOf = Callable[[str], str]
"""From a key to the place where its value was set, for error messages."""


def _axis(kind: type, default: Any, help: str, key: str | None = None, **rules: Any) -> Any:
    """Declare a field of RunConfig as an axis; the key defaults to the field's name."""
    return field(metadata={"axis": dict(key=key, kind=kind, default=default, help=help, **rules)})


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One run: every axis that can change its numbers, resolved and checked.

    Axes without a meaning for a run are null (a closed form has no step size), so that runs which differ only in
    them are one run. ``options`` holds the components' own axes as (``group.key``, value) pairs.
    """

    model: str = _axis(str, "random_features", "model family")
    width: int = _axis(int, 100, "random features, hidden units, or input features", unit="units", low=1)
    data: str = _axis(str, "digits", "data set or teacher")
    n_train: int = _axis(int, 500, "training samples", "data.n_train", unit="samples", low=1)
    n_test: int = _axis(int, 1000, "test samples", "data.n_test", unit="samples", low=1)
    label_noise: float = _axis(float, 0.0, "share of training labels replaced", "data.label_noise", low=0, high=1)
    label_noise_over: str = _axis(
        str,
        "other",
        "replace a noisy label by one of the other classes, or redraw it over all",
        "data.label_noise_over",
        choices=("other", "all"),
    )
    data_seed: int = _axis(int, 0, "seed of split, noise and teacher", "data.seed", low=0, high=2**63 - 1)
    test_seed: int | None = _axis(
        int,
        None,
        "draws the test set (of a teacher also the direction); null: data.seed",
        "data.test_seed",
        low=0,
        high=2**63 - 1,
        nullable=True,
    )
    targets: str = _axis(
        str,
        "given",
        "targets of the set, or those of the best linear model of the inputs",
        "data.targets",
        choices=("given", "linear"),
    )
    standardize: str = _axis(
        str,
        "none",
        "input standardisation, from training statistics",
        "data.standardize",
        choices=("none", "global", "feature", "sphere"),
    )
    data_content: str | None = _axis(
        str,
        None,
        "sha256 of samples that dd knows no checksum of, found by dd; if given, they must have it",
        "data.content",
        nullable=True,
    )
    init: str = _axis(str, "default", "scheme of the trained weights", nullable=True)
    init_scale: float = _axis(
        float, 1.0, "multiplies the initial standard deviation", "init.scale", low=0, nullable=True
    )
    normalization: str = _axis(str, "none", "normalisation of the features that the last layer sees")
    optimizer: str = _axis(str, "sgd", "update rule or closed form")
    lr: float | None = _axis(float, None, "step size in units of lr_unit", low=0, low_open=True, nullable=True)
    lr_unit: str | None = _axis(
        str,
        None,
        "absolute, or sharpness: units of 1/lambda_max of the run's initial Hessian",
        choices=("absolute", "sharpness"),
        nullable=True,
    )
    batch_size: int | None = _axis(int, 50, "samples per step", unit="samples", low=1, words=("full",), nullable=True)
    steps: int | None = _axis(int, None, "budget in updates (or name epochs)", unit="updates", low=0, nullable=True)
    stop_loss: float | None = _axis(float, None, "stop once the train loss is at or below this", low=0, nullable=True)
    loss: str = _axis(
        str,
        "mse",
        "training loss: mean squared error or cross-entropy",
        choices=("mse", "cross_entropy"),
    )
    solver: str = _axis(
        str,
        "auto",
        "exact (one decomposition), dual (steps in function space) or iterative; auto: the cheapest that applies",
        choices=("auto", *SOLVERS),
    )
    seed: int = _axis(int, 0, "seed of features, weights and batch order", low=0, high=2**63 - 1)
    dtype: str = _axis(
        str,
        "float32",
        "precision of iterative training (bfloat16: of products alone, for deep networks); solvers use float64",
        choices=("float32", "float64", "bfloat16"),
    )
    options: tuple[tuple[str, Any], ...] = ()

    @cached_property
    def run_id(self) -> str:
        """Hash of the resolved axes alone; equal on every machine, device and launcher.

        Axes at their neutral default are left out, so that a new axis does not orphan old results.
        """
        defaults = {name: axis.default for name, axis in core_axes().items()}
        for group in registry.ROOMS:
            if getattr(self, group) is not None:
                defaults |= {f"{group}.{a.key}": a.default for a in self.component(group).options}
        # plain iteration is neutral, and a closed form has no choice
        defaults["solver"] = "exact" if self.component("optimizer").closed_form else "iterative"
        named = {name: getattr(self, name) for name in core_axes()} | dict(self.options)
        identity = {k: v for k, v in named.items() if v != defaults[k]}
        text = json.dumps([ID_VERSION, identity], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:20]

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
    def data_key(self) -> tuple[Any, ...]:
        """Everything that the tensors of the run's problem depend on."""
        return (
            self.data, self.n_train, self.n_test, self.label_noise, self.label_noise_over, self.data_seed,
            self.test_seed, self.targets, self.standardize, self.data_content,
            tuple(self.group_options("data").items()),
        )  # fmt: skip

    @property
    def test_set_seed(self) -> int:
        """The seed that draws the test set."""
        return self.data_seed if self.test_seed is None else self.test_seed

    @property
    def classification(self) -> bool:
        """Whether targets are classes: those of the data set, not their linear fit."""
        return bool(self.component("data").classification) and self.targets == "given"

    @property
    def inputs_key(self) -> tuple[Any, ...]:
        """Everything but the width that a run's inputs to training depend on (``dd.network.common_inputs``)."""
        seed = self.seed if self.component("model").frozen_features else None
        return (self.data_key, self.model, seed, tuple(self.group_options("model").items()))

    @property
    def feature_key(self) -> tuple[Any, ...]:
        """Everything that the run's design matrix depends on, if its features are frozen."""
        return (
            self.data_key, self.model, self.width, self.normalization, self.seed,
            tuple(self.group_options("model").items()), tuple(self.group_options("normalization").items()),
        )  # fmt: skip

    @property
    def trajectory_key(self) -> RunConfig:
        """The run but for its budget: iterated runs that agree in it go the same way, some farther than others."""
        return self.replace(steps=0)

    @property
    def linear(self) -> bool:
        """Whether outputs are linear in what is trained, with a fixed design matrix: frozen features, fixed scaling."""
        fixed = not self.component("normalization").batch_dependent
        trained_gain = self.group_options("normalization").get("affine", False)
        return self.component("model").frozen_features and fixed and not trained_gain

    @property
    def columns(self) -> int:
        """Columns of the matrix that the read-out sees, the column of ones included."""
        model = self.component("model")
        return model.feature_count(self) + int(model.has_bias(self))

    def component(self, group: str) -> Any:
        """Return the component chosen in ``group``."""
        return registry.get(group, getattr(self, group))

    def group_options(self, group: str) -> dict[str, Any]:
        """Return the options of one component, keys without the group."""
        return {k.split(".", 1)[1]: v for k, v in self.options if k.startswith(group + ".")}

    def replace(self, **changes: Any) -> RunConfig:
        """Return a copy with some fields changed (not checked again)."""
        return dataclasses.replace(self, **changes)


@cache
def core_axes() -> dict[str, Axis]:
    """Field name of RunConfig -> its axis, in the order of declaration."""
    axes = {}
    for f in dataclasses.fields(RunConfig):
        if "axis" in f.metadata:
            spec = dict(f.metadata["axis"])
            spec["key"] = spec["key"] or f.name
            axes[f.name] = Axis(**spec)
    return axes


SETTINGS = (
    Axis("epochs", int, None, "budget in passes over the data; 500 where neither is named", "epochs", low=0,
         nullable=True),
    Axis("device", str, "auto", "where to compute", choices=("auto", "cpu", "cuda")),
    Axis("name", str, "default", "which table the rows join: <results_dir>/<name>/"),
    Axis("results_dir", str, "results", "folder of all tables"),
    Axis("force", bool, False, "compute again what the table already has"),
    Axis("plan_only", bool, False, "print the plan (packs, runs, estimated time and memory) and stop"),
    Axis("n_jobs", int, "auto", "worker processes", "processes", low=1, words=("auto",)),
    Axis("timeout", float, None, "ends a pack that takes longer; its runs are tried one by one", "seconds", low=0,
         low_open=True, nullable=True),
    Axis("measure.name", str, "basic", "what is measured (choose by measure=...)", choices=("basic", "full")),
    Axis("measure.memory", float, 0.5, "one run's matrices may take so much; beyond, estimates serve", "GB", low=0),
    Axis("measure.predictions", bool, False, "also write the test outputs of every run (docs/decomposition.md)"),
    Axis("data.root", str, None, "folder searched first for the data set's files", nullable=True),
    Axis("data.download", bool, False, "allow downloading absent data"),
)  # fmt: skip
"""Keys that change no number of a run (``epochs`` is a second spelling of ``steps``)."""


@dataclass(frozen=True)
class Settings:
    """How a sweep is carried out and where its rows go; none of it changes a run's numbers."""

    device: str = "auto"
    name: str = "default"
    results_dir: str = "results"
    force: bool = False
    plan_only: bool = False
    n_jobs: int | str = "auto"
    timeout: float | None = None
    measure_name: str = "basic"
    measure_memory: float = 0.5
    measure_predictions: bool = False
    data_root: str | None = None
    data_download: bool = False

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], origin: OriginOf = lambda key: "") -> Settings:
        """Check the settings of a composed configuration."""
        values = {}
        for axis in SETTINGS:
            if axis.key != "epochs":
                values[axis.column] = axis.check(_get(config, axis.key), origin)
        if fault := name_fault(values["name"]):
            raise ConfigError("name", values["name"], f"must be a plain folder name: {fault}", origin("name"))
        if not values["results_dir"].strip():
            raise ConfigError("results_dir", values["results_dir"], "must be a folder", origin("results_dir"))
        return cls(**values)


LONGEST_NAME = 100
"""Bytes of a table's name at most: files are named after it, and a file name has 255."""


def name_fault(name: str) -> str | None:
    """What keeps a name from being a folder that every system can hold; None if nothing does."""
    if not name or name.startswith((".", "_")):
        return "not empty, and not beginning with . or _"
    if "/" in name or "\\" in name or any(map(is_control, name)):
        return "one line without / and \\"
    if name.endswith((" ", ".")):
        return "not ending in a space or a dot"
    if len(name.encode()) > LONGEST_NAME:
        return f"at most {LONGEST_NAME} bytes"
    return None


class SettingsReader:
    """Checks the settings of one configuration after the other; those that are the same are checked once."""

    def __init__(self) -> None:
        self._raw: list[Any] | None = None
        self._settings = Settings()

    def __call__(self, config: Mapping[str, Any], origin: OriginOf) -> Settings:
        """Settings of a composed configuration; the object of the one before, if they are the same."""
        raw = [_get(config, axis.key) for axis in SETTINGS[1:]]
        if self._raw is None or not all(
            a is b or (type(a) is type(b) and a == b) for a, b in zip(raw, self._raw, strict=True)
        ):
            self._settings, self._raw = Settings.from_dict(config, origin), raw
        return self._settings


@cache
def text_paths() -> frozenset[tuple[str, ...]]:
    """Paths of the settings that are free text."""
    return frozenset(tuple(axis.key.split(".")) for axis in SETTINGS if axis.kind is str and not axis.choices)


def _get(config: Mapping[str, Any], key: str) -> Any:
    """Value of a dotted key; a missing one is null."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node


def _choice(config: Mapping[str, Any], group: str, origin: OriginOf) -> str:
    """Name of the component chosen in a group."""
    node = config.get(group)
    name = node.get("name") if isinstance(node, Mapping) else node
    if name not in registry.names(group):
        raise ConfigError(group, name, "must be one of " + ", ".join(registry.names(group)), origin(group))
    return str(name)


@cache
def _known_keys() -> frozenset[str]:
    """Keys at the top of a configuration."""
    return frozenset({*registry.ROOMS, "epochs", "scale"} | {a.key.split(".")[0] for a in _all_axes()})


@cache
def _shared_keys(group: str) -> frozenset[str]:
    """Keys below a group that do not belong to its component."""
    return frozenset({"name"} | {a.key.split(".")[1] for a in _all_axes() if a.key.startswith(group + ".")})


def _all_axes() -> tuple[Axis, ...]:
    return (*core_axes().values(), *SETTINGS)


def resolve(config: Mapping[str, Any], origin: OriginOf = lambda key: "") -> RunConfig:
    """Turn a composed configuration (plain nested dict) into a RunConfig.

    Args:
        config: the keys of ``conf/config.yaml``; a group is a dict with ``name`` and the component's options.
        origin: says where a key's value was set.

    Raises:
        ConfigError: a value, or a combination of values, that cannot be run.
    """
    axes = core_axes()
    keys = _known_keys()
    for unknown in sorted(map(str, config.keys() - keys)):
        near = difflib.get_close_matches(unknown, keys, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else "python -m dd.run --help lists the keys"
        raise ConfigError(unknown, config[unknown], f"no such key; {hint}", origin(unknown))
    values: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for group in registry.ROOMS:
        name = values[group] = _choice(config, group, origin)
        component = registry.get(group, name)
        known = {axis.key: axis for axis in component.options}
        node = config.get(group)
        given: Mapping[str, Any] = node if isinstance(node, Mapping) else {}
        for key in given.keys() - known.keys() - _shared_keys(group):
            allowed = ", ".join(sorted(known)) or "none"
            raise ConfigError(
                f"{group}.{key}",
                given[key],
                f"{group}={name} has no such option; it has: {allowed}",
                origin(f"{group}.{key}"),
            )
        for key, axis in known.items():
            full = f"{group}.{key}"
            options[full] = axis.check(given.get(key, axis.default), origin, full)
    for field_name, axis in axes.items():
        if field_name not in registry.ROOMS:
            raw = _get(config, axis.key)
            if raw is None and not axis.nullable and field_name in ("dtype", "solver"):
                raw = axis.default
            values[field_name] = axis.check(raw, origin)
    for group in registry.ROOMS:
        registry.get(group, values[group]).canonical(options)
    if values["test_seed"] == values["data_seed"]:
        values["test_seed"] = None

    optimizer = registry.get("optimizer", values["optimizer"])
    if optimizer.closed_form:
        # a closed form has no trajectory: what only shapes the trajectory is null
        values |= dict.fromkeys(("lr", "lr_unit", "batch_size", "steps", "stop_loss", "init", "init_scale"), None)
        values["dtype"] = "float64"
        if "normalization.affine" in options:
            options["normalization.affine"] = False  # gain and shift are trained, and nothing is
        options = {k: v for k, v in options.items() if not k.startswith("init.")}
    else:
        _resolve_budget(values, config, origin)
        if not optimizer.step_size:
            values |= {"lr": None, "lr_unit": None}
        for key in ("lr", "lr_unit", "init_scale")[0 if optimizer.step_size else 2 :]:
            if values[key] is None:
                raise ConfigError(
                    axes[key].key, None, axes[key].allowed().replace(", or null", ""), origin(axes[key].key)
                )
        if values["init"] == "zero":
            values["init_scale"] = 1.0  # zero times any scale is the same run
    run = RunConfig(**values, options=tuple(sorted(options.items())))
    chosen = [registry.get(group, values[group]) for group in registry.ROOMS if values[group] is not None]
    for component in chosen:
        run = component.settle(run, origin)
    for component in chosen:
        component.check(run, origin)
    if run.loss == "cross_entropy" and not run.classification:
        real = f"data={run.data}" if run.targets == "given" else f"data.targets={run.targets}"
        raise ConfigError("loss", run.loss, f"{real} has real targets; use loss=mse", origin("loss"))
    if run.dtype == "bfloat16" and not run.component("model").deep:
        raise ConfigError("dtype", run.dtype, f"must be float32 or float64 for model={run.model}", origin("dtype"))
    solver = choose(run, run.solver, origin)
    return run.replace(solver=solver, dtype=run.dtype if solver == "iterative" else "float64")


def _resolve_budget(values: dict[str, Any], config: Mapping[str, Any], origin: OriginOf) -> None:
    """Settle batch size and budget: ``batch_size`` in samples, ``steps`` in updates."""
    n = values["n_train"]
    if values["batch_size"] is None:
        raise ConfigError("batch_size", None, "must be an integer >= 1, or full", origin("batch_size"))
    batch = n if values["batch_size"] == "full" else values["batch_size"]
    if batch > n:
        raise ConfigError("batch_size", batch, f"must be <= data.n_train={n}, or full", origin("batch_size"))
    values["batch_size"] = batch
    epochs = SETTINGS[0].check(_get(config, "epochs"), origin)
    if epochs is not None and values["steps"] is not None:
        raise ConfigError("epochs", epochs, f"name epochs or steps={values['steps']}, not both", origin("epochs"))
    if values["steps"] is None:
        values["steps"] = (500 if epochs is None else epochs) * math.ceil(n / batch)
