"""From override lists to validated runs, without composing every job.

Hydra takes about 0.1 s to compose a configuration. Here that happens once for each combination of group choices (and of
anything else that is not a plain value of a known key); plain values are set on a copy, and references to other keys
(``${seed}``) are followed there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict

from dd.config import RunConfig, Settings
from dd.errors import ConfigError
from dd.task import origin_of, validated

REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")
"""An interpolation that names a key from the root; resolvers and relative keys are left to Hydra."""

MAX_DEPTH = 10
"""References to references that are followed; longer chains are loops."""

Path = tuple[str, ...]


class Composer:
    """Composes jobs, once for each distinct set of overrides that are not plain values.

    Args:
        config: a composed configuration with its ``hydra`` node.
        loader: Hydra's, the one that composed it.
    """

    def __init__(self, config: DictConfig, loader: ConfigLoader) -> None:
        self.config = config
        self.loader = loader
        self.parser = OverridesParser.create(config_loader=self.loader)
        self._parsed: dict[str, tuple[Override, bool]] = {}
        self._live: set[tuple[str, ...]] = set()
        self._bases: dict[tuple[str, ...], tuple[dict[str, Any], dict[str, str], list[Path]]] = {}

    def runs(self, jobs: Sequence[Sequence[str]], typed: Sequence[str]) -> tuple[list[RunConfig], Settings | None]:
        """Compose and validate every job of a sweep.

        Args:
            jobs: overrides of each job.
            typed: overrides as the user typed them, for error messages.

        Returns:
            The runs, in order, and the settings that they share (None without jobs).

        Raises:
            ConfigError: the first job that cannot be run, or settings that differ between jobs.
        """
        runs: list[RunConfig] = []
        settings: Settings | None = None
        for overrides in jobs:
            config, choices = self.compose(overrides)
            origin = origin_of(overrides, typed, choices)
            run, own = validated(config, origin)
            settings = settings or own
            for key, value in vars(own).items():
                if value != getattr(settings, key):
                    allowed = f"one sweep has one {key}; an earlier run has {getattr(settings, key)}"
                    raise ConfigError(key, value, allowed, origin(key))
            runs.append(run)
        return runs, settings

    def _parse(self, text: str) -> tuple[Override, bool]:
        """Override, and whether it is a plain value of a key (no group, no addition, no interpolation)."""
        if text not in self._parsed:
            override = self.parser.parse_override(text)
            plain = (
                override.type is OverrideType.CHANGE
                and override.package is None
                and not _foreign(override.value())
                and "\\$" not in text
                and not override.key_or_group.startswith("hydra.")
                and not self.loader.get_group_options(override.key_or_group)
            )
            self._parsed[text] = (override, plain)
        return self._parsed[text]

    def compose(self, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
        """Return a job's configuration as a nested dict, and the chosen file of each group."""
        parsed = [(text, *self._parse(text)) for text in overrides]
        plain = [(text, override) for text, override, is_plain in parsed if is_plain]
        other = [text for text, _, is_plain in parsed if not is_plain]
        added = {override.key_or_group for _, override, is_plain in parsed if not is_plain}
        if tuple(other) in self._live or any(override.key_or_group in added for _, override in plain):
            plain, other = [], list(overrides)
        key = tuple(other)
        if key not in self._bases:
            composed = self.loader.load_sweep_config(self.config, other)
            choices = {str(k): str(v) for k, v in composed.hydra.runtime.choices.items() if v is not None}
            with open_dict(composed):
                del composed["hydra"]
            container = OmegaConf.to_container(composed)
            assert isinstance(container, dict)
            found = [(path, text) for path, text in _texts(container) if "${" in text]
            references = [path for path, _ in found]
            if any(_foreign(text) for _, text in found):
                if plain:  # a value that may follow a swept one: every job is composed in full
                    self._live.add(key)
                    return self.compose(overrides)
                container, references = OmegaConf.to_container(composed, resolve=True), []
                assert isinstance(container, dict)
            self._bases[key] = ({str(k): v for k, v in container.items()}, choices, references)
        base, choices, references = self._bases[key]
        config = _copied(base)
        references = list(references)
        for text, override in plain:
            value = override.value()
            if not _set(config, override.key_or_group, value):
                # a key that the base lacks: Hydra itself tells what is wrong with it
                self.loader.load_sweep_config(self.config, [*other, text])
            if isinstance(value, str) and "${" in value:
                references.append(tuple(override.key_or_group.split(".")))
        try:
            _follow(config, references)
        except KeyError:
            # Hydra itself tells what is wrong with the reference
            return self._in_full(overrides), choices
        return config, choices

    def _in_full(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Compose a job by Hydra alone."""
        composed = self.loader.load_sweep_config(self.config, list(overrides))
        with open_dict(composed):
            del composed["hydra"]
        container = OmegaConf.to_container(composed, resolve=True)
        assert isinstance(container, dict)
        return {str(k): v for k, v in container.items()}


def _copied(node: dict[str, Any]) -> dict[str, Any]:
    """Copy of a nested dict, values shared: ``copy.deepcopy`` would take most of a job's time."""
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in node.items()}


def _foreign(value: Any) -> bool:
    """Whether a value holds an interpolation that is more than the name of a key, or lies within a list."""
    return "${" in (REFERENCE.sub("", value) if isinstance(value, str) else str(value))


def _texts(node: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every string of a nested dict, with its path."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _texts(value, (*path, str(key)))
    elif isinstance(node, str):
        yield path, node
    elif isinstance(node, list) and "${" in str(node):
        yield path, "${:}"  # references within lists are left to Hydra


def _get(config: Mapping[str, Any], path: Path) -> Any:
    """Value at a path.

    Raises:
        KeyError: there is none.
    """
    node: Any = config
    for part in path:
        if not isinstance(node, Mapping):
            raise KeyError(part)
        node = node[part]
    return node


def _follow(config: dict[str, Any], references: Sequence[Path]) -> None:
    """Replace references by what they refer to.

    Raises:
        KeyError: a key that does not exist, or a loop.
    """
    for path in references:
        *parents, leaf = path
        value = _get(config, path)
        for _ in range(MAX_DEPTH):
            if not isinstance(value, str) or "${" not in value:
                break
            whole = REFERENCE.fullmatch(value)
            if whole:
                value = _get(config, tuple(whole[1].split(".")))
            else:
                value = REFERENCE.sub(lambda found: str(_get(config, tuple(found[1].split(".")))), value)
        else:
            raise KeyError(".".join(path))
        _get(config, tuple(parents))[leaf] = value


def _set(config: dict[str, Any], key: str, value: Any) -> bool:
    """Set a dotted key that exists; tell whether it does."""
    *parents, leaf = key.split(".")
    node: Any = config
    for part in parents:
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    if not isinstance(node, dict) or leaf not in node or isinstance(node[leaf], Mapping):
        return False
    node[leaf] = value
    return True
