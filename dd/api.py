"""dd from a notebook: the same sweeps, store, resume and progress as on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dd.cli.compose import compose_jobs as compose_jobs
from dd.cli.compose import compose_runs as compose_runs

if TYPE_CHECKING:
    import pandas as pd

    from dd.training import Trained


def sweep(*overrides: str, data: object = None, model: object = None, n_jobs: int | str | None = None) -> pd.DataFrame:
    """Run a sweep and return its rows.

    Args:
        overrides: what follows ``python -m dd.run -m``, one string each: ``"width=range(10,2000,50)"``,
            ``"optimizer=sgd,adam"``, ``"+experiment=label_noise"``.
        data: one's own samples in place of a data set: ``(x, y)`` or ``(x, y, x_test, y_test)`` of arrays, tensors,
            frames or lists; a torch data set, or a pair of them for training and testing. They are kept in
            ``<results_dir>/<name>/data/`` (docs/own.md).
        model: a function of (width, inputs, outputs) that returns a ``torch.nn.Module`` (docs/own.md). One of a
            notebook is written to ``<results_dir>/<name>/models/``, since workers and later sessions need it.
        n_jobs: worker processes; the override ``n_jobs`` by another way.

    Returns:
        One row a distinct run, those that the table had included, with the columns of docs/columns.md. Failed runs
        are rows with status ``failed``.

    Raises:
        ConfigError, StoreError: bad input; nothing was computed.
    """
    from dd.cli.sweeps import run_sweep
    from dd.results import Store

    given: Sequence[str] = [*overrides, *([] if n_jobs is None else [f"n_jobs={n_jobs}"])]
    if model is not None:
        from dd.cli.factories import overrides_with

        given = overrides_with(model, given)
    if data is not None:
        from dd.cli.given import overrides_for

        given = overrides_for(data, given)
    runs, settings = compose_jobs(given)
    result = run_sweep(runs, settings)
    rows = Store(settings.results_dir, settings.name).rows(answer.run_id for answer in result.answers)
    frame: pd.DataFrame = rows.to_pandas()
    return frame


def train(x: object, y: object = None, *overrides: str, test: object = None) -> list[Trained]:
    """Train nets on one's own samples; see :func:`dd.training.train`."""
    from dd import training

    return training.train(x, y, *overrides, test=test)


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
