"""The command's side of a Slurm job array: submit what nobody computes yet, and wait for the rows."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch

from dd.errors import ConfigError, say
from dd.executors import Event, Executor
from dd.executors.slurm import queue
from dd.executors.slurm.element import Element
from dd.executors.slurm.submission import Submission, of_table, submit
from dd.packs.place import ON_CPU, ON_GPU, Place, measure_of
from dd.packs.plan import Pack
from dd.packs.shards import dealt
from dd.results import Store
from dd.runs.axis import axis
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.workers.solving import Lost, PackLost

START = 300.0
"""Seconds that an element may take to start: a file system under load, the import of PyTorch."""

MARGIN = 3.0
"""Estimates are within a factor of 2 (docs/benchmarks.md), and a node may be slower than the one they were made on."""

SHORTEST, LONGEST = 0.5, 15.0
"""Seconds between two looks at the table and the queue: few while something happens, more while nothing does."""

LAG = 20.0
"""Seconds that the rows of an element which has left the queue may take to be seen on a shared file system."""

TELL = 60.0
"""Seconds between two lines about the queue at least."""


@dataclass(frozen=True)
class Slurm(Executor):
    """One job array for a sweep; its elements write to the table, and the command waits for the rows.

    The command may be stopped: the jobs go on, and the same command finds them.
    """

    jobs: int = axis(20, "elements of the job array at most", low=1)
    partition: str | None = axis(None, "partition; null: the cluster's own choice")
    account: str | None = axis(None, "account that is charged; null: the user's own")
    time: float | str = axis(
        "auto", "time limit of an element; auto: the plan's estimate with a margin", unit="minutes", low=0,
        low_open=True, words=("auto",),
    )  # fmt: skip
    cpus: int = axis(1, "cores of an element: worker processes on a CPU", low=1)
    gpus: int = axis(0, "GPUs of an element", low=0)
    memory: float | None = axis(
        None, "memory of an element; null: the cluster's default", unit="GB", low=0, low_open=True
    )
    sbatch: str | None = axis(None, "further options of sbatch, as 'qos=high constraint=a100'")
    setup: str | None = axis(None, "shell commands before an element starts, as 'module load cuda'")
    signal: int = axis(
        90, "how long before its time limit an element writes what is finished and is queued again", unit="seconds",
        low=1,
    )  # fmt: skip
    cancel: bool = axis(False, "Ctrl-C cancels the jobs too; else they go on without the command")

    def ensure(self, settings: Settings) -> None:
        """Make sure that submitit and Slurm are there.

        Raises:
            ConfigError: one is not, or ``device`` and ``executor.gpus`` do not go together.
        """
        if find_spec("submitit") is None:
            raise ConfigError("executor", "slurm", "needs submitit: pip install 'dd-lab[slurm]'")
        if shutil.which("sbatch") is None:
            raise ConfigError("executor", "slurm", "there is no sbatch here; start it on a login node of a cluster")
        if settings.device == "cuda" and not self.gpus:
            raise ConfigError("executor.gpus", self.gpus, "must be >= 1 for device=cuda")
        self.options()

    def place(self, settings: Settings) -> Place:
        """A node's: this machine may have no GPU. An element plans its runs again, for the GPU that it gets."""
        on_gpu = self.gpus > 0 and settings.device != "cpu"
        limits, device = (ON_GPU, "cuda") if on_gpu else (ON_CPU, "cpu")
        return Place(limits, measure_of(settings), torch.device(device), settings.trainer)

    def options(self) -> dict[str, str | bool]:
        """``sbatch`` as a mapping; an option without a value is true.

        Raises:
            ConfigError: it is no list of options.
        """
        found: dict[str, str | bool] = {}
        for word in (self.sbatch or "").split():
            key, equals, value = word.removeprefix("--").partition("=")
            if not key.replace("-", "").isalnum() or (equals and not value):
                raise ConfigError("executor.sbatch", self.sbatch, f"takes key=value, spaces between, not {word!r}")
            found[key] = value if equals else True
        return found

    def minutes(self, packs: Sequence[Pack]) -> int:
        """Time limit of an element that solves some packs."""
        if self.time != "auto":
            return math.ceil(float(self.time))
        seconds = max(sum(pack.seconds for pack in packs) / self.cpus, max(pack.seconds for pack in packs))
        return math.ceil((START + self.signal + MARGIN * seconds) / 60)

    def execute(self, packs: Sequence[Pack], settings: Settings) -> Generator[Event]:
        """Submit packs that no job of this table is about to solve, and wait for the rows of all.

        Raises:
            DDError: Slurm refuses the submission.
        """
        store = Store(settings.results_dir, settings.name)
        running = {run.run_id: pack for pack in packs for run in pack.runs}
        found, claimed = [], set[str]()
        for one in of_table(store, settings):
            for run_id, status in one.claim(running.keys() - claimed, store):
                claimed.add(run_id)
                yield running[run_id], {"run_id": run_id, "status": status}
            if one.waiting:
                found.append(one)
                claimed.update(run_id for run_ids in one.waiting.values() for run_id in run_ids)
                say(f"found Slurm job {one.job} with {_count(sum(map(len, one.waiting.values())))} to come")
        rest = [replace(pack, runs=left) for pack in packs if (left := _without(pack, claimed))]
        if rest:
            found.append(self._submit(rest, settings, store))
        try:
            yield from _wait(found, running, store)
        except BaseException:
            self._leave(found)
            raise
        for one in found:
            one.close()

    def _submit(self, packs: Sequence[Pack], settings: Settings, store: Store) -> Submission:
        """One job array for some packs."""
        count = min(self.jobs, len(packs), queue.largest_array())
        if count < min(self.jobs, len(packs)):
            say(f"executor.jobs={self.jobs}: this cluster's job arrays have at most {count} elements (MaxArraySize)")
        hands = [hand for hand in dealt(packs, count) if hand]
        stamps = store.stamps(run.run_id for pack in packs for run in pack.runs)
        there = replace(settings, executor=None, results_dir=str(Path(settings.results_dir).resolve()))
        if settings.n_jobs == "auto" and not self.gpus:
            there = replace(there, n_jobs=self.cpus)
        elements = [
            Element(runs, there, {run.run_id: stamps[run.run_id] for run in runs if run.run_id in stamps})
            for runs in (tuple(run for pack in hand for run in pack.runs) for hand in hands)
        ]
        minutes = max(self.minutes(hand) for hand in hands)
        parameters: dict[str, object] = {
            "time": minutes,
            "cpus_per_task": self.cpus,
            "srun_args": [f"--cpus-per-task={self.cpus}"],  # since Slurm 22.05 srun does not take it from sbatch
            "signal_delay_s": self.signal,
            "array_parallelism": count,
            "stderr_to_stdout": True,
            "wckey": None,
            "partition": self.partition,
            "account": self.account,
            "gpus_per_node": self.gpus or None,
            "mem": None if self.memory is None else f"{math.ceil(self.memory * 1000)}M",
            "setup": None if self.setup is None else [self.setup],
            "additional_parameters": self.options() or None,
        }
        made = submit(elements, {key: value for key, value in parameters.items() if value is not None}, store, settings)
        each = f"{len(hands)} elements" if len(hands) > 1 else "one element"
        say(f"Slurm job {made.job}: {each} of at most {minutes} min; output in {made.folder}")
        return made

    def _leave(self, found: Sequence[Submission]) -> None:
        """After an interruption: cancel the jobs, or say that they go on."""
        jobs = [job for one in found for job in one.waiting]
        if not jobs:
            return
        names = " ".join(sorted({job.split("_")[0] for job in jobs}))
        if self.cancel:
            queue.cancel(jobs)
            say(f"cancelled: {names}")
        else:
            say(f"the jobs go on, and the same command finds them; scancel {names} ends them")


def _wait(found: Sequence[Submission], running: dict[str, Pack], store: Store) -> Iterator[Event]:
    """Yield rows as they appear in the table, and what was lost with elements that have ended."""
    pause, told, last = SHORTEST, "", -math.inf
    gone: dict[str, float] = {}
    while any(one.waiting for one in found):
        alive = queue.states([job for one in found for job in one.waiting])
        news = False
        for one in found:
            for run_id, status in one.news(store):
                news = True
                yield running[run_id], {"run_id": run_id, "status": status}
            for job in [job for job in one.waiting if alive is not None and job not in alive]:
                if time.monotonic() - gone.setdefault(job, time.monotonic()) > LAG:
                    yield from _lost(one, job, running)
        if time.monotonic() - last > TELL:
            line = "squeue does not answer" if alive is None else queue.in_words(alive)
            if line != told:
                say(f"Slurm: {line}")
            told, last = line, time.monotonic()
        pause = SHORTEST if news else min(1.5 * pause, LONGEST)
        if any(one.waiting for one in found):
            time.sleep(pause)


def _lost(one: Submission, job: str, running: dict[str, Pack]) -> Iterator[Event]:
    """What is missing of an element that has ended, with the end of its output."""
    missing, one.lost = set(one.waiting.pop(job)), True
    reason = queue.ending(job)
    output = one.output(job)
    say(f"Slurm job {job} ended ({reason}) without {_count(len(missing))}; the end of its output, {output.name}:")
    for line in output.last_lines():
        print(f"    {line}", file=sys.stderr, flush=True)
    error = PackLost(f"Slurm job {job} ended: {reason}")
    for pack in dict.fromkeys(running[run_id] for run_id in sorted(missing)):
        yield pack, Lost(tuple(run for run in pack.runs if run.run_id in missing), error, again=False)


def _without(pack: Pack, run_ids: set[str]) -> tuple[Run, ...]:
    return tuple(run for run in pack.runs if run.run_id not in run_ids)


def _count(runs: int) -> str:
    return f"{runs} run{'s' * (runs != 1)}"
