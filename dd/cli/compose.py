"""A sweep from its overrides alone, without Hydra's command line: what notebooks and dd's other programs call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dd.errors import ConfigError
from dd.runs.run import Run
from dd.runs.settings import Settings

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

    from dd.cli.grid import Reader


def compose_jobs(overrides: Sequence[str]) -> tuple[list[Run], Settings]:
    """Compose and validate a sweep without running it.

    Args:
        overrides: what follows ``python -m dd.run -m``, one string each.

    Returns:
        The runs, in the order of the command line, and the settings that they share.

    Raises:
        ConfigError: bad input.
    """
    from dd.cli.grid import Grid, preset_overrides
    from dd.cli.jobs import Composer
    from dd.cli.loading import told

    typed = _typed(overrides)
    with told(typed):
        reader, parsed, master = _master(typed)
        sweeper = master.hydra.sweeper
        grids = preset_overrides(sweeper.params, sweeper.grids)
        grid = Grid.of(reader, *([*reader.overrides(preset), *parsed] for preset in grids))
    runs, settings = Composer(master, reader.loader).runs(grid, typed)
    assert settings is not None, "a sweep without a job has been refused"
    return runs, settings


def compose_settings(overrides: Sequence[str]) -> Settings:
    """The settings of a sweep, without its runs.

    Raises:
        ConfigError: bad input.
    """
    from omegaconf import open_dict

    from dd.cli.conf import container_of, origin_of
    from dd.cli.loading import told

    typed = _typed(overrides)
    with told(typed):
        _, _, master = _master(typed)
        with open_dict(master):
            del master["hydra"]
        return Settings.from_dict(container_of(master), origin_of(typed, typed, {}))


def _typed(overrides: Sequence[str]) -> list[str]:
    """Overrides as Hydra reads them.

    Raises:
        ConfigError: one is no string.
    """
    from dd.cli.grammar import as_typed

    for override in overrides:
        if not isinstance(override, str):
            raise ConfigError("override", repr(override), "must be a string, key=value", "the command line")
    return [as_typed(override) for override in overrides]


def _master(typed: Sequence[str]) -> tuple[Reader, list[Override], DictConfig]:
    """The configuration of what is not swept, with its reader and all overrides parsed."""
    from dd.cli.grid import Reader
    from dd.cli.loading import load, own_loader

    reader = Reader(own_loader())
    parsed = reader.overrides(typed)
    fixed = [o.input_line for o in parsed if o.input_line and not o.is_sweep_override()]
    return reader, parsed, load(reader.loader, fixed)


def compose_runs(*overrides: str) -> list[Run]:
    """Runs of a sweep; see :func:`compose_jobs`."""
    return compose_jobs(overrides)[0]
