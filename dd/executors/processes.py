"""Packs over worker processes: one thread each; a worker that dies, hangs or fills the memory costs its pack alone."""

from __future__ import annotations

import signal
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait

from dd.errors import DDError, StoreError
from dd.executors import Event, Executor
from dd.packs.place import device_of, gpu_count
from dd.packs.plan import Pack, plan
from dd.packs.shards import plan_for
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.workers import machine
from dd.workers.count import free_one, gpus, worker_count
from dd.workers.server import Worker, end_all, server
from dd.workers.solving import OutOfMemory, PackLost, lost

GRACE = 5.0
"""Seconds that a worker may take to write its finished runs when it is ended."""

START = 120.0
"""Seconds within which a worker must have started: on a slow file system the import of PyTorch takes long."""

BASE = 300 << 20
"""Bytes of a worker beside its pack."""

HOPELESS = 4.0
"""Estimates of the memory are upper bounds, up to 3.4 times what was measured; beyond this no run is tried."""


@dataclass
class _Busy:
    """A worker and what it is busy with.

    Attributes:
        worker: the process.
        pack: the pack that it solves.
        since: when it was given, in seconds of the monotonic clock.
        kills: processes that the kernel had killed for memory by then.
        ready: whether the worker has answered at all.
        reported: ``run_id`` of the pack's runs that it has reported.
    """

    worker: Worker
    pack: Pack
    since: float = field(default_factory=time.monotonic)
    kills: int = field(default_factory=machine.out_of_memory_kills)
    ready: bool = False
    reported: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Processes(Executor):
    """Packs in worker processes: one a core on a CPU, one a GPU, or as many as ``n_jobs`` says."""

    def plan(self, runs: Sequence[Run], settings: Settings) -> list[Pack]:
        """Packs, several for each GPU where there are several; on a CPU they are small anyway."""
        place, many = self.place(settings), gpu_count(settings)
        return plan_for(many, runs, place) if many > 1 else plan(runs, place)

    def execute(self, packs: Sequence[Pack], settings: Settings) -> Generator[Event]:
        """Solve packs; yields (pack, row) for each finished run, or what was lost with a pack.

        A pack waits while the memory does not hold it beside those under way. A worker that dies, or is not done after
        ``settings.timeout`` seconds, is replaced; the runs of a pack of several are then tried one by one. Closing the
        iterator ends the workers within seconds; of packs under way the finished runs are written.

        Raises:
            StoreError: a part could not be written, or data are no longer there.
            DDError: workers do not start.
        """
        farm = _Farm(settings, worker_count(settings, len(packs)), list(reversed(packs)))
        try:
            while farm.waiting or farm.busy:
                yield from farm.hand_out()
                yield from farm.listen()
        finally:
            end_all([*farm.idle, *(busy.worker for busy in farm.busy)], GRACE)


class _Farm:
    """Workers, and the packs that wait for them: the next one is the last."""

    def __init__(self, settings: Settings, n_jobs: int, waiting: list[Pack]) -> None:
        self.settings, self.n_jobs, self.waiting = settings, n_jobs, waiting
        self.idle: list[Worker] = []
        self.busy: list[_Busy] = []
        self._on_cpu = device_of(settings).type == "cpu"  # packs of a GPU are planned by its own memory
        self._gpus = gpus(settings)
        self._room: int | None = None

    def hand_out(self) -> Iterator[Event]:
        """Give packs to workers, as many as there are and as the memory holds; refuse what it can never hold."""
        while self.waiting and len(self.busy) < self.n_jobs:
            pack = self.waiting[-1]
            if not self.busy:
                self._room, most = (machine.available(), machine.installed()) if self._on_cpu else (None, None)
                if most is not None and pack.bytes > HOPELESS * most:
                    self.waiting.pop()
                    yield self._lose(pack, OutOfMemory(f"out of memory: {needs(pack, most)}"), set())
                    continue
            elif not self._fits(pack):
                return
            self.waiting.pop()
            worker = self._free_worker()
            busy = _Busy(worker, pack, ready=worker.process is not None)
            self.busy.append(busy)
            try:
                worker.connection.send(pack)
            except OSError:
                yield self._ended(busy)

    def _free_worker(self) -> Worker:
        """One on the GPU that the fewest are busy on, where there are several: an idle one, or a new one."""
        gpu = free_one(self._gpus, [busy.worker.gpu for busy in self.busy])
        for worker in self.idle:
            if worker.gpu == gpu:
                self.idle.remove(worker)
                return worker
        return server().start(self.settings, gpu)

    def _fits(self, pack: Pack) -> bool:
        """Whether the memory that was free before any worker had a pack holds one more."""
        if self._room is None:
            return True
        return sum(p.bytes + BASE for p in (pack, *(busy.pack for busy in self.busy))) <= self._room

    def listen(self) -> Iterator[Event]:
        """Wait until something happens, and tell it."""
        if not self.busy:
            return
        limit = START if self.settings.timeout is None else self.settings.timeout
        timed = [busy for busy in self.busy if self.settings.timeout is not None or not busy.ready]
        now = time.monotonic()
        left = min((busy.since + (limit if busy.ready else START) - now for busy in timed), default=None)
        ready = wait([busy.worker.connection for busy in self.busy], None if left is None else max(left, 0.0))
        for busy in list(self.busy):
            if busy.worker.connection in ready:
                yield from self._hear(busy)
            elif not busy.ready and time.monotonic() > busy.since + START:
                raise DDError(f"a worker process does not start within {START:.0f} s; n_jobs=1 does without")
            elif self.settings.timeout is not None and busy.ready and time.monotonic() >= busy.since + limit:
                yield self._ended(busy, PackLost(f"timeout: not finished after timeout={self.settings.timeout:g} s"))

    def _hear(self, busy: _Busy) -> Iterator[Event]:
        """Take one message of a worker."""
        try:
            kind, content = busy.worker.connection.recv()
        except (EOFError, OSError):
            yield self._ended(busy)
            return
        if kind == "ready":
            # what the start took is not the pack's
            busy.worker.process, busy.ready, busy.since = content, True, time.monotonic()
        elif kind == "run":
            busy.reported.add(content["run_id"])
            yield busy.pack, content
        elif kind == "refused":
            raise StoreError(content)
        else:
            self.busy.remove(busy)
            self.idle.append(busy.worker)
            if kind == "lost":
                yield self._lose(busy.pack, PackLost(content), set())

    def _ended(self, busy: _Busy, error: PackLost | None = None) -> Event:
        """Part with a worker that died, or (with an error) that is to end."""
        self.busy.remove(busy)
        if not busy.ready:
            busy.worker.close()
            raise DDError("a worker process ended while it started; its message is above; n_jobs=1 does without")
        if error is not None:
            busy.worker.signal(signal.SIGTERM)
        code = busy.worker.exit_code(GRACE)
        end_all([busy.worker], 0.0)
        # a worker that was asked to end has written the runs that it had reported
        stored = busy.reported if code == 128 + signal.SIGTERM else set()
        if error is None:
            error = PackLost(f"worker process ended with exit code {'unknown' if code is None else code}")
            if code == -signal.SIGKILL and machine.out_of_memory_kills() > busy.kills:
                error = OutOfMemory(f"out of memory: {error}; {needs(busy.pack, self._room)}")
        return self._lose(busy.pack, error, stored)

    def _lose(self, pack: Pack, error: PackLost, stored: set[str]) -> Event:
        """Tell what is lost, and queue what is tried again."""
        what, again = lost(pack, error, stored)
        self.waiting += reversed(again)
        return pack, what


def needs(pack: Pack, room: int | None) -> str:
    """What a pack needs of the memory, in words."""
    text = f"{'the run' if len(pack.runs) == 1 else 'the pack'} may need {pack.bytes / 1e9:.1f} GB"
    return text + ("" if room is None else f", there are {room / 1e9:.1f} GB")
