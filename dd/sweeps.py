"""The sweep: from runs to packs, to an executor, to the table; with progress, resume and a summary."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from dd.config import RunConfig, Settings
from dd.content import check_table, identified, remarks
from dd.executors.dispatch import execute
from dd.executors.signals import orderly
from dd.executors.solving import Lost
from dd.kernels.library import library
from dd.numerics import neutral
from dd.pack import Pack, plan
from dd.pack import describe as plan_table
from dd.progress import Progress
from dd.results import Store, runs_schema
from dd.solve import Row, check_device, failed_row, limits_of, measure_of, run_axes
from dd.summary import describe, shown, summary

ANSWER = ("run_id", "status", "error", "test_loss")
"""Columns of an outcome's rows; the table has the others."""


@dataclass
class Outcome:
    """What became of a sweep.

    Attributes:
        rows: the columns :data:`ANSWER` of its runs, those that were there before included, one row a distinct run.
        computed: runs computed now.
        runs: its runs with their final ids, in the order given.
    """

    rows: list[Row] = field(default_factory=list)
    computed: int = 0
    runs: list[RunConfig] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Runs with status ``failed``."""
        return sum(row["status"] == "failed" for row in self.rows)


def check_settings(runs: Iterable[RunConfig], settings: Settings) -> None:
    """Make sure that device and data are there, before any run starts.

    Raises:
        ConfigError: they are not.
    """
    check_device(settings)
    for run in {run.data: run for run in runs}.values():
        run.component("data").ensure(settings)


@neutral()
def run_sweep(runs: Sequence[RunConfig], settings: Settings, command: str = "") -> Outcome:
    """Compute what the table lacks and report.

    Args:
        runs: the sweep; a run that occurs twice is computed once.
        settings: where and how.
        command: how to start the same sweep again, for the message after Ctrl-C.

    Returns:
        The rows of all runs.

    Raises:
        ConfigError, StoreError: before anything was computed.
        KeyboardInterrupt: after Ctrl-C; finished packs are in the table.
    """
    check_settings(runs, settings)
    runs = identified(runs, settings)
    distinct = {run.run_id: run for run in runs}
    store = Store(settings.results_dir, settings.name)
    if not settings.plan_only:
        store.open()
    store.check()
    check_table(runs, settings, store)
    for line in remarks(runs, settings):
        _say(line)
    had = set() if settings.force else store.finished(settings.measure_name, predictions=settings.measure_predictions)
    todo = [run for run_id, run in distinct.items() if run_id not in had]
    if todo and not settings.force:
        settings = _as_rich(settings, store, {run.run_id for run in todo})
    notes = []
    if duplicates := len(runs) - len(distinct):
        notes.append(f"{duplicates} duplicate{'s' * (duplicates > 1)} left out")
    if skipped := len(distinct) - len(todo):
        notes.append(f"{skipped} already in the table")
    many = len(runs) > 1
    if many:
        extra = f" ({', '.join(notes)})" if notes else ""
        _say(f"{len(todo)} of {len(runs)} runs to do{extra}")
    elif skipped:
        _say(f"already in {store.runs}; force=true computes it again")
    if settings.plan_only:
        print(plan_table(plan(todo, limits_of(settings), measure_of(settings))))
        return Outcome(runs=runs)
    if todo:
        _execute(todo, settings, store, many, command)
    store.tidy()
    # moments would import pandas
    table = store.rows(distinct, [name for name in runs_schema().names if name != "finished_at"])
    outcome = Outcome(table.select(ANSWER).to_pylist(), len(todo), runs)
    _report(outcome, table, store, many)
    return outcome


def _as_rich(settings: Settings, store: Store, run_ids: set[str]) -> Settings:
    """Measure runs that are computed again for one thing in no less than they were before."""
    full, predicted = store.holds(run_ids)
    kept: dict[str, Any] = {"measure_name": "full"} if full else {}
    if predicted:
        kept["measure_predictions"] = True
    changed = {key: value for key, value in kept.items() if getattr(settings, key) != value}
    if changed:
        _say("computed again with " + " and ".join("measure=full" if v == "full" else "measure.predictions=true"
                                                    for v in changed.values()) + ", as the table has it")  # fmt: skip
    return replace(settings, **changed)


def _say(text: str) -> None:
    print(f"dd: {text}", file=sys.stderr, flush=True)


def _execute(todo: list[RunConfig], settings: Settings, store: Store, many: bool, command: str) -> None:
    if library() is None:
        _say("no compiled engine for this machine: training in PyTorch's operations; pip install -e . compiles one")
    before = store.stamps(run.run_id for run in todo)
    packs = plan(todo, limits_of(settings), measure_of(settings))
    try:
        with (
            orderly(),
            closing(execute(packs, settings)) as events,
            Progress(len(todo), sum(pack.seconds for pack in packs)) as progress,
        ):
            _follow(events, progress, store, many)
    except KeyboardInterrupt:
        # the workers have closed and written what they had finished
        again = f"the same command:\n    {command}" if command else "the same command"
        done = len(store.stamps(run.run_id for run in todo).items() - before.items())
        then = f"it starts over because of force=true: {again}" if settings.force else f"go on by {again}"
        _say(f"interrupted; {done} of {len(todo)} runs are in {store.runs}; {then}")
        raise


def _follow(events: Iterable[tuple[Pack, Row | Lost]], progress: Progress, store: Store, many: bool) -> None:
    """Count finished runs; record those that are lost for good."""
    counted: dict[str, str] = {}
    for pack, event in events:
        work = pack.seconds / len(pack.runs)
        if not isinstance(event, Lost):
            if many:
                counted[event["run_id"]] = event["status"]
                progress.update(event["status"], work)
            continue
        progress.forget([counted.pop(run.run_id) for run in event.runs if run.run_id in counted], work)
        if not event.again:
            _record(event, pack, store)
            for _ in event.runs:
                progress.update("failed", work)


def _record(lost: Lost, pack: Pack, store: Store) -> None:
    """Write the rows of runs that nothing could be learned of."""
    rows = [failed_row(run, lost.error) for run in lost.runs]
    store.append(pack.pack_id, rows, [], {}, {"runs": [run_axes(run) for run in lost.runs]})


def _report(outcome: Outcome, table: pa.Table, store: Store, many: bool) -> None:
    if many:
        print(summary(shown(table)))
    else:
        for row in table.to_pylist():
            print(describe(row))
    if outcome.failed and many:
        first = next(row for row in outcome.rows if row["status"] == "failed")
        _say(f"{outcome.failed} runs failed; the first (run_id {first['run_id']}): {first['error']}")
    print(f"table: {store.runs}")
