"""The jobs of a sweep: counted before they are made, and made one at a time."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import shuffle
from typing import overload

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import ChoiceSweep, Override, OverrideType, ParsedElementType, Sweep

from dd.cli.grammar import TOGETHER, Range, as_typed, parser
from dd.errors import ConfigError

MAX_RUNS = 500_000
"""Runs of one sweep at most: composing and planning so many takes less than 2 GB (docs/reliability.md)."""

FROM = "the command line"

REFERENCE = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")
"""An interpolation that names a key from the root; resolvers and relative keys are left to Hydra."""

SURROUNDINGS = re.compile(r"\$\{(?:oc\.env|now):[^${}]*\}")
"""An interpolation that no key enters: the same in every job."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One ``key=value`` of a job.

    Attributes:
        text: as Hydra reads it.
        key: the key or group.
        value: parsed.
        plain: whether it is a plain value of a key: no group, nothing that must be absent, no interpolation that only
            Hydra follows.
    """

    text: str
    key: str
    value: object
    plain: bool


Job = tuple[Assignment, ...]


class Reader:
    """Parses overrides, and knows which keys are groups.

    Args:
        loader: Hydra's.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader = loader
        self.parser = parser(loader)
        self._groups: dict[str, bool] = {}
        self._read: dict[str, Assignment] = {}

    def overrides(self, texts: Sequence[str]) -> list[Override]:
        """Parse overrides as a user types them."""
        return list(self.parser.parse_overrides([as_typed(text) for text in texts]))

    def assignment(self, text: str) -> Assignment:
        """Parse one override that is no sweep; each text once."""
        if text not in self._read:
            override = self.parser.parse_override(text)
            self._read[text] = self._made(override, text, override.value())
        return self._read[text]

    def dimension(self, override: Override) -> Dimension:
        """What one override says about the jobs: a value, or several.

        Raises:
            ConfigError: a sweep without a value, without an end, or over an interval.
        """
        key, sweep = override.get_key_element(), override.value()
        line = override.input_line or ""
        if not override.is_sweep_override():
            text = line if override.is_delete() else f"{key}={override.get_value_element_as_str()}"
            return Dimension(1, [self._made(override, text, override.value())])
        given = line.partition("=")[2]
        if override.is_hydra_override():
            raise ConfigError(key, given, "Hydra's own settings cannot be swept", FROM)
        if override.is_interval_sweep():
            raise ConfigError(key, given, "an interval has no grid; use choice(...) or range(start,stop,step)", FROM)
        count: int | float
        if isinstance(sweep, Range):
            plain = self._plain(override)
            count, values = sweep.count, (_number(override, key, value, plain) for value in sweep)
        else:
            listed = list(override.sweep_iterator()) if not isinstance(sweep, ChoiceSweep) else list(sweep.list)
            if isinstance(sweep, ChoiceSweep) and sweep.shuffle:
                shuffle(listed)
            count, values = len(listed), (self._element(override, key, element) for element in listed)
        if count == 0:
            raise ConfigError(key, given, "holds no value to run", FROM)
        return Dimension(count, values)

    def _element(self, override: Override, key: str, element: ParsedElementType) -> Assignment:
        """One value of a list."""
        if element is None or type(element) in (bool, int, float):
            return _number(override, key, element, self._plain(override))
        return self.assignment(as_typed(f"{key}={Override._get_value_element_as_str(element)}"))

    def _made(self, override: Override, text: str, value: object) -> Assignment:
        plain = not foreign(value) and "\\$" not in text and self._plain(override)
        return Assignment(text, override.key_or_group, value, plain)

    def _plain(self, override: Override) -> bool:
        """Whether an override sets a key, whatever its value is."""
        key = override.key_or_group
        if (
            override.type not in (OverrideType.CHANGE, OverrideType.FORCE_ADD)
            or override.package is not None
            or key.startswith("hydra.")
        ):
            return False
        if key not in self._groups:  # Hydra takes milliseconds to say so
            self._groups[key] = bool(self.loader.get_group_options(key))
        return not self._groups[key]


def _number(override: Override, key: str, value: object, plain: bool) -> Assignment:
    text = "null" if value is None else str(value)
    return Assignment(f"{key}={text}", override.key_or_group, value, plain)


def foreign(value: object) -> bool:
    """Whether a value holds an interpolation that is more than the name of a key, or lies within a list."""
    if isinstance(value, str):
        return "${" in value and "${" in REFERENCE.sub("", value)
    return isinstance(value, list | dict) and "${" in str(value)


def of_surroundings(text: str) -> bool:
    """Whether a text holds interpolations, and no key enters any of them."""
    return "${" in text and "${" not in SURROUNDINGS.sub("", text)


def preset_overrides(params: Mapping[str, str] | None, grids: Sequence[Mapping[str, str]] | None) -> list[list[str]]:
    """Overrides of each grid of a preset.

    >>> preset_overrides({"seed": "0,1"}, [{"lr": "1,2"}, {"lr": "3", "seed": "5"}])
    [['seed=0,1', 'lr=1,2'], ['seed=5', 'lr=3']]

    Args:
        params: sweeps of every grid.
        grids: further sweeps of each; without any there is one grid.
    """
    every = [dict(params or {}) | dict(grid) for grid in grids or [{}]]
    return [[f"{key}={value}" for key, value in one.items()] for one in every]


@dataclass
class Dimension:
    """Values of one key, with their number, which is known before they are."""

    count: int | float
    values: Iterable[Assignment]


Pools = Sequence[Sequence[Job]]
"""Of each key, or of keys that advance together, the values: what each one adds to a job."""


class Grid(Sequence[list[str]]):
    """Blocks of jobs; a block is all combinations of the values of some keys, the last key fastest.

    As a sequence, lists of override texts.

    Args:
        blocks: one after the other, each with its keys in the order of the command line.
        span: numbers of the jobs that belong to it.
    """

    def __init__(self, blocks: Sequence[Pools], span: range | None = None) -> None:
        self.blocks = blocks
        self.sizes = [math.prod(map(len, pools)) for pools in blocks]
        self.span = range(sum(self.sizes)) if span is None else span

    @classmethod
    def of(cls, reader: Reader, *blocks: Sequence[Override]) -> Grid:
        """Expand the overrides of each block; of two for one key the later one counts.

        Raises:
            ConfigError: more than :data:`MAX_RUNS` jobs, before any is made; a sweep that cannot be enumerated; keys
                that advance together and have different numbers of values.
        """
        found = [_dimensions(reader, overrides) for overrides in blocks]
        counts = [[group[0].count for group in groups] for groups in found]
        total = sum(math.prod(count for count in block if count != math.inf) for block in counts)
        endless = any(count == math.inf for block in counts for count in block)
        if endless or total > MAX_RUNS:
            words = "endless" if endless else f"{total} runs" if total < 10**15 else f"{Decimal(total):.1e} runs"
            allowed = f"at most {MAX_RUNS} runs at once: take fewer values, or several sweeps into one table"
            raise ConfigError("sweep", words, allowed, FROM)
        return cls([[tuple(zip(*(one.values for one in group), strict=True)) for group in groups] for groups in found])

    def jobs(self) -> Iterator[Job]:
        """The jobs, one at a time."""
        combinations = itertools.chain.from_iterable(itertools.product(*pools) for pools in self.blocks)
        for parts in itertools.islice(combinations, self.span.start, self.span.stop):
            yield tuple(itertools.chain.from_iterable(parts))

    def batches(self, size: int | None) -> list[Grid]:
        """Split into parts of at most so many jobs."""
        if size is None or size < 1:
            return [self]
        return [self[i : i + size] for i in range(0, len(self), size)]

    def __len__(self) -> int:
        return len(self.span)

    def __iter__(self) -> Iterator[list[str]]:
        for job in self.jobs():
            yield [assignment.text for assignment in job]

    @overload
    def __getitem__(self, index: int) -> list[str]: ...

    @overload
    def __getitem__(self, index: slice) -> Grid: ...

    def __getitem__(self, index: int | slice) -> list[str] | Grid:
        """Texts of one job, or a part of the grid (without a stride)."""
        if isinstance(index, slice):
            return Grid(self.blocks, self.span[index])
        number, texts = self.span[index], list[str]()
        for pools, size in zip(self.blocks, self.sizes, strict=True):
            if number >= size:
                number -= size
                continue
            for pool in reversed(pools):
                number, i = divmod(number, len(pool))
                texts = [*(assignment.text for assignment in pool[i]), *texts]
            break
        return texts


def _dimensions(reader: Reader, overrides: Sequence[Override]) -> list[list[Dimension]]:
    """What each key says about the jobs; keys whose values advance together are at the place of the first of them."""
    found: dict[str, Dimension] = {}
    together: dict[str, Dimension] = {}
    for override in overrides:
        key, value = override.get_key_element(), override.value()
        found[key] = reader.dimension(override)
        together.pop(key, None)
        if isinstance(value, Sweep) and TOGETHER in value.tags:
            together[key] = found[key]
    if len({dimension.count for dimension in together.values()}) > 1:
        numbers = ", ".join(f"{key} has {dimension.count}" for key, dimension in together.items())
        allowed = f"keys that advance together have equally many values: {numbers}"
        raise ConfigError(next(iter(together)), "zip(...)", allowed, FROM)
    groups: list[list[Dimension]] = []
    zipped = [dimension for key, dimension in found.items() if key in together]
    for key, dimension in found.items():
        if key not in together:
            groups.append([dimension])
        elif dimension is zipped[0]:
            groups.append(zipped)
    return groups
