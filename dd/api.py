"""dd from a notebook: the same sweeps, store, resume and progress as on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from dd.cli.compose import compose_jobs as compose_jobs
from dd.cli.compose import compose_runs as compose_runs
from dd.errors import DDError

P = ParamSpec("P")
T = TypeVar("T")

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from dd.inspection import Inspected
    from dd.training import Trained


def one_line(function: Callable[P, T]) -> Callable[P, T]:
    """Raise bad input without the exceptions of Hydra that it came from."""

    @wraps(function)
    def told(*arguments: P.args, **keys: P.kwargs) -> T:
        try:
            return function(*arguments, **keys)
        except DDError as error:
            raise error from None

    return told


@one_line
def sweep(*overrides: str, data: object = None, model: object = None, **keys: object) -> pd.DataFrame:
    """Run a sweep and return its rows.

    Args:
        overrides: what follows ``python -m dd.run -m``, one string each: ``"width=range(10,2000,50)"``,
            ``"optimizer=sgd,adam"``, ``"+experiment=label_noise"``.
        data: one's own samples in place of a data set: ``(x, y)`` or ``(x, y, x_test, y_test)`` of arrays, tensors,
            frames or lists; a torch data set, or a pair of them for training and testing. They are kept in
            ``<results_dir>/<name>/data/`` (docs/own.md). A name, or a list of names, is the key ``data``.
        model: a function of (width, inputs, outputs) that returns a ``torch.nn.Module`` (docs/own.md). One of a
            notebook is written to ``<results_dir>/<name>/models/``, since workers and later sessions need it. A name,
            or a list of names, is the key ``model``.
        keys: overrides by another way: ``width=[8, 64]``, ``optimizer=["sgd", "adam"]``, ``n_train=200`` (a key with
            a dot goes by its column, or with an underscore). A list sweeps.

    Returns:
        One row a distinct run, those that the table had included, with the columns of docs/columns.md. Failed runs
        are rows with status ``failed``.

    Raises:
        ConfigError, StoreError: bad input; nothing was computed.
    """
    from dd.cli.keys import overrides_of
    from dd.cli.sweeps import run_sweep
    from dd.results import Store

    named = {key: value for key, value in (("data", data), ("model", model)) if _is_named(value)}
    given: Sequence[str] = [*overrides, *overrides_of(named | keys)]
    if model is not None and "model" not in named:
        from dd.cli.factories import overrides_with

        given = overrides_with(model, given)
    if data is not None and "data" not in named:
        from dd.cli.given import overrides_for

        given = overrides_for(data, given)
    runs, settings = compose_jobs(given)
    result = run_sweep(runs, settings)
    rows = Store(settings.results_dir, settings.name).rows(answer.run_id for answer in result.answers)
    frame: pd.DataFrame = rows.to_pandas()
    return frame


def _is_named(value: object) -> bool:
    """Whether a value is a name, or a list of names."""
    return isinstance(value, str) or (
        isinstance(value, list | tuple) and bool(value) and all(isinstance(one, str) for one in value)
    )


@one_line
def train(x: object, y: object = None, *overrides: str, test: object = None) -> list[Trained]:
    """Train nets on one's own samples; see :func:`dd.training.train`."""
    from dd import training

    return training.train(x, y, *overrides, test=test)


@one_line
def inspect(
    run: str | Mapping[str, object],
    name: str = "default",
    results_dir: str | Path = "results",
    data_root: str | Path | None = None,
) -> Inspected:
    """Lay a run of a table open; see :func:`dd.inspection.inspect`."""
    from dd import inspection

    return inspection.inspect(run, name, results_dir, data_root)


@one_line
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


def _notebook() -> ModuleType:
    """The module of the package ``analysis`` that comes with dd, whatever the working folder holds.

    Raises:
        ImportError: the caller has imported another package of this name.
    """
    place = str(Path(__file__).parents[1])
    sys.path.insert(0, place)
    try:
        from analysis import notebook
    except ImportError as error:
        loaded = sys.modules.get("analysis")
        if loaded is None or Path(str(loaded.__file__)).parents[1] == Path(place):
            raise
        raise ImportError(
            f"{loaded.__file__} is loaded as analysis, so that dd's package of this name is not"
        ) from error
    finally:
        sys.path.remove(place)
    return notebook


def plot(rows: pd.DataFrame) -> Figure:
    """Draw the rows of one set-up; see :func:`analysis.notebook.plot`."""
    return _notebook().plot(rows)


def peaks(rows: pd.DataFrame, x: str = "width", metric: str | Sequence[str] = "test_loss") -> pd.DataFrame:
    """Judge the peak of every curve; see :func:`analysis.peaks.table`."""
    return _notebook().peaks(rows, x, metric)


def curves(name: str = "default", results_dir: str | Path = "results") -> pd.DataFrame:
    """Read the logged steps of a table's runs; see :func:`analysis.notebook.curves`."""
    return _notebook().curves(name, results_dir)


def verdict(names: str | Sequence[str], results_dir: str | Path = "results", metric: str = "test_loss") -> pd.DataFrame:
    """What some tables say about the claim; see :func:`analysis.notebook.verdict`."""
    return _notebook().verdict(names, results_dir, metric)


def tidy(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns that tell runs apart, then the outcomes; see :func:`analysis.notebook.tidy`."""
    return _notebook().tidy(rows)
