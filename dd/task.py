"""The task that Hydra calls, and the folder of its configuration."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dd.config import OriginOf, RunConfig, Settings, resolve, text_paths
from dd.errors import DDError, RunsFailed, Stop


def conf_dir() -> Path:
    """Folder of the configuration: inside an installed package, beside ``dd/`` in a checkout."""
    inside = Path(__file__).resolve().parent / "conf"
    return inside if inside.is_dir() else inside.parent.parent / "conf"


def origin_of(overrides: Sequence[str], command_line: Sequence[str], choices: Mapping[str, str]) -> OriginOf:
    """Say where the value of a key was set.

    Args:
        overrides: the run's overrides, ``key=value``.
        command_line: overrides as typed; others come from a preset.
        choices: chosen file of each group.
    """

    def keys(items: Sequence[str]) -> set[str]:
        return {item.split("=", 1)[0].lstrip("+~") for item in items}

    def origin(key: str) -> str:
        given, typed = keys(overrides), keys(command_line)  # asked for in an error message only
        if key in typed:
            return "the command line"
        preset = choices.get("experiment")
        if preset:
            for path in _with_bases(conf_dir() / "experiment" / f"{preset}.yaml"):
                if _sweeps(path, key) if key in given else _sets(path, key):
                    return f"conf/experiment/{path.name}"
        if key in given:
            return "hydra.sweeper.params"
        for group in ("scale", key.split(".")[0], "optimizer", "data"):
            if choices.get(group):
                path = conf_dir() / group / f"{choices[group]}.yaml"
                if _sets(path, key) or _sets(path, key.removeprefix(f"{group}.")):
                    return f"conf/{group}/{choices[group]}.yaml"
        return "conf/config.yaml"

    return origin


def _sets(path: Path, key: str) -> bool:
    """Whether a file gives a dotted key a value."""
    if not path.is_file():
        return False
    node = OmegaConf.to_container(OmegaConf.load(path))
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return node is not None


def _sweeps(path: Path, key: str) -> bool:
    """Whether a file gives a key several values."""
    body: Any = OmegaConf.to_container(OmegaConf.load(path))
    return key in body.get("hydra", {}).get("sweeper", {}).get("params", {})


def _with_bases(path: Path) -> list[Path]:
    """A preset's file, and those of its folder that it builds on."""
    if not path.is_file():
        return []
    body = OmegaConf.to_container(OmegaConf.load(path))
    defaults = body.get("defaults", []) if isinstance(body, dict) else []
    bases = [path.with_name(f"{name}.yaml") for name in defaults if isinstance(name, str) and name.startswith("_")]
    return [path, *(base for base in bases if base.name != "_self_.yaml")]


def command_of(arguments: Sequence[str]) -> str:
    """The shell line that starts the same sweep again."""
    return shlex.join(["python", "-m", "dd.run", *arguments])


TYPED: ContextVar[Sequence[str] | None] = ContextVar("TYPED", default=None)
"""The command line as the user typed it, where Hydra is given another spelling of it."""


def command_line() -> Sequence[str]:
    """What the user typed after ``python -m dd.run``."""
    typed = TYPED.get()
    return sys.argv[1:] if typed is None else typed


def container_of(config: DictConfig) -> dict[str, Any]:
    """A composed configuration as a nested dict, its interpolations resolved.

    Free text that refers to a number (``name=${seed}``) becomes a word; a number itself is left for the check.
    """
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    for path in text_paths():
        node: Any = plain
        for part in path[:-1]:
            node = node.get(part) if isinstance(node, dict) else None
        leaf = path[-1]
        if isinstance(node, dict) and isinstance(node.get(leaf), int | float):
            parent = OmegaConf.select(config, ".".join(path[:-1])) if path[:-1] else config
            if OmegaConf.is_interpolation(parent, leaf):
                node[leaf] = str(node[leaf])
    return {str(k): v for k, v in plain.items()}


def overrides_of(node: Any) -> list[str]:
    """What was typed, from a composed ``hydra`` node; iterating over it would follow the references in it."""
    found = OmegaConf.to_container(node.overrides.task, resolve=False)
    assert isinstance(found, list)
    return [str(text) for text in found]


def task(config: DictConfig) -> float | None:
    """Run one point and return its test loss (for sweepers that search); Hydra calls this.

    Raises:
        ConfigError, StoreError: nothing was computed.
        RunsFailed: the run is a row with status ``failed``.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from dd.loading import told

    overrides = overrides_of(HydraConfig.get())
    choices = {k: str(v) for k, v in HydraConfig.get().runtime.choices.items() if v is not None}
    try:
        with told(overrides):
            plain = container_of(config)
        return run_one(plain, origin_of(overrides, overrides, choices))
    except (DDError, RunsFailed) as error:
        if HydraConfig.get().mode is RunMode.RUN:
            raise Stop(error) from error
        raise


def run_one(config: Mapping[str, Any], origin: OriginOf) -> float | None:
    """Validate and run one composed configuration; see :func:`task`."""
    from dd.sweeps import run_sweep

    run, settings = validated(config, origin)
    outcome = run_sweep([run], settings, command_of(command_line()))
    if outcome.failed:
        raise RunsFailed("the run failed")
    return outcome.rows[0]["test_loss"] if outcome.rows else None


def validated(config: Mapping[str, Any], origin: OriginOf) -> tuple[RunConfig, Settings]:
    """Turn a composed configuration into what dd runs."""
    return resolve(config, origin), Settings.from_dict(config, origin)
