"""Rows, curves and test outputs for tests of the store, and what a table holds whoever reads it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from dd.results import Store
from dd.results.parts import encode
from dd.results.predictions import Prediction
from dd.results.schema import CURVES_SCHEMA, runs_schema, table_of
from dd.runs.axis import Value


@cache
def _axes() -> dict[str, Value]:
    from dd.packs.rows import axes_row
    from tests.helpers import run_of

    return axes_row(run_of())


def row(run_id: str, **values: object) -> dict[str, object]:
    """One row of ``runs``."""
    return _axes() | {"run_id": run_id, "status": "ok", **values}


def curve(run_id: str, value: float = 1.0) -> list[dict[str, object]]:
    """Three logged steps of a run."""
    return [{"run_id": run_id, "step": i, "epoch": i / 10, "train_loss": value, "test_loss": 2.0} for i in range(3)]


def prediction(run_id: str, value: float = 1.0, targets_id: str = "same") -> Prediction:
    """Test outputs of a run."""
    return Prediction(run_id, np.full((3, 2), value, np.float32), targets_id, np.zeros((3, 2)))


def add(store: Store, pack: str, *run_ids: str, value: float = 1.0, outputs: bool = False, **values: object) -> Path:
    """Append runs with their curves; ``value`` is their train loss and that of their curves."""
    return store.append(
        pack,
        [row(i, train_loss=value, **values) for i in run_ids],
        [point for i in run_ids for point in curve(i, value)],
        {},
        {},
        [prediction(i, value) for i in run_ids] if outputs else [],
    )


def add_as_before(store: Store, pack: str, *run_ids: str, value: float = 1.0, at: int = 0, **values: object) -> None:
    """Write parts as versions before the journal did: another part, whatever the others hold."""
    stamped = [row(i, train_loss=value, **values) for i in run_ids]
    rows = table_of([{"name": store.name, **r} for r in stamped], runs_schema())
    moments = pa.array([at] * len(run_ids), pa.timestamp("us", tz="UTC"))
    rows = rows.set_column(rows.schema.get_field_index("finished_at"), "finished_at", moments)
    points = [point for i in run_ids for point in curve(i, value)]
    for folder, table in ((store.runs, rows), (store.curves, table_of(points, CURVES_SCHEMA))):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{pack}.parquet").write_bytes(encode(table))


def losses(store: Store) -> dict[str, float]:
    """Train loss of each run, as pandas reads the folder; fails where a run has two rows."""
    frame = pd.read_parquet(store.runs)
    assert not frame["run_id"].duplicated().any(), "a run has two rows"
    return dict(sorted(zip(frame["run_id"], frame["train_loss"], strict=True)))


def points(store: Store) -> dict[tuple[str, int], float]:
    """Train loss of each logged step, as pandas reads the folder; fails where a point is there twice."""
    if not list(store.curves.glob("[!_.]*.parquet")):
        return {}
    frame = pd.read_parquet(store.curves)
    assert not frame.duplicated(["run_id", "step"]).any(), "a point is there twice"
    return dict(sorted(zip(zip(frame["run_id"], frame["step"], strict=True), frame["train_loss"], strict=True)))


def outputs(store: Store) -> dict[str, float]:
    """First test output of each run, as pandas reads the folder; fails where a run has two."""
    if not list(store.predictions.glob("[!_.]*.parquet")):
        return {}
    frame = pd.read_parquet(store.predictions)
    assert not frame["run_id"].duplicated().any(), "a run has its outputs twice"
    return dict(sorted(zip(frame["run_id"], (float(o[0]) for o in frame["outputs"]), strict=True)))


def contents(store: Store) -> tuple[dict[str, float], dict[tuple[str, int], float], dict[str, float]]:
    """All that a table holds, as pandas reads it."""
    return losses(store) if store.parts() else {}, points(store), outputs(store)


def files(store: Store) -> list[str]:
    """Every file of a table but the lock."""
    found = (path.relative_to(store.folder) for path in store.folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.name != "_lock")
