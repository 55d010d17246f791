"""From a pack of runs to the rows of the results table."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dd.measure.solution import Solution
from dd.numerics import reproducible
from dd.packs.measuring import measured, predicted
from dd.packs.place import device_of
from dd.packs.plan import Pack
from dd.packs.prepare import Job, prepare
from dd.packs.rows import Row, curve_rows, failed_row, without_memory
from dd.packs.schedule import train_jobs
from dd.packs.shared import Shared
from dd.results.predictions import Prediction
from dd.runs.run import Run
from dd.runs.settings import Settings


@dataclass
class Solved:
    """Rows of the ``runs`` and ``curves`` tables of one pack, and test outputs where they are asked for."""

    rows: list[Row] = field(default_factory=list)
    curves: list[Row] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)


def solve(pack: Pack, settings: Settings, solved: Solved, on_run: Callable[[Row], None] = lambda row: None) -> None:
    """Train and measure every run of a pack.

    A run that raises is a row with status ``failed`` and takes nobody with it.

    Args:
        pack: runs that share data, features and seed.
        settings: device and data folder.
        solved: filled with one row a run as they finish; an interruption leaves what is done.
        on_run: called with each finished row.
    """
    with reproducible(device_of(settings)):
        shared = Shared(settings, pack.runs)

        def report(run: Run, row: Row, seconds: float) -> None:
            row["seconds"] = seconds
            solved.rows.append(row)
            on_run(row)

        jobs = []
        for run in pack.runs:
            start = time.perf_counter()
            try:
                job = prepare(run, shared)
            except Exception as error:
                shared.forget()
                report(run, failed_row(run, without_memory(error)), time.perf_counter() - start)
                continue
            job.seconds = time.perf_counter() - start
            jobs.append(job)
        for job in train_jobs(jobs):
            start = time.perf_counter()
            row = _row(job, shared, solved)
            report(job.run, row, job.seconds + time.perf_counter() - start)


def _row(job: Job, shared: Shared, solved: Solved) -> Row:
    """Measure a trained run; its curve and predictions go with it."""
    if not isinstance(job.result, Solution):
        assert job.result is not None
        return failed_row(job.run, job.result)
    try:
        predictions = [predicted(job, job.result)] if shared.settings.measure_predictions else []
        row = measured(job, job.result, shared.measure)
    except Exception as error:
        return failed_row(job.run, error)
    if job.task.curve:
        solved.curves.extend(curve_rows(job.run, job.result.curve))
    solved.predictions.extend(predictions)
    return row
