"""Packs over worker processes: one thread each, a dead worker costs its own pack only."""

from __future__ import annotations

import contextlib
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from dd.config import Settings
from dd.errors import DDError, StoreError
from dd.pack import Pack
from dd.processes import context, one_thread
from dd.results import Store
from dd.solve import Row, run_axes


class WorkerDied(RuntimeError):
    """A worker process ended without finishing its pack (killed, or out of memory)."""


def solve_and_store(pack: Pack, settings: Settings, on_run: Callable[[Row], None]) -> None:
    """Solve a pack and write its part at once; after an interruption, write the runs that are finished."""
    import torch

    from dd.environment import environment, git_commit
    from dd.solve import Solved, solve

    solved = Solved()

    def store(done: Pack) -> None:
        Store(settings.results_dir, settings.name).append(
            done.pack_id,
            solved.rows,
            solved.curves,
            provenance={"torch_version": str(torch.__version__), "git_commit": git_commit()},
            metadata={
                "environment": environment(), "settings": vars(settings), "runs": [run_axes(r) for r in done.runs]
            },
            predictions=solved.predictions,
        )  # fmt: skip

    try:
        solve(pack, settings, solved, on_run)
        store(pack)
    except (KeyboardInterrupt, SystemExit):
        finished = {row["run_id"] for row in solved.rows}
        if finished:
            store(Pack(tuple(run for run in pack.runs if run.run_id in finished)))
        raise


def _stop(number: int, frame: object) -> None:
    """Leave at once, by way of :func:`solve_and_store`'s last write."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _worker(connection: Connection, settings: Settings) -> None:
    """Solve packs from the connection until it closes; Ctrl-C is the parent's business.

    Answers ``("run", row)`` for each run, then ``("done", None)``, ``("refused", line)`` or ``("error", traceback)``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    with contextlib.suppress(EOFError, OSError):
        while True:
            pack: Pack = connection.recv()
            try:
                solve_and_store(pack, settings, lambda row: connection.send(("run", row)))
                connection.send(("done", None))
            except DDError as error:
                connection.send(("refused", str(error)))
            except Exception:
                connection.send(("error", traceback.format_exc()))


@dataclass
class _Worker:
    """A live process and the pack it is busy with."""

    process: Any
    connection: Connection
    pack: Pack | None = None


def execute_inline(packs: Sequence[Pack], settings: Settings) -> Iterator[tuple[Pack, Row]]:
    """Solve packs in this process, one after the other; yields (pack, row) for each run when its pack is written."""
    for pack in packs:
        rows: list[Row] = []
        solve_and_store(pack, settings, rows.append)
        for row in rows:
            yield pack, row


def execute_processes(
    packs: Sequence[Pack], settings: Settings, n_jobs: int
) -> Iterator[tuple[Pack, Row | WorkerDied]]:
    """Solve packs in ``n_jobs`` processes; yields (pack, row) for each finished run.

    A worker that dies yields one :class:`WorkerDied` for its pack and is replaced; the runs of a pack of several are
    then tried one by one. Closing the iterator ends the
    workers; of packs under way the finished runs are written, the others are lost.

    Raises:
        StoreError: a part could not be written.
        RuntimeError: a pack failed outside any run.
    """
    workers_of = context()
    waiting = list(reversed(packs))

    def start() -> _Worker:
        ours, theirs = workers_of.Pipe()
        process = workers_of.Process(target=_worker, args=(theirs, settings), daemon=True)
        with one_thread():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    workers: list[_Worker] = []
    try:
        workers = [start() for _ in range(min(n_jobs, len(packs)))]
        for worker in workers:
            worker.pack = waiting.pop()
            worker.connection.send(worker.pack)
        while any(w.pack for w in workers):
            ready = wait([w.connection for w in workers if w.pack])
            for worker in [w for w in workers if w.connection in ready]:
                assert worker.pack is not None
                try:
                    kind, content = worker.connection.recv()
                except (EOFError, OSError):
                    worker.process.join()
                    yield worker.pack, WorkerDied(f"worker process ended with exit code {worker.process.exitcode}")
                    if len(worker.pack.runs) > 1:
                        # one of them may be to blame: the others get their chance alone
                        waiting.extend(Pack((run,), worker.pack.measure) for run in worker.pack.runs)
                    workers.remove(worker)
                    if waiting:
                        workers.append(fresh := start())
                        fresh.pack = waiting.pop()
                        fresh.connection.send(fresh.pack)
                    continue
                if kind == "run":
                    yield worker.pack, content
                elif kind == "refused":
                    raise StoreError(content)
                elif kind == "error":
                    raise RuntimeError(content)
                else:
                    worker.pack = waiting.pop() if waiting else None
                    if worker.pack:
                        worker.connection.send(worker.pack)
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()
            worker.connection.close()
