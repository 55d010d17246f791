"""The sweep: from runs to packs, to an executor, to the table; with progress, resume and a summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace

import pyarrow as pa

from dd.cli.advice import figures, report
from dd.cli.progress import Progress
from dd.cli.summary import Summary, describe, remark, shown, told
from dd.errors import say
from dd.executors import executor_of, recorded
from dd.kernels.library import compiles, library
from dd.numerics import neutral
from dd.packs.content import check_table, identified, remarks
from dd.packs.place import place_of
from dd.packs.plan import Pack
from dd.packs.plan import describe as plan_table
from dd.packs.rows import Row
from dd.packs.shards import runs_of
from dd.results import Store, runs_schema
from dd.runs.run import Run
from dd.runs.settings import MEASURES, Settings
from dd.runs.shard import shard_of
from dd.trainers.table import trainer_for
from dd.workers.signals import orderly
from dd.workers.solving import Lost


@dataclass(frozen=True)
class Answer:
    """What a sweep tells of one run; the table has the rest.

    Attributes:
        run_id: the run.
        status: ``ok``, ``diverged`` or ``failed``.
        error: why it failed.
        test_loss: null where it failed.
    """

    run_id: str
    status: str
    error: str | None
    test_loss: float | None


@dataclass
class SweepResult:
    """What became of a sweep.

    Attributes:
        answers: one a distinct run, those that the table had included.
        computed: runs computed now.
        runs: its runs with their final ids, in the order given.
    """

    answers: list[Answer] = field(default_factory=list)
    computed: int = 0
    runs: list[Run] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Runs with status ``failed``."""
        return sum(answer.status == "failed" for answer in self.answers)


def check_settings(runs: Sequence[Run], settings: Settings) -> None:
    """Make sure that executor, device, trainer and data are there, before any run starts.

    Raises:
        ConfigError: they are not, or the trainer that is asked for does not take a run.
    """
    executor = executor_of(settings)
    executor.ensure(settings)
    if settings.trainer != "auto":
        device = executor.place(settings).device
        for run in runs:
            trainer_for(run, device, settings.trainer)
    for data in {run.data for run in runs}:
        data.ensure(settings)


@neutral()
def run_sweep(runs: Sequence[Run], settings: Settings, command: str = "") -> SweepResult:
    """Compute what the table lacks and report.

    Args:
        runs: the sweep; a run that occurs twice is computed once.
        settings: where and how.
        command: how to start the same sweep again, for the message after Ctrl-C.

    Returns:
        What became of all runs.

    Raises:
        ConfigError, StoreError: before anything was computed.
        KeyboardInterrupt: after Ctrl-C; finished packs are in the table.
    """
    check_settings(runs, settings)
    runs = identified(runs, settings)
    whole = {run.run_id: run for run in runs}
    distinct = _mine(whole, settings)
    store = Store(settings.results_dir, settings.name)
    if not settings.plan_only:
        store.open()
    store.check()
    check_table(runs, settings, store)
    for line in remarks(runs, settings):
        say(line)
    had = set() if settings.force else store.finished(settings.measure_name, predictions=settings.measure_predictions)
    todo = [run for run_id, run in distinct.items() if run_id not in had]
    if todo and not settings.force:
        settings = _as_rich(settings, store, {run.run_id for run in todo})
    notes = []
    if duplicates := len(runs) - len(whole):
        notes.append(f"{duplicates} duplicate{'s' * (duplicates > 1)} left out")
    if skipped := len(distinct) - len(todo):
        notes.append(f"{skipped} already in the table")
    many = len(runs) > 1
    if many:
        extra = f" ({', '.join(notes)})" if notes else ""
        part = f"shard {settings.shard}: " if settings.shard else ""
        say(f"{part}{len(todo)} of {len(runs)} runs to do{extra}")
    elif skipped:
        say(f"already in {store.runs}; force=true computes it again")
    if settings.plan_only:
        print(plan_table(executor_of(settings).plan(todo, settings)))
        return SweepResult(runs=runs)
    if todo:
        _execute(todo, settings, store, many, command)
    store.tidy()
    table = store.rows(distinct, ["run_id", *told(runs_schema().names)])
    columns = (table[f.name].to_pylist() for f in fields(Answer))
    result = SweepResult([Answer(*values) for values in zip(*columns, strict=True)], len(todo), runs)
    _report(result, table, store, many, settings, command)
    if settings.shard:
        there = f"the table has {len(store.stamps(whole))} of {len(whole)} runs"
        say(f"shard {settings.shard} is done; {there}; without shard the command sums them up")
    return result


def _mine(runs: dict[str, Run], settings: Settings) -> dict[str, Run]:
    """The runs of the shard that the settings name, all of them if they name none."""
    if settings.shard is None:
        return runs
    shard = shard_of(settings.shard, lambda key: "")
    return {run.run_id: run for run in runs_of(shard, list(runs.values()), place_of(settings))}


def _as_rich(settings: Settings, store: Store, run_ids: set[str]) -> Settings:
    """Measure runs that are computed again for one thing in no less than they were before."""
    most, predicted = store.holds(run_ids)
    more = MEASURES.index(most) > MEASURES.index(settings.measure_name)
    predicted = predicted and not settings.measure_predictions
    if kept := [f"measure={most}"] * more + ["measure.predictions=true"] * predicted:
        say(f"computed again with {' and '.join(kept)}, as the table has it")
    return replace(
        settings,
        measure_name=most if more else settings.measure_name,
        measure_predictions=predicted or settings.measure_predictions,
    )


def _execute(todo: list[Run], settings: Settings, store: Store, many: bool, command: str) -> None:
    if library() is None:
        say(f"no compiled engine for this machine: training in PyTorch's operations, more slowly; {compiles()}")
    before = store.stamps(run.run_id for run in todo)
    executor = executor_of(settings)
    packs = executor.plan(todo, settings)
    try:
        with (
            orderly(),
            closing(executor.execute(packs, settings)) as events,
            Progress(len(todo), sum(pack.seconds for pack in packs)) as progress,
        ):
            _follow(recorded(events, store), progress, many)
    except KeyboardInterrupt:
        # the workers have closed and written what they had finished
        again = f"the same command:\n    {command}" if command else "the same command"
        done = len(store.stamps(run.run_id for run in todo).items() - before.items())
        then = f"it starts over because of force=true: {again}" if settings.force else f"go on by {again}"
        say(f"interrupted; {done} of {len(todo)} runs are in {store.runs}; {then}")
        raise


def _follow(events: Iterable[tuple[Pack, Row | Lost]], progress: Progress, many: bool) -> None:
    """Count finished runs, and those that are lost for good."""
    counted: dict[str, str] = {}
    for pack, event in events:
        work = pack.seconds / len(pack.runs)
        if not isinstance(event, Lost):
            if many:
                counted[str(event["run_id"])] = str(event["status"])
                progress.update(str(event["status"]), work)
            continue
        progress.forget([counted.pop(run.run_id) for run in event.runs if run.run_id in counted], work)
        if not event.again:
            for _ in event.runs:
                progress.update("failed", work)


def _report(result: SweepResult, table: pa.Table, store: Store, many: bool, settings: Settings, command: str) -> None:
    if many and not settings.shard:
        print(report(Summary.of(shown(table)), result.runs, settings, command))
    elif not many:
        for row in table.to_pylist():
            print(describe(row))
    if result.failed and many:
        first = next(answer for answer in result.answers if answer.status == "failed")
        say(f"{result.failed} runs failed; the first (run_id {first.run_id}): {first.error}")
    if noted := remark(table["status_note"].to_pylist()):
        say(noted)
    print(f"table: {store.runs}")
    if many and not settings.shard:
        print(f"next: {figures(settings)}")
