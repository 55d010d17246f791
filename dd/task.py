"""The task that Hydra calls, and the folder of its configuration."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dd.config import OriginOf, RunConfig, Settings, resolve
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

    given, typed = keys(overrides), keys(command_line)

    def origin(key: str) -> str:
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


def task(config: DictConfig) -> float | None:
    """Run one point and return its test loss (for sweepers that search); Hydra calls this.

    Raises:
        ConfigError, StoreError: nothing was computed.
        RunsFailed: the run is a row with status ``failed``.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    overrides = list(HydraConfig.get().overrides.task)
    choices = {k: str(v) for k, v in HydraConfig.get().runtime.choices.items() if v is not None}
    try:
        return run_one({str(k): v for k, v in plain.items()}, origin_of(overrides, overrides, choices))
    except (DDError, RunsFailed) as error:
        if HydraConfig.get().mode is RunMode.RUN:
            raise Stop(error) from error
        raise


def run_one(config: Mapping[str, Any], origin: OriginOf) -> float | None:
    """Validate and run one composed configuration; see :func:`task`."""
    from dd.sweeps import run_sweep

    run, settings = validated(config, origin)
    outcome = run_sweep([run], settings, command_of(sys.argv[1:]))
    if outcome.failed:
        raise RunsFailed("the run failed")
    return outcome.rows[0]["test_loss"] if outcome.rows else None


def validated(config: Mapping[str, Any], origin: OriginOf) -> tuple[RunConfig, Settings]:
    """Turn a composed configuration into what dd runs."""
    return resolve(config, origin), Settings.from_dict(config, origin)
