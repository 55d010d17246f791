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
    import hydra
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.plugins import Plugins
    from hydra.errors import HydraException

    Plugins.instance()  # its scan executes Hydra's sweeper again: what is derived from it must be imported afterwards
    from dd.jobs import Composer
    from dd.launcher import PackedSweeper
    from dd.run import one_line
    from dd.task import conf_dir

    typed = list(overrides)
    base = {"version_base": "1.3"} if hydra.__version__ < "1.4" else {}
    try:
        with initialize_config_dir(str(conf_dir()), **base):
            loader = GlobalHydra.instance().config_loader()
            parser = OverridesParser.create(config_loader=loader)
            fixed = [o.input_line for o in parser.parse_overrides(typed) if o.input_line and not o.is_sweep_override()]
            master = compose("config", fixed, return_hydra_config=True)
            preset = [f"{key}={value}" for key, value in (master.hydra.sweeper.params or {}).items()]
            jobs = PackedSweeper.split_arguments(parser.parse_overrides([*preset, *typed]), None)[0]
            runs, settings = Composer(master, loader).runs(jobs, typed)
    except HydraException as error:
        raise ConfigError("sweep", " ".join(typed), one_line(error, typed)) from error
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
