"""From a composed configuration to a Run: every key checked, every component made."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from dd.cli.choices import hint
from dd.components.dataset import Dataset
from dd.components.normalization import Normalization
from dd.components.optimizer import Optimizer
from dd.errors import ConfigError
from dd.problems.pools import pool_of, room_of
from dd.runs import registry
from dd.runs.axis import Axis, Value, axes_of
from dd.runs.component import Component
from dd.runs.run import OriginOf, Run, core_axes
from dd.runs.settings import EPOCHS, VALIDATION, Settings, setting_axes, value_at
from dd.schedules.constant import Constant
from dd.trainers.table import settled_solver

if TYPE_CHECKING:
    from dd.cli.jobs import Composed, Kind, Path

Config = Mapping[str, object]


def resolve(config: Config, origin: OriginOf = lambda key: "") -> Run:
    """Turn a composed configuration (plain nested dict) into a Run.

    Args:
        config: the keys of ``conf/config.yaml``; a group is a dict with ``name`` and the component's options.
        origin: says where a key's value was set.

    Raises:
        ConfigError: a value, or a combination of values, that cannot be run.
    """
    return _settled(_Checked.of(config, origin), config, origin)


SEEDS = {("seed",): "seed", ("data", "seed"): "data_seed"}
"""Paths and fields of the seeds: nothing is settled or refused by them."""


class Resolver:
    """Turns the configurations of a sweep into runs: what they have in common is looked at once."""

    def __init__(self) -> None:
        self._firsts: dict[Kind, _Checked] = {}
        self._twins: dict[tuple[Kind, str], Run] = {}

    def __call__(self, found: Composed, origin: OriginOf) -> Run:
        """See :func:`resolve`."""
        config, kind = found.config, found.kind
        if kind is None:
            return resolve(config, origin)
        # texts, since 1, 1.0 and true are equal
        twin = kind, repr([change for change in found.changes.items() if change[0] not in SEEDS])
        first, run = self._firsts.get(kind), self._twins.get(twin)
        try:
            if run is not None:
                return run.replace(**{name: _plain(config, name, _nowhere) for name in SEEDS.values()})
            checked = _Checked.of(config, origin) if first is None else first.but(config, found.changes)
        except ConfigError:
            return resolve(config, origin)  # which tells the first of several faults
        self._firsts.setdefault(kind, checked)
        run = _settled(checked, config, origin)
        if checked.values["test_seed"] is None and kind.sets(SEEDS):
            self._twins[twin] = run
        return run


@dataclass(frozen=True)
class _Checked:
    """What a configuration says, each value checked by itself.

    Attributes:
        components: the one chosen in each group.
        values: of the axes of a run itself, by field.
    """

    components: dict[str, Component]
    values: dict[str, Value]

    @classmethod
    def of(cls, config: Config, origin: OriginOf) -> _Checked:
        """Check all values.

        Raises:
            ConfigError: a key that does not exist, or a value that is not allowed.
        """
        keys = _known_keys()
        for unknown in sorted(map(str, config.keys() - keys)):
            raise ConfigError(unknown, config[unknown], f"no such key; {hint(unknown)}", origin(unknown))
        components = {group: _chosen(config, group, origin) for group in registry.ROOMS}
        return cls(components, {name: _plain(config, name, origin) for name in axes_of(Run)})

    def but(self, config: Config, changed: Iterable[Path]) -> _Checked:
        """Check a configuration that differs at some paths alone.

        Raises:
            ConfigError: a value that is not allowed.
        """
        components, values = self.components, self.values.copy()
        for path in changed:
            name, group = _field_at(path)
            if name:
                values[name] = _plain(config, name, _nowhere)
            elif group:
                components = components | {group: _chosen(config, group, _nowhere)}
        return _Checked(components, values)


def _settled(checked: _Checked, config: Config, origin: OriginOf) -> Run:
    """Settle what depends on several values.

    Raises:
        ConfigError: a combination of values that cannot be run.
    """
    chosen: dict[str, Component | None] = dict(checked.components)
    optimizer, normalization, init, data = (chosen[group] for group in ("optimizer", "normalization", "init", "data"))
    assert isinstance(optimizer, Optimizer)
    assert isinstance(data, Dataset)
    assert isinstance(normalization, Normalization)
    assert init is not None
    values = dict(checked.values)
    if values["test_seed"] == values["data_seed"]:
        values["test_seed"] = None
    if values["classes"] is not None:
        values["classes"] = _subset(str(values["classes"]), data, origin)
    if "all" in (values["n_train"], values["n_test"]):
        values |= _settled_sizes(Run(**chosen, **values), config, origin)  # type: ignore[arg-type]
    _hold_out(values, optimizer, config, origin)
    if optimizer.closed_form or not optimizer.step_size:
        chosen["schedule"] = Constant()  # of nothing
    if optimizer.closed_form:
        # a closed form has no trajectory: what only shapes the trajectory is null
        values |= dict.fromkeys(("lr", "lr_unit", "batch_size", "steps", "stop_loss", "init_scale"))
        values["dtype"], chosen["init"] = "float64", None
        chosen["normalization"] = normalization.untrained()
    else:
        _settle_budget(values, config, origin)
        if not optimizer.step_size:
            values |= {"lr": None, "lr_unit": None}
        for key in ("lr", "lr_unit", "init_scale")[0 if optimizer.step_size else 2 :]:
            if values[key] is None:
                axis = core_axes()[key]
                raise ConfigError(axis.key, None, axis.allowed().replace(", or null", ""), origin(axis.key))
        if init.name == "zero":
            values["init_scale"] = 1.0  # zero times any scale is the same run
    run = Run(**chosen, **values)  # type: ignore[arg-type]
    for group in chosen:
        if (component := getattr(run, group)) is not None:
            run = component.settle(run, origin)
    for component in run.components.values():
        component.check(run, origin)
    if run.loss == "cross_entropy" and not run.classification:
        real = f"data={run.data.name}" if run.targets == "given" else f"data.targets={run.targets}"
        raise ConfigError("loss", run.loss, f"{real} has real targets; use loss=mse", origin("loss"))
    if run.dtype == "bfloat16" and not run.model.deep:
        raise ConfigError("dtype", run.dtype, f"must be float32 or float64 for model={run.model.name}", origin("dtype"))
    solver = settled_solver(run, run.solver, origin)
    return run.replace(solver=solver, dtype=run.dtype if solver == "iterative" else "float64")


def _chosen(config: Config, group: str, origin: OriginOf) -> Component:
    """The component chosen in a group, with its options."""
    return _one(registry.chosen(group, config.get(group), origin, _shared_keys(group)))


@lru_cache(maxsize=1024)
def _one(component: Component) -> Component:
    """The first component that was equal: runs with the same options share one."""
    return component


def _plain(config: Config, name: str, origin: OriginOf) -> Value:
    """The value of an axis of a run itself, by its field."""
    path, axis = _plain_axes()[name]
    raw: object = config
    for part in path:
        raw = raw.get(part) if isinstance(raw, dict) else None
    if raw is None and not axis.nullable and name in ("dtype", "solver"):
        raw = axis.default
    return axis.check(raw, origin)


@cache
def _plain_axes() -> dict[str, tuple[Path, Axis]]:
    """Axes of a run itself, with their paths, by field."""
    return {name: (tuple(axis.key.split(".")), axis) for name, axis in axes_of(Run).items()}


def _nowhere(key: str) -> str:
    return ""


@cache
def _field_at(path: Path) -> tuple[str | None, str | None]:
    """The field of a run that a path sets, or else the group whose component it sets up."""
    key, group = ".".join(path), path[0]
    name = next((name for name, axis in axes_of(Run).items() if axis.key == key), None)
    shared = any(axis.key == key for axis in _all_axes())
    return name, group if group in registry.ROOMS and not shared else None


def _subset(given: str, data: Dataset, origin: OriginOf) -> str | None:
    """Chosen classes in the set's own order, each once; None where all are chosen.

    Raises:
        ConfigError: the set has no classes, or none of these.
    """
    names, asked = data.class_names, given.split(",")
    if not names:
        raise ConfigError("data.classes", given, f"data={data.name} has real targets", origin("data.classes"))
    shown = ", ".join(names[:12]) + (f", ... ({len(names)} classes)" if len(names) > 12 else "")
    for name in asked:
        if name not in names:
            raise ConfigError("data.classes", name, f"data={data.name} has {shown}", origin("data.classes"))
    kept = [name for name in names if name in asked]
    if len(kept) < 2:
        raise ConfigError(
            "data.classes", given, f"takes two classes or more, as 0,6; of {shown}", origin("data.classes")
        )
    return None if len(kept) == len(names) else ",".join(kept)


def _settled_sizes(run: Run, config: Config, origin: OriginOf) -> dict[str, Value]:
    """What ``all`` means: numbers of training and test samples.

    Without a test part of its own, a fifth of the samples is for testing where nobody says a number.

    Args:
        run: with ``all`` in the place of sizes, not checked.
        config: has the folder of the data set's files.
        origin: says where a key's value was set.

    Raises:
        ConfigError: the set has no end, or nothing is left.
    """
    data, sizes = run.data, {"n_train": run.n_train, "n_test": run.n_test}
    of_all = {name for name, size in sizes.items() if size == "all"}
    if data.train_samples is None:
        key = f"data.{min(of_all)}"
        raise ConfigError(key, "all", f"data={data.name} is drawn without end; give a number", origin(key))
    train, test = data.train_samples, data.test_samples
    if run.chosen is not None:
        train, test = room_of(run, pool_of(run, Settings.from_dict(config, origin)))
    train -= run.n_validation
    if test is not None:
        return {name: held if name in of_all else sizes[name] for name, held in (("n_train", train), ("n_test", test))}
    if "n_test" in of_all:
        sizes["n_test"] = round(train / 5) if "n_train" in of_all else train - run.n_train
    if "n_train" in of_all:
        sizes["n_train"] = train - sizes["n_test"]
    for name in sorted(of_all):
        if sizes[name] < 1:
            allowed = f"nothing is left of the {train} samples of data={data.name}"
            raise ConfigError(f"data.{name}", "all", allowed, origin(f"data.{name}"))
    return dict(sizes)


def _hold_out(values: dict[str, Value], optimizer: Optimizer, config: Config, origin: OriginOf) -> None:
    """Settle what is held out: ``validation`` takes its share from ``data.n_train``, ``data.n_validation`` does not."""
    raw, n, held = value_at(config, VALIDATION.key), values["n_train"], values["n_validation"]
    share = VALIDATION.check(VALIDATION.default if raw is None else raw, origin)
    assert isinstance(share, float)
    assert isinstance(n, int)
    key, given = ("validation", share) if share else ("data.n_validation", held)
    if share:
        if held:
            raise ConfigError(key, share, f"name validation or data.n_validation={held}, not both", origin(key))
        held = round(share * n)
        if not 0 < held < n:
            left = f"holds out {held} of data.n_train={n} samples; some must be held out, and some left to train on"
            raise ConfigError(key, share, left, origin(key))
        values |= {"n_train": n - held, "n_validation": held}
    if held and optimizer.closed_form:
        raise ConfigError(key, given, f"must be 0: optimizer={optimizer.name} takes no steps", origin(key))


def _settle_budget(values: dict[str, Value], config: Config, origin: OriginOf) -> None:
    """Settle batch size and budget: ``batch_size`` in samples, ``steps`` in updates."""
    n = values["n_train"]
    if values["batch_size"] is None:
        raise ConfigError("batch_size", None, "must be an integer >= 1, or full", origin("batch_size"))
    batch = n if values["batch_size"] == "full" else values["batch_size"]
    assert isinstance(n, int)
    assert isinstance(batch, int)
    if batch > n:
        apart = f" ({values['n_validation']} more are held out)" if values["n_validation"] else ""
        raise ConfigError("batch_size", batch, f"must be <= data.n_train={n}{apart}, or full", origin("batch_size"))
    values["batch_size"] = batch
    epochs = EPOCHS.check(value_at(config, "epochs"), origin)
    if epochs is not None and values["steps"] is not None:
        raise ConfigError("epochs", epochs, f"name epochs or steps={values['steps']}, not both", origin("epochs"))
    if values["steps"] is None:
        assert epochs is None or isinstance(epochs, int)
        values["steps"] = (500 if epochs is None else epochs) * math.ceil(n / batch)


def _all_axes() -> tuple[Axis, ...]:
    return (*core_axes().values(), *setting_axes())


@cache
def _known_keys() -> frozenset[str]:
    """Keys at the top of a configuration."""
    return frozenset({*registry.GROUPS, "scale"} | {a.key.split(".")[0] for a in _all_axes()})


@cache
def _shared_keys(group: str) -> frozenset[str]:
    """Keys below a group that do not belong to its component."""
    return frozenset(a.key.split(".")[1] for a in _all_axes() if a.key.startswith(group + "."))
