"""From the jobs of a sweep to validated runs, without composing every job.

Hydra takes about 0.1 s to compose a configuration. Here that happens once for each combination of group choices (and of
anything else that is not a plain value of a known key), and not at all for those that the sweep's own configuration was
composed with; plain values are set on a copy, and references to other keys (``${seed}``) are followed there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf, open_dict

from dd.cli.conf import container_of, origin_of
from dd.cli.grid import REFERENCE, Grid, Job, Reader, foreign, of_surroundings
from dd.cli.loading import told
from dd.errors import ConfigError
from dd.runs.run import OriginOf, Run
from dd.runs.settings import Settings, SettingsReader, text_paths
from dd.samples.stamps import look_again

MAX_DEPTH = 10
"""References to references that are followed; longer chains are loops."""

Path = tuple[str, ...]

Config = dict[str, object]
"""A composed configuration: nested dicts."""


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
        self._bases: dict[tuple[str, ...], tuple[Config, dict[str, str], list[Path]]] = {}

    def runs(self, jobs: Sequence[Sequence[str]], typed: Sequence[str]) -> tuple[list[Run], Settings | None]:
        """Compose and validate every job of a sweep.

        Args:
            jobs: overrides of each job; a :class:`dd.cli.grid.Grid` is not parsed again.
            typed: overrides as the user typed them, for error messages.

        Returns:
            The runs, in order, and the settings that they share (None without jobs).

        Raises:
            ConfigError: the first job that cannot be run, or settings that differ between jobs.
        """
        from dd.cli.resolve import resolve  # imports PyTorch, which no other Hydra command shall wait for

        look_again(early=True)
        runs: list[Run] = []
        settings: Settings | None = None
        read = SettingsReader()
        for job in self._jobs(jobs, typed):
            config, choices = self._composed(job, typed)
            origin = origin_of([assignment.text for assignment in job], typed, choices)
            runs.append(resolve(config, origin))
            own = read(config, origin)
            if own is not settings:
                settings = settings or own
                _agree(settings, own, origin)
        return runs, settings

    def _jobs(self, jobs: Iterable[Sequence[str]], typed: Sequence[str]) -> Iterator[Job]:
        if isinstance(jobs, Grid):
            yield from jobs.jobs()
            return
        for texts in jobs:
            with told(typed):
                job = tuple(self.reader.assignment(text) for text in texts)
            yield job

    def _composed(self, job: Job, typed: Sequence[str]) -> tuple[Config, dict[str, str]]:
        """A job's configuration as a nested dict, and the chosen file of each group.

        Raises:
            ConfigError: what Hydra cannot compose.
        """
        with told(typed):
            return self.compose(job)

    def compose(self, job: Job) -> tuple[Config, dict[str, str]]:
        """Return a job's configuration as a nested dict, and the chosen file of each group."""
        plain = [assignment for assignment in job if assignment.plain]
        other = [assignment.text for assignment in job if not assignment.plain]
        if other:
            added = {assignment.key for assignment in job if not assignment.plain}
            if tuple(other) in self._live or any(assignment.key in added for assignment in plain):
                plain, other = [], [assignment.text for assignment in job]
        key = tuple(other)
        if key not in self._bases:
            composed = copy(self.config) if other == self._own() else self.loader.load_sweep_config(self.config, other)
            choices = {str(k): str(v) for k, v in composed.hydra.runtime.choices.items() if v is not None}
            with open_dict(composed):
                del composed["hydra"]
            body = OmegaConf.to_container(composed)
            assert isinstance(body, dict)
            container: Config = {str(key): value for key, value in body.items()}
            found = [(path, text) for path, text in _texts(container) if "${" in text]
            for path in [path for path, text in found if of_surroundings(text)]:
                _put(container, path, OmegaConf.select(composed, ".".join(path)))
            found = [(path, text) for path, text in found if not of_surroundings(text)]
            references = [path for path, _ in found]
            if any(foreign(text) for _, text in found):
                if plain:  # a value that may follow a swept one: every job is composed in full
                    self._live.add(key)
                    return self.compose(job)
                container, references = container_of(composed), []
            self._bases[key] = (container, choices, references)
        base, choices, references = self._bases[key]
        config = _copied(base)
        for assignment in plain:
            value = assignment.value
            if not _set(config, assignment.key, value):
                # a key that the base lacks: Hydra itself adds it, or tells what is wrong with it
                return self._in_full([assignment.text for assignment in job]), choices
            if isinstance(value, str) and "${" in value:
                references = [*references, tuple(assignment.key.split("."))]
        try:
            _follow(config, references)
        except KeyError:
            # Hydra itself tells what is wrong with the reference
            return self._in_full([assignment.text for assignment in job]), choices
        return config, choices

    def _own(self) -> list[str] | None:
        """Overrides that are no plain values, with which the configuration itself was composed; None: nobody knows.

        Its plain values are in every job.
        """
        task = OmegaConf.select(self.config, "hydra.overrides.task")
        if task is None:
            return None
        given = [one for one in self.reader.overrides(list(task)) if not one.is_sweep_override()]
        own = [assignment for one in given for assignment in self.reader.dimension(one).values]
        return [assignment.text for assignment in own if not assignment.plain]

    def _in_full(self, overrides: Sequence[str]) -> Config:
        """Compose a job by Hydra alone."""
        composed = self.loader.load_sweep_config(self.config, list(overrides))
        with open_dict(composed):
            del composed["hydra"]
        return container_of(composed)


def _agree(settings: Settings, own: Settings, origin: OriginOf) -> None:
    """Refuse a job whose settings are not those of the jobs before it."""
    before = settings.values()
    for key, value in own.values().items():
        if value != before[key] or getattr(own, key) != getattr(settings, key):
            allowed = f"one sweep has one {key}; an earlier run has {before[key]}"
            raise ConfigError(key, value, allowed, origin(key))


def _copied(node: Config) -> Config:
    """Copy of a nested dict, values shared: ``copy.deepcopy`` would take most of a job's time."""
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in node.items()}


def _texts(node: object, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Every string of a nested dict, with its path."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _texts(value, (*path, str(key)))
    elif isinstance(node, str):
        yield path, node
    elif isinstance(node, list) and "${" in str(node):
        yield path, "${:}"  # references within lists are left to Hydra


def _get(config: Config, path: Path) -> object:
    """Value at a path.

    Raises:
        KeyError: there is none.
    """
    node: object = config
    for part in path:
        if not isinstance(node, Mapping):
            raise KeyError(part)
        node = node[part]
    return node


def _follow(config: Config, references: Sequence[Path]) -> None:
    """Replace references by what they refer to.

    Raises:
        KeyError: a key that does not exist, or a loop.
    """
    for path in references:
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
        _put(config, path, value)


def _put(config: Config, path: Path, value: object) -> None:
    """Set what is at a path."""
    *parents, leaf = path
    parent = _get(config, tuple(parents))
    assert isinstance(parent, dict)
    parent[leaf] = value


def _set(config: Config, key: str, value: object) -> bool:
    """Set a dotted key that exists; tell whether it does."""
    *parents, leaf = key.split(".")
    node: object = config
    for part in parents:
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    if not isinstance(node, dict) or leaf not in node or isinstance(node[leaf], Mapping):
        return False
    node[leaf] = value
    return True
