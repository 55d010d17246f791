"""A sweep from its overrides alone, without Hydra's command line: what notebooks and dd's other programs call."""

from __future__ import annotations

from collections.abc import Sequence

from dd.errors import ConfigError
from dd.runs.run import Run
from dd.runs.settings import Settings


def compose_jobs(overrides: Sequence[str]) -> tuple[list[Run], Settings]:
    """Compose and validate a sweep without running it.

    Args:
        overrides: what follows ``python -m dd.run -m``, one string each.

    Returns:
        The runs, in the order of the command line, and the settings that they share.

    Raises:
        ConfigError: bad input.
    """
    from dd.cli.grammar import as_typed
    from dd.cli.grid import Grid, Reader
    from dd.cli.jobs import Composer
    from dd.cli.loading import load, own_loader, told

    for override in overrides:
        if not isinstance(override, str):
            raise ConfigError("override", repr(override), "must be a string, key=value", "the command line")
    typed = [as_typed(override) for override in overrides]
    with told(typed):
        loader = own_loader()
        reader = Reader(loader)
        parsed = reader.overrides(typed)
        fixed = [o.input_line for o in parsed if o.input_line and not o.is_sweep_override()]
        master = load(loader, fixed)
        preset = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
        grid = Grid.of(reader, [*reader.overrides(preset), *parsed])
    runs, settings = Composer(master, loader).runs(grid, typed)
    assert settings is not None, "a sweep without a job has been refused"
    return runs, settings


def compose_runs(*overrides: str) -> list[Run]:
    """Runs of a sweep; see :func:`compose_jobs`."""
    return compose_jobs(overrides)[0]
