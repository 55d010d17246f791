"""What one element of a job array does on its node: solve what its runs lack, and give way when Slurm asks."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from dd.errors import DDError, say
from dd.executors import recorded
from dd.executors.processes import Processes
from dd.executors.slurm import queue
from dd.results import Store
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.workers.signals import ENDING, Interrupted, orderly


@dataclass(frozen=True)
class Element:
    """Runs that one element of a job array brings; pickled at submission, so that later edits of files change nothing.

    Attributes:
        runs: as composed.
        settings: how; ``results_dir`` is absolute.
        before: when each run's row was finished at submission, of runs that had one.
    """

    runs: tuple[Run, ...]
    settings: Settings
    before: Mapping[str, int]

    def missing(self, store: Store) -> list[Run]:
        """Runs whose rows have not been made since the submission."""
        stamps = store.stamps(run.run_id for run in self.runs)
        return [run for run in self.runs if stamps.get(run.run_id) == self.before.get(run.run_id)]


def solve(element: Element) -> None:
    """Solve what is missing of an element, in worker processes: one that dies costs its pack alone.

    Before the time limit, and where a job is preempted, Slurm sends a signal. What is finished is written then. Before
    the time limit (``SIGUSR2``) the job is queued again, unless it gets no run finished within the limit.

    Raises:
        DDError: the node does not see the table, or nothing can be solved.
        SystemExit: after a signal.
    """
    store = Store(element.settings.results_dir, element.settings.name)
    if not store.runs.is_dir():
        raise DDError(f"results_dir={element.settings.results_dir}: this node ({os.uname().nodename}) does not see it")
    for name in ENDING:  # submitit's handlers judge a short job's end wrongly
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    todo, executor = element.missing(store), Processes()
    executor.ensure(element.settings)
    try:
        with orderly(), closing(executor.execute(executor.plan(todo, element.settings), element.settings)) as events:
            for _ in recorded(events, store):
                pass
    except Interrupted as interrupt:
        left = len(element.missing(store))
        say(f"{interrupt}: {len(todo) - left} of {len(todo)} runs are written")
        if interrupt.number == signal.SIGUSR2:
            _again(left, len(todo))
        raise SystemExit(128 + interrupt.number) from None


def _again(left: int, todo: int) -> None:
    """Queue this job again, if that brings anything: a start that brings no run is allowed once."""
    if left == 0:
        raise SystemExit(0)
    if left == todo and int(os.environ.get("SLURM_RESTART_COUNT", "0")):
        say("no run was finished within the time limit; executor.time=... sets a longer one")
        return
    say("queued again")  # before it is: Slurm then ends this process at once
    if not queue.requeue(os.environ["SLURM_JOB_ID"]):
        say("not queued again: Slurm refuses")
