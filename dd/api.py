"""dd from a notebook: the same sweeps, store, resume and progress as on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dd.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from dd.config import RunConfig, Settings
    from dd.packed import Trained


def compose_jobs(overrides: Sequence[str]) -> tuple[list[RunConfig], Settings]:
    """Compose and validate a sweep without running it.

    Args:
        overrides: what follows ``python -m dd.run -m``, one string each.

    Returns:
        The runs, in the order of the command line, and the settings that they share.

    Raises:
        ConfigError: bad input.
    """
    from dd.grammar import as_typed
    from dd.grid import Grid, Reader
    from dd.jobs import Composer
    from dd.loading import load, own_loader, told

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


def compose_runs(*overrides: str) -> list[RunConfig]:
    """Runs of a sweep; see :func:`compose_jobs`."""
    return compose_jobs(overrides)[0]


def sweep(*overrides: str, n_jobs: int | str | None = None) -> pd.DataFrame:
    """Run a sweep and return its rows.

    Args:
        overrides: what follows ``python -m dd.run -m``, one string each: ``"width=range(10,2000,50)"``,
            ``"optimizer=sgd,adam"``, ``"+experiment=label_noise"``.
        n_jobs: worker processes; the override ``n_jobs`` by another way.

    Returns:
        One row a distinct run, those that the table had included, with the columns of docs/columns.md. Failed runs
        are rows with status ``failed``.

    Raises:
        ConfigError, StoreError: bad input; nothing was computed.
    """
    from dd.results import Store
    from dd.sweeps import run_sweep

    runs, settings = compose_jobs([*overrides, *([] if n_jobs is None else [f"n_jobs={n_jobs}"])])
    outcome = run_sweep(runs, settings)
    rows = Store(settings.results_dir, settings.name).rows(row["run_id"] for row in outcome.rows)
    frame: pd.DataFrame = rows.to_pandas()
    return frame


def train(x: Any, y: Any, *overrides: str, test: tuple[Any, Any] | None = None) -> list[Trained]:
    """Train an ensemble on one's own samples, packed; see :func:`dd.packed.train`."""
    from dd import packed

    return packed.train(x, y, *overrides, test=test)


def load(name: str = "default", results_dir: str | Path = "results") -> pd.DataFrame:
    """Read one table.

    Args:
        name: the table, ``<results_dir>/<name>/``.
        results_dir: folder of all tables.

    Returns:
        One row a run, in the declared schema, whatever version of dd wrote it.

    Raises:
        StoreError: there is no such table, or a part is not readable.
    """
    from dd.errors import StoreError
    from dd.results import Store

    store = Store(results_dir, name)
    if not store.parts():
        raise StoreError(f"no table {store.runs}; a sweep with name={name} makes it")
    frame: pd.DataFrame = store.read().to_pandas()
    return frame
