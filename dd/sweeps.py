"""The sweep: from runs to packs, to an executor, to the table; with progress, resume and a summary."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from dd.config import RunConfig, Settings
from dd.data._problem import load
from dd.executor import WorkerDied, execute_inline, execute_processes
from dd.kernels.library import library
from dd.pack import Pack, plan
from dd.pack import describe as plan_table
from dd.processes import cores
from dd.progress import Progress
from dd.results import Store, runs_schema
from dd.solve import Row, check_device, device_of, failed_row, limits_of, measure_of, run_axes
from dd.summary import describe, summary


@dataclass
class Outcome:
    """What became of a sweep.

    Attributes:
        rows: rows of its runs, those that were there before included, one a distinct run.
        computed: runs computed now.
        failed: runs with status ``failed``.
    """

    rows: list[Row] = field(default_factory=list)
    computed: int = 0
    failed: int = 0


def check_settings(runs: Iterable[RunConfig], settings: Settings) -> None:
    """Make sure that device and data are there, before any run starts.

    Raises:
        ConfigError: they are not.
    """
    check_device(settings)
    by_data: dict[str, list[RunConfig]] = {}
    for run in runs:
        by_data.setdefault(run.data, []).append(run)
    for members in by_data.values():
        dataset = members[0].component("data")
        dataset.ensure(settings)
        if dataset.from_files:
            # damaged files, or fewer samples in them than asked for, are found here and not in every run
            largest = max(members, key=lambda run: run.n_train)
            load(largest.replace(n_test=max(run.n_test for run in members)), settings)


def worker_count(settings: Settings, packs: Sequence[Pack]) -> int:
    """Processes to use: as many as cores on a CPU, one on a GPU, never more than packs."""
    if settings.n_jobs != "auto":
        return min(int(settings.n_jobs), max(len(packs), 1))
    if device_of(settings).type != "cpu":
        return 1
    return min(cores(), max(len(packs), 1))


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
    distinct = {run.run_id: run for run in runs}
    check_settings(distinct.values(), settings)
    store = Store(settings.results_dir, settings.name)
    store.open()
    store.check()
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
        return Outcome()
    if todo:
        _execute(todo, settings, store, many, command)
    store.tidy()
    # moments would import pandas
    rows = store.rows(distinct, [c for c in runs_schema().names if c != "finished_at"]).to_pylist()
    outcome = Outcome(rows, len(todo), sum(row["status"] == "failed" for row in rows))
    _report(outcome, settings, store, many)
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
    before = store.stamps(run.run_id for run in todo)
    if library() is None:
        _say("no compiled engine for this machine: training in PyTorch's operations; pip install -e . compiles one")
    packs = plan(todo, limits_of(settings), measure_of(settings))
    n_jobs = worker_count(settings, packs)
    events: Any = execute_inline(packs, settings) if n_jobs == 1 else execute_processes(packs, settings, n_jobs)
    try:
        with Progress(len(todo), sum(pack.seconds for pack in packs)) as progress, closing(events):
            _follow(events, progress, store, many)
    except KeyboardInterrupt:
        # the workers have closed and written what they had finished
        again = f"the same command:\n    {command}" if command else "the same command"
        done = len(store.stamps(run.run_id for run in todo).items() - before.items())
        then = f"it starts over because of force=true: {again}" if settings.force else f"go on by {again}"
        _say(f"interrupted; {done} of {len(todo)} runs are in {store.runs}; {then}")
        raise


def _follow(events: Iterable[tuple[Pack, Row | WorkerDied]], progress: Progress, store: Store, many: bool) -> None:
    """Count finished runs; record a run whose process died on it alone."""
    counted: dict[str, list[str]] = {}
    for pack, event in events:
        work = pack.seconds / len(pack.runs)
        if isinstance(event, WorkerDied):
            progress.forget(counted.pop(pack.pack_id, []), work)
            if len(pack.runs) == 1:
                _record_death(pack, event, store)
                progress.update("failed", work)
        elif many:
            counted.setdefault(pack.pack_id, []).append(event["status"])
            progress.update(event["status"], work)


def _record_death(pack: Pack, death: WorkerDied, store: Store) -> None:
    rows = [failed_row(run, death) for run in pack.runs]
    store.append(pack.pack_id, rows, [], {}, {"runs": [run_axes(run) for run in pack.runs]})


def _report(outcome: Outcome, settings: Settings, store: Store, many: bool) -> None:
    if many:
        print(summary(outcome.rows))
    else:
        for row in outcome.rows:
            print(describe(row))
    if outcome.failed and many:
        first = next(row for row in outcome.rows if row["status"] == "failed")
        _say(f"{outcome.failed} runs failed; the first (run_id {first['run_id']}): {first['error']}")
    print(f"table: {store.runs}")
