"""From override lists to validated runs, without composing every job.

Hydra takes about 0.1 s to compose a configuration. Here that happens once for each combination of group choices (and of
anything else that is not a plain value of a known key); plain values are set on a copy.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, open_dict

from dd.config import RunConfig, Settings
from dd.errors import ConfigError
from dd.task import origin_of, validated


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
        self._bases: dict[tuple[str, ...], tuple[dict[str, Any], dict[str, str]]] = {}

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
                and not _interpolates(override)
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
        if tuple(other) in self._live or any(_interpolates(override) for _, override, _ in parsed):
            plain, other = [], list(overrides)
        key = tuple(other)
        if key not in self._bases:
            composed = self.loader.load_sweep_config(self.config, other)
            choices = {str(k): str(v) for k, v in composed.hydra.runtime.choices.items() if v is not None}
            with open_dict(composed):
                del composed["hydra"]
            if plain and "${" in str(OmegaConf.to_container(composed)):
                # a value that may follow a swept one: every job is composed in full
                self._live.add(key)
                return self.compose(overrides)
            container = OmegaConf.to_container(composed, resolve=True)
            assert isinstance(container, dict)
            self._bases[key] = ({str(k): v for k, v in container.items()}, choices)
        base, choices = self._bases[key]
        config = copy.deepcopy(base)
        for text, override in plain:
            if not _set(config, override.key_or_group, override.value()):
                # a key that the base lacks: Hydra itself tells what is wrong with it
                self.loader.load_sweep_config(self.config, [*other, text])
        return config, choices


def _interpolates(override: Override) -> bool:
    """Whether a value refers to another key (Hydra writes it with escaped braces when it expands a sweep)."""
    return "${" in str(override.value())


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
