"""The folder of the configuration: where it is, which of its files sets a key, and what a composed one holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from dd.runs.run import OriginOf
from dd.runs.settings import text_paths, value_at


def conf_dir() -> Path:
    """Folder of the configuration: inside an installed package, beside ``dd/`` in a checkout."""
    inside = Path(__file__).resolve().parent.parent / "conf"
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
            for path in with_bases(conf_dir() / "experiment" / f"{preset}.yaml"):
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
    return path.is_file() and value_at(content_of(path), key) is not None


def _sweeps(path: Path, key: str) -> bool:
    """Whether a file gives a key several values."""
    content = content_of(path)
    grids = value_at(content, "hydra.sweeper.grids")
    every = [value_at(content, "hydra.sweeper.params"), *(grids if isinstance(grids, list) else [])]
    return any(isinstance(params, Mapping) and key in params for params in every)


def content_of(path: Path) -> Mapping[str, object]:
    """A file as nested dicts, references as they are."""
    body = OmegaConf.to_container(OmegaConf.load(path))
    return {str(key): value for key, value in body.items()} if isinstance(body, dict) else {}


def with_bases(path: Path) -> list[Path]:
    """A preset's file, and those of its folder that it builds on."""
    if not path.is_file():
        return []
    defaults = content_of(path).get("defaults")
    names = [name for name in defaults if isinstance(name, str)] if isinstance(defaults, list) else []
    return [path, *(path.with_name(f"{name}.yaml") for name in names if name.startswith("_") and name != "_self_")]


def container_of(config: DictConfig) -> dict[str, object]:
    """A composed configuration as a nested dict, its interpolations resolved.

    Free text that refers to a number (``name=${seed}``) becomes a word; a number itself is left for the check.
    """
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    whole = {str(key): value for key, value in plain.items()}
    for *above, leaf in text_paths():
        node = value_at(whole, ".".join(above)) if above else whole
        if isinstance(node, dict) and isinstance(node.get(leaf), int | float):
            parent = OmegaConf.select(config, ".".join(above)) if above else config
            if OmegaConf.is_interpolation(parent, leaf):
                node[leaf] = str(node[leaf])
    return whole
