"""Settings: how a sweep is carried out and where its rows go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from dd.errors import ConfigError, is_control
from dd.runs import registry
from dd.runs.axis import Axis, Scope, axes_of, axis
from dd.runs.component import Component
from dd.runs.run import OriginOf
from dd.runs.shard import shard_of

EPOCHS = Axis(
    "epochs", int, None, "passes over the data; 500 if neither this nor steps is given", "epochs", low=0, nullable=True
)
"""A second spelling of ``steps``."""

VALIDATION = Axis(
    "validation", float, 0.0, "share of data.n_train that is held out; the run ends where the loss on it was lowest",
    low=0, high=1,
)  # fmt: skip
"""A second spelling of ``data.n_validation``."""


MEASURES = ("none", "basic", "full")
"""What is measured: each holds what those before it do."""


@dataclass(frozen=True)
class Settings:
    """How a sweep is carried out and where its rows go; none of it changes a run's numbers.

    ``executor`` is one of ``dd.executors``; None: ``auto``.
    """

    executor: Component | None = None
    device: str = axis("auto", "where to compute", choices=("auto", "cpu", "cuda"), scope=Scope.WHERE)
    trainer: str = axis("auto", "what trains the runs; auto: the first that takes them", scope=Scope.WHERE)
    name: str = axis("default", "which table the rows join: <results_dir>/<name>/", scope=Scope.WHERE)
    results_dir: str = axis("results", "folder of all tables", scope=Scope.WHERE)
    force: bool = axis(False, "compute again what the table already has", scope=Scope.WHERE)
    plan_only: bool = axis(
        False, "print the plan (packs, runs, trainers, estimated time and memory) and stop", scope=Scope.WHERE
    )
    n_jobs: int | str = axis("auto", "worker processes", unit="processes", low=1, words=("auto",), scope=Scope.WHERE)
    shard: str | None = axis(
        None, "compute one part of the sweep: 3/10, or env in a job array (docs/cluster.md)", scope=Scope.WHERE
    )
    timeout: float | None = axis(
        None, "ends a pack that takes longer; its runs are tried one by one", unit="seconds", low=0, low_open=True,
        scope=Scope.WHERE,
    )  # fmt: skip
    measure_name: str = axis(
        "basic", "what is measured (choose by measure=...)", key="measure.name", choices=MEASURES,
        scope=Scope.MEASUREMENT,
    )  # fmt: skip
    measure_memory: float = axis(
        0.5, "memory for the matrices of one run; above it, estimates are used", key="measure.memory", unit="GB", low=0,
        scope=Scope.MEASUREMENT,
    )  # fmt: skip
    measure_predictions: bool = axis(
        False, "also write the test outputs of every run (docs/decomposition.md)", key="measure.predictions",
        scope=Scope.MEASUREMENT,
    )  # fmt: skip
    data_root: str | None = axis(
        None, "folder searched first for the data set's files", key="data.root", scope=Scope.WHERE
    )
    data_download: bool = axis(False, "allow downloading absent data", key="data.download", scope=Scope.WHERE)

    @classmethod
    def from_dict(cls, config: Mapping[str, object], origin: OriginOf = lambda key: "") -> Settings:
        """Check the settings of a composed configuration."""
        values = {name: axis.check(value_at(config, axis.key), origin) for name, axis in axes_of(cls).items()}
        node = config.get("executor")
        settings = cls(None if node is None else registry.chosen("executor", node, origin), **values)  # type: ignore[arg-type]
        if fault := name_fault(settings.name):
            raise ConfigError("name", settings.name, f"must be a plain folder name: {fault}", origin("name"))
        if not settings.results_dir.strip():
            raise ConfigError("results_dir", settings.results_dir, "must be a folder", origin("results_dir"))
        if settings.shard is not None:
            return replace(settings, shard=str(shard_of(settings.shard, origin)))
        return settings

    def values(self) -> dict[str, object]:
        """Every setting by its field, the executor by its name."""
        return vars(self) | {"executor": self.executor.name if self.executor else "auto"}


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
        self._raw: list[object] | None = None
        self._settings = Settings()

    def __call__(self, config: Mapping[str, object], origin: OriginOf) -> Settings:
        """Settings of a composed configuration; the object of the one before, if they are the same."""
        raw = [config.get("executor"), *(value_at(config, axis.key) for axis in axes_of(Settings).values())]
        if self._raw is None or not all(
            a is b or (type(a) is type(b) and a == b) for a, b in zip(raw, self._raw, strict=True)
        ):
            self._settings, self._raw = Settings.from_dict(config, origin), raw
        return self._settings


def setting_axes() -> tuple[Axis, ...]:
    """Axes of the settings, ``epochs`` and ``validation``."""
    return (EPOCHS, VALIDATION, *axes_of(Settings).values())


@cache
def text_paths() -> frozenset[tuple[str, ...]]:
    """Paths of the settings that are free text."""
    return frozenset(tuple(axis.key.split(".")) for axis in setting_axes() if axis.kind is str and not axis.choices)


def value_at(config: Mapping[str, object], key: str) -> object:
    """Value of a dotted key; a missing one is null."""
    node: object = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node
