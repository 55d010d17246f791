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

from dd.arrow import integers
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
        lost: whether an element has ended without all of its runs.
    """

    folder: Path
    job: str
    before: Mapping[str, int]
    waiting: dict[str, list[str]] = field(default_factory=dict)
    lost: bool = False

    def claim(self, wanted: Collection[str], store: Store) -> list[tuple[str, str]]:
        """Wait for the wanted runs of the elements that the queue has, and no others.

        Returns:
            Wanted runs that this submission has brought already, with their status; one that failed is not brought.
        """
        alive = queue.states(list(self.waiting))  # before the look at the table: what has ended has written
        self._expect({job: [run_id for run_id in own if run_id in wanted] for job, own in self.waiting.items()})
        brought = [(run_id, status) for run_id, status in self._fresh(store) if status != "failed"]
        done = {run_id for run_id, _ in brought}
        kept = self.waiting if alive is None else {job: self.waiting[job] for job in self.waiting if job in alive}
        self._expect({job: [run_id for run_id in own if run_id not in done] for job, own in kept.items()})
        return brought

    def news(self, store: Store) -> list[tuple[str, str]]:
        """Expected runs that the table has got, with their status; they are expected no longer."""
        found = self._fresh(store)
        done = {run_id for run_id, _ in found}
        self._expect({job: [run_id for run_id in own if run_id not in done] for job, own in self.waiting.items()})
        return found

    def _expect(self, run_ids: Mapping[str, list[str]]) -> None:
        self.waiting = {job: own for job, own in run_ids.items() if own}

    def _fresh(self, store: Store) -> list[tuple[str, str]]:
        """Expected runs whose rows have been written since the submission."""
        expected = [run_id for own in self.waiting.values() for run_id in own]
        table = store.rows(expected, ["run_id", "status", "finished_at"])
        columns = (table["run_id"].to_pylist(), table["status"].to_pylist(), integers(table["finished_at"]).tolist())
        return [(run_id, status) for run_id, status, at in zip(*columns, strict=True) if self.before.get(run_id) != at]

    def output(self, job: str) -> Output:
        """What an element has printed."""
        return Output(self.folder / f"{job}_0_log.out")

    def close(self) -> None:
        """Nothing is expected any more: remove all that it has written; where runs were lost, outputs stay."""
        if self.lost:
            (self.folder / RECORD).unlink(missing_ok=True)
        else:
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
