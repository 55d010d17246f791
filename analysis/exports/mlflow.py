"""MLflow: one run a track, in an SQLite file; an experiment a table."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from analysis.exports.tracks import Track

ID, CONTENT = "dd.id", "dd.content"
"""Tags of a run: the track, and the digest of all that was written. MLflow chooses run ids by itself."""

MOST = {"metrics": 1000, "params": 100}
"""What one call may write."""

LONGEST = 6000
"""Characters of a parameter at most."""

Item = TypeVar("Item")


def write(table: str, tracks: Sequence[Track], out: Path) -> str:
    """Write ``out/mlflow.db``. A track that is there with the same content stays; one that has changed is replaced."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    out.mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{(out / 'mlflow.db').resolve()}"
    client = MlflowClient(uri)
    known = client.get_experiment_by_name(table)
    place = (out / "artifacts").resolve().as_uri()
    experiment = known.experiment_id if known else client.create_experiment(table, place)
    for track in tracks:
        content = _digest(track)
        former = client.search_runs([experiment], f"tags.`{ID}` = '{track.id}'")
        if [run.data.tags.get(CONTENT) for run in former] == [content]:
            continue
        for run in former:
            client.delete_run(run.info.run_id)
        new = client.create_run(experiment, tags={ID: track.id}, run_name=track.name).info.run_id
        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, step) for step, values in track.logged() for key, value in values.items()]
        params = [Param(key, str(value)[:LONGEST]) for key, value in track.settings.items()]
        for some in _batches(metrics, MOST["metrics"]):
            client.log_batch(new, metrics=some)
        for some_params in _batches(params, MOST["params"]):
            client.log_batch(new, params=some_params)
        client.set_tag(new, CONTENT, content)  # last: a run that a kill left half written is written again
        client.set_terminated(new)
    return f"mlflow ui --backend-store-uri {shlex.quote(uri)}"


def _batches(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _digest(track: Track) -> str:
    content = [track.name, track.x, track.settings, list(track.logged())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
