"""One submitted job array, written down beside the table, so that a command started again finds it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path

from dd.errors import DDError, StoreError, printable
from dd.executors.slurm import queue
from dd.executors.slurm.element import Element, solve
from dd.results import Store
from dd.runs.settings import Settings

FOLDER, RECORD = "slurm", "submission.json"
"""Folder of a table that holds submissions; a submission's own record."""

UNDER_WAY = 120.0
"""Seconds that ``sbatch`` may take, in another process that writes a record without a job."""

LINES, BYTES = 20, 20_000
"""Of an output that are shown at most."""


@dataclass(frozen=True)
class Output:
    """What an element has printed.

    Attributes:
        path: of the file.
    """

    path: Path

    @property
    def name(self) -> str:
        """Where it is."""
        return str(self.path)

    def last_lines(self) -> list[str]:
        """Its end; where there is none, why that may be."""
        try:
            with open(self.path, "rb") as file:
                file.seek(max(os.path.getsize(self.path) - BYTES, 0))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ["(nothing: it has not started, or its node does not see this folder)"]
        return [printable(line) for line in lines[-LINES:]] or ["(nothing)"]


@dataclass
class Submission:
    """A job array, and what is still expected of it.

    Attributes:
        folder: of its record, pickles and outputs.
        job: its number.
        before: when each run's row was finished at submission, of runs that had one.
        waiting: the runs that each element has to bring, by ``12_3``.
    """

    folder: Path
    job: str
    before: Mapping[str, int]
    waiting: dict[str, list[str]] = field(default_factory=dict)

    def claim(self, wanted: Collection[str]) -> bool:
        """Keep the wanted runs of the elements that the queue has; whether there are any."""
        alive = queue.states(list(self.waiting))
        kept = self.waiting if alive is None else {job: self.waiting[job] for job in alive}
        waiting = {job: [run_id for run_id in run_ids if run_id in wanted] for job, run_ids in kept.items()}
        self.waiting = {job: run_ids for job, run_ids in waiting.items() if run_ids}
        return bool(self.waiting)

    def news(self, store: Store) -> Iterator[tuple[str, str]]:
        """Runs that the table has got since the last call, with their status."""
        expected = [run_id for run_ids in self.waiting.values() for run_id in run_ids]
        found = store.rows(expected, ["run_id", "status", "finished_at"])
        status = dict(zip(found["run_id"].to_pylist(), found["status"].to_pylist(), strict=True))
        stamps = store.stamps(status)
        fresh = {run_id for run_id, stamp in stamps.items() if self.before.get(run_id) != stamp}
        for job, run_ids in list(self.waiting.items()):
            yield from ((run_id, status[run_id]) for run_id in run_ids if run_id in fresh)
            if left := [run_id for run_id in run_ids if run_id not in fresh]:
                self.waiting[job] = left
            else:
                del self.waiting[job]

    def output(self, job: str) -> Output:
        """What an element has printed."""
        return Output(self.folder / f"{job}_0_log.out")

    def forget(self) -> None:
        """Remove record, pickles and outputs, once every run has its row."""
        shutil.rmtree(self.folder, ignore_errors=True)


def submit(
    elements: Sequence[Element], parameters: Mapping[str, object], store: Store, settings: Settings
) -> Submission:
    """Submit elements as one job array.

    The record is written first, under the name that the job will have: a command that is killed meanwhile leaves a
    trace of what it may have submitted.

    Raises:
        DDError: Slurm refuses; its own words.
        StoreError: the folder cannot be written.
    """
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    name = f"dd-{secrets.token_hex(6)}"
    folder = (store.folder / FOLDER / name).resolve()
    before = {run_id: stamp for element in elements for run_id, stamp in element.before.items()}
    run_ids = [[run.run_id for run in element.runs] for element in elements]
    record: dict[str, object] = {
        "job": None, "host": socket.gethostname(), "process": os.getpid(), "settings": _kind(settings),
        "before": before, "elements": run_ids,
    }  # fmt: skip
    try:
        folder.mkdir(parents=True)
        _write(folder / RECORD, record)
        executor = submitit.SlurmExecutor(folder)
        executor.update_parameters(job_name=name, **parameters)
        # inside a job, SLURM_CPU_BIND and its like would be inherited; what sbatch says is in the error
        with _clean(), redirect_stderr(io.StringIO()):
            jobs = executor.map_array(solve, elements)
    except (FailedJobError, FailedSubmissionError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DDError(f"executor=slurm: {_refusal(error)}") from error
    except OSError as error:
        raise StoreError(f"cannot write {folder}: {error.strerror or error}") from error
    job = str(jobs[0].job_id).split("_")[0]
    _write(folder / RECORD, record | {"job": job})
    return Submission(folder, job, before, _by_job(job, run_ids))


@contextmanager
def _clean() -> Iterator[None]:
    """The environment without what Slurm has set for the job that this process may be part of."""
    from submitit.helpers import clean_env

    where = os.environ.get("SLURM_CONF")  # how to reach the cluster is not of the job
    with clean_env():
        if where is not None:
            os.environ["SLURM_CONF"] = where
        yield


def of_table(store: Store, settings: Settings) -> Iterator[Submission]:
    """Submissions of a table that these settings would make again; one that was cut short is cancelled."""
    for path in sorted((store.folder / FOLDER).glob(f"*/{RECORD}")):
        try:
            record = json.loads(path.read_text())
            job, host, process = record["job"], record["host"], int(record["process"])
            before, run_ids, kind = record["before"], record["elements"], record["settings"]
        except (OSError, ValueError, KeyError):
            continue  # it is going, or coming, or no record
        if job is None:
            under_way = host != socket.gethostname() or _lives(process)
            if not under_way or time.time() - path.stat().st_mtime > UNDER_WAY:
                queue.cancel(queue.named(path.parent.name))
                shutil.rmtree(path.parent, ignore_errors=True)
        elif kind == _kind(settings):
            yield Submission(path.parent.resolve(), job, before, _by_job(job, run_ids))


def _by_job(job: str, run_ids: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Runs of each element; submitit makes an array of two elements or more."""
    if len(run_ids) == 1:
        return {job: list(run_ids[0])}
    return {f"{job}_{number}": list(own) for number, own in enumerate(run_ids)}


def _kind(settings: Settings) -> str:
    """What submissions must agree in to bring the same rows."""
    values = {key: value for key, value in settings.values().items() if key not in ("executor", "n_jobs", "shard")}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _write(path: Path, record: Mapping[str, object]) -> None:
    """Write a record; no reader sees half of it."""
    staged = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    staged.write_text(json.dumps(record))
    staged.replace(path)


def _refusal(error: Exception) -> str:
    """What sbatch says, in one line."""
    said = [line.removeprefix("sbatch: error: ").strip() for line in str(error).splitlines()]
    return printable("; ".join(line for line in said if line) or "sbatch fails without a word")
