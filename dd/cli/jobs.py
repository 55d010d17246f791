"""From the jobs of a sweep to validated runs, without composing every job.

Hydra takes about 0.1 s to compose a configuration. Here that happens once for each combination of group choices (and of
anything else that is not a plain value of a known key), and not at all for those that the sweep's own configuration was
composed with; plain values are set on a copy, and references to other keys (``${seed}``) are followed there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf, open_dict

from dd.cli.conf import container_of, origin_of
from dd.cli.grid import REFERENCE, Assignment, Grid, Job, Reader, foreign, of_surroundings
from dd.cli.loading import told
from dd.errors import ConfigError
from dd.garbage import uncollected
from dd.runs.registry import option_axes
from dd.runs.run import OriginOf, Run
from dd.runs.settings import Settings, SettingsReader, setting_axes, text_paths
from dd.samples.stamps import look_again

MAX_DEPTH = 10
"""References to references that are followed; longer chains are loops."""

Path = tuple[str, ...]

Config = dict[str, object]
"""A composed configuration: nested dicts."""


@dataclass(frozen=True, eq=False)
class Kind:
    """Jobs that set the same keys of one configuration: what they have in common is looked at once.

    Attributes:
        config: the configuration of the first of them, references not followed.
        first: what the first of them sets.
        paths: where.
        references: values that refer to others, by their paths.
    """

    config: Config
    first: Sequence[Assignment]
    paths: Sequence[Path]
    references: Mapping[Path, object]

    def sets(self, paths: Iterable[Path]) -> bool:
        """Whether jobs of this kind may differ at one of some paths."""
        return any(path in self.paths or path in self.references for path in paths)


class Composed(NamedTuple):
    """A job's configuration.

    Attributes:
        config: the configuration; others share its parts.
        choices: the chosen file of each group.
        kind: jobs like it; None where nobody knows.
        changes: values that may differ from those of the first of its kind, by their paths.
    """

    config: Config
    choices: dict[str, str]
    kind: Kind | None = None
    changes: Mapping[Path, object] = {}


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
        self._kinds: dict[tuple[tuple[str, ...], tuple[str, ...]], Kind] = {}
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
        from dd.cli.resolve import Resolver  # imports PyTorch, which no other Hydra command shall wait for

        look_again(early=True)
        runs: list[Run] = []
        settings: Settings | None = None
        resolve, read = Resolver(), SettingsReader()
        agreed: set[Kind | None] = set()
        self._kinds.clear()
        with uncollected():
            for job, found in self._composed(jobs, typed):
                origin = partial(_origin, job, typed, found.choices)
                runs.append(resolve(found, origin))
                if found.kind in agreed and _setting_paths().isdisjoint(found.changes):
                    continue
                own = read(found.config, origin)
                if own is not settings:
                    settings = settings or own
                    _agree(settings, own, origin)
                if found.kind:
                    agreed.add(found.kind)
        return runs, settings

    def _composed(self, jobs: Sequence[Sequence[str]], typed: Sequence[str]) -> Iterator[tuple[Job, Composed]]:
        """Every job with its configuration.

        Raises:
            ConfigError: what Hydra cannot compose.
        """
        with told(typed):
            texts = (tuple(self.reader.assignment(text) for text in job) for job in jobs)
            for job in jobs.jobs() if isinstance(jobs, Grid) else texts:
                yield job, self.compose(job)

    def compose(self, job: Job) -> Composed:
        """A job's configuration."""
        plain = [assignment for assignment in job if assignment.plain]
        key = tuple([assignment.text for assignment in job if not assignment.plain])
        sets = key, tuple([assignment.key for assignment in plain])
        kind = self._kinds.get(sets)
        if kind is None and key:
            added = {assignment.key for assignment in job if not assignment.plain}
            if key in self._live or any(assignment.key in added for assignment in plain):
                plain, key = [], tuple([assignment.text for assignment in job])
                sets = key, ()
        if key not in self._bases:
            own = self._own() == list(key)
            composed = copy(self.config) if own else self.loader.load_sweep_config(self.config, list(key))
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
        kind = kind or _kind(base, plain, references)
        if kind is None:
            # Hydra itself adds what the base lacks, or tells what is wrong with it
            return Composed(self._in_full([assignment.text for assignment in job]), choices)
        changes = dict(kind.references)
        for path, assignment, first in zip(kind.paths, plain, kind.first, strict=True):
            if assignment is not first:
                changes[path] = assignment.value
        config = _with(kind.config, changes)
        try:
            _follow(config, changes)
        except KeyError:
            # Hydra itself tells what is wrong with the reference
            return Composed(self._in_full([assignment.text for assignment in job]), choices)
        self._kinds[sets] = kind
        return Composed(config, choices, kind, changes)

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


def _origin(job: Job, typed: Sequence[str], choices: Mapping[str, str], key: str) -> str:
    """Say where the value of a key was set."""
    return origin_of([assignment.text for assignment in job], typed, choices)(key)


@cache
def _setting_paths() -> frozenset[Path]:
    """Paths of the settings."""
    keys = {axis.key for axis in setting_axes()} | {key for key, _ in option_axes(("executor",))}
    return frozenset(tuple(key.split(".")) for key in keys)


def _agree(settings: Settings, own: Settings, origin: OriginOf) -> None:
    """Refuse a job whose settings are not those of the jobs before it."""
    before = settings.values()
    for key, value in own.values().items():
        if value != before[key] or getattr(own, key) != getattr(settings, key):
            allowed = f"one sweep has one {key}; an earlier run has {before[key]}"
            raise ConfigError(key, value, allowed, origin(key))


def _kind(base: Config, first: Sequence[Assignment], references: Iterable[Path]) -> Kind | None:
    """The kind of a job; None where it sets what the base lacks, or one key twice."""
    paths = [tuple(assignment.key.split(".")) for assignment in first]
    given = {path: assignment.value for path, assignment in zip(paths, first, strict=True)}
    if len(given) < len(paths) or not all(_is_leaf(base, path) for path in paths):
        return None
    config = _with(base, given)
    values = {path: _get(config, path) for path in (*references, *paths)}
    return Kind(config, first, paths, {path: value for path, value in values.items() if _refers(value)})


def _refers(value: object) -> bool:
    """Whether a value refers to others."""
    return isinstance(value, str) and "${" in value


def _with(config: Config, changes: Mapping[Path, object]) -> Config:
    """A configuration with other values at some paths; what is the same is shared: to copy all takes too long."""
    changed = dict(config)
    for path, value in changes.items():
        if len(path) == 1:  # mostly
            changed[path[0]] = value
            continue
        for i in range(1, len(path)):
            if (node := _get(changed, path[:i])) is _get(config, path[:i]):
                assert isinstance(node, dict)
                _put(changed, path[:i], dict(node))
        _put(changed, path, value)
    return changed


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
        if not isinstance(node, dict):
            raise KeyError(part)
        node = node[part]
    return node


def _follow(config: Config, changes: dict[Path, object]) -> None:
    """Replace references among some values of a configuration by what they refer to.

    Raises:
        KeyError: a key that does not exist, or a loop.
    """
    for path, value in changes.items():
        if not _refers(value):
            continue
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
        changes[path] = value


def _put(config: Config, path: Path, value: object) -> None:
    """Set what is at a path."""
    *parents, leaf = path
    parent = _get(config, tuple(parents))
    assert isinstance(parent, dict)
    parent[leaf] = value


def _is_leaf(config: Config, path: Path) -> bool:
    """Whether a path exists, and holds a value."""
    try:
        return not isinstance(_get(config, path), dict)
    except KeyError:
        return False
