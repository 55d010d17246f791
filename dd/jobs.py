"""From the jobs of a sweep to validated runs, without composing every job.

Hydra takes about 0.1 s to compose a configuration. Here that happens once for each combination of group choices (and of
anything else that is not a plain value of a known key); plain values are set on a copy, and references to other keys
(``${seed}``) are followed there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf, open_dict

from dd.config import RunConfig, Settings, SettingsReader, resolve, text_paths
from dd.errors import ConfigError
from dd.grid import REFERENCE, Grid, Job, Reader, foreign
from dd.loading import told
from dd.task import container_of, origin_of

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
        self.reader = Reader(loader)
        self._live: set[tuple[str, ...]] = set()
        self._bases: dict[tuple[str, ...], tuple[dict[str, Any], dict[str, str], list[Path]]] = {}

    def runs(self, jobs: Sequence[Sequence[str]], typed: Sequence[str]) -> tuple[list[RunConfig], Settings | None]:
        """Compose and validate every job of a sweep.

        Args:
            jobs: overrides of each job; a :class:`dd.grid.Grid` is not parsed again.
            typed: overrides as the user typed them, for error messages.

        Returns:
            The runs, in order, and the settings that they share (None without jobs).

        Raises:
            ConfigError: the first job that cannot be run, or settings that differ between jobs.
        """
        runs: list[RunConfig] = []
        settings: Settings | None = None
        read = SettingsReader()
        options: dict[Any, Any] = {}
        for job in self._jobs(jobs, typed):
            config, choices = self._composed(job, typed)
            origin = origin_of([assignment.text for assignment in job], typed, choices)
            run = resolve(config, origin)
            # most runs of a sweep have the same options: one tuple serves them all
            object.__setattr__(run, "options", options.setdefault(run.options, run.options))
            own = read(config, origin)
            if own is not settings:
                settings = settings or own
                _agree(settings, own, origin)
            runs.append(run)
        return runs, settings

    def _jobs(self, jobs: Iterable[Sequence[str]], typed: Sequence[str]) -> Iterator[Job]:
        if isinstance(jobs, Grid):
            yield from jobs.jobs()
            return
        for texts in jobs:
            with told(typed):
                job = tuple(self.reader.assignment(text) for text in texts)
            yield job

    def _composed(self, job: Job, typed: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
        """A job's configuration as a nested dict, and the chosen file of each group.

        Raises:
            ConfigError: what Hydra cannot compose.
        """
        with told(typed):
            return self.compose(job)

    def compose(self, job: Job) -> tuple[dict[str, Any], dict[str, str]]:
        """Return a job's configuration as a nested dict, and the chosen file of each group."""
        plain = [assignment for assignment in job if assignment.plain]
        other = [assignment.text for assignment in job if not assignment.plain]
        if other:
            added = {assignment.key for assignment in job if not assignment.plain}
            if tuple(other) in self._live or any(assignment.key in added for assignment in plain):
                plain, other = [], [assignment.text for assignment in job]
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
            if any(foreign(text) for _, text in found):
                if plain:  # a value that may follow a swept one: every job is composed in full
                    self._live.add(key)
                    return self.compose(job)
                container, references = container_of(composed), []
            self._bases[key] = ({str(k): v for k, v in container.items()}, choices, references)
        base, choices, references = self._bases[key]
        config = _copied(base)
        for assignment in plain:
            value = assignment.value
            if not _set(config, assignment.key, value):
                # a key that the base lacks: Hydra itself tells what is wrong with it
                self.loader.load_sweep_config(self.config, [*other, assignment.text])
            if isinstance(value, str) and "${" in value:
                references = [*references, tuple(assignment.key.split("."))]
        try:
            _follow(config, references)
        except KeyError:
            # Hydra itself tells what is wrong with the reference
            return self._in_full([assignment.text for assignment in job]), choices
        return config, choices

    def _in_full(self, overrides: Sequence[str]) -> dict[str, Any]:
        """Compose a job by Hydra alone."""
        composed = self.loader.load_sweep_config(self.config, list(overrides))
        with open_dict(composed):
            del composed["hydra"]
        return container_of(composed)


def _agree(settings: Settings, own: Settings, origin: Any) -> None:
    """Refuse a job whose settings are not those of the jobs before it."""
    for key, value in vars(own).items():
        if value != getattr(settings, key):
            allowed = f"one sweep has one {key}; an earlier run has {getattr(settings, key)}"
            raise ConfigError(key, value, allowed, origin(key))


def _copied(node: dict[str, Any]) -> dict[str, Any]:
    """Copy of a nested dict, values shared: ``copy.deepcopy`` would take most of a job's time."""
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in node.items()}


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
        if path in text_paths() and isinstance(value, int | float):
            value = str(value)  # name=${seed} is a word
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
