"""The side of worker processes that the caller holds: start one, learn how it ended, end it."""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from dd.errors import DDError
from dd.runs.settings import Settings
from dd.workers.machine import cores
from dd.workers.signals import CHILDREN, held_back
from dd.workers.worker import CODE

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Names the GPUs that a process sees."""

PROGRAM = "import sys; sys.path[:] = {path!r}; from dd.workers.worker import serve; serve({descriptor}, {parent})"


def on_one_thread() -> dict[str, str]:
    """The environment, in which the linear algebra of every library stays on one thread."""
    return os.environ | dict.fromkeys(THREADS, "1")


@dataclass
class Worker:
    """A live worker process.

    Attributes:
        connection: to it.
        status: pipe from which its exit code can be read once it has ended.
        gpu: what ``CUDA_VISIBLE_DEVICES`` calls the GPU that it has to itself; None: it sees what the caller sees.
        process: its id, once it has told it.
    """

    connection: Connection
    status: int
    gpu: str | None = None
    process: int | None = None

    def signal(self, number: int) -> None:
        """Send a signal, unless the worker has ended."""
        if self.process is not None and not self.ended(0.0):
            with suppress(ProcessLookupError):
                os.kill(self.process, number)

    def exit_code(self, seconds: float) -> int | None:
        """Exit code of a worker that ends within so many seconds; None if it does not, or nobody knows."""
        if not self.ended(seconds):
            return None
        told = os.read(self.status, CODE.size)
        return int(CODE.unpack(told)[0]) if len(told) == CODE.size else None

    def close(self) -> None:
        """Let go of the connection and the pipe."""
        self.connection.close()
        os.close(self.status)

    def ended(self, seconds: float) -> bool:
        """Wait for the end at most so long; tell whether it came."""
        return bool(wait([self.status], seconds))


class Server:
    """A process that has imported PyTorch, on one thread, and forks workers (:func:`dd.workers.worker.serve`)."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.owner = os.getpid()
        self._control, self._lock = ours, threading.Lock()
        program = PROGRAM.format(path=sys.path, descriptor=theirs.fileno(), parent=self.owner)
        with theirs, held_back():
            self._process = subprocess.Popen(
                [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", program],  # type: ignore[attr-defined]
                env=on_one_thread(),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

        CHILDREN.append(self._process)

    def usable(self) -> bool:
        """Whether it lives, and is ours: a fork of this process has none."""
        return self.owner == os.getpid() and self._process.poll() is None

    def start(self, settings: Settings, gpu: str | None = None) -> Worker:
        """Fork a worker with the caller's present surroundings.

        Args:
            settings: of the sweep.
            gpu: see :class:`Worker`.

        Raises:
            OSError: the server has ended.
        """
        ours, theirs = socket.socketpair()
        status, code = os.pipe()
        try:
            with self._lock, theirs:
                socket.send_fds(self._control, [b"w"], [theirs.fileno(), code])
        finally:
            os.close(code)
        worker = Worker(Connection(ours.detach()), status, gpu)
        environment = on_one_thread() | ({} if gpu is None else {VISIBLE: gpu})
        worker.connection.send((os.getcwd(), environment, sys.path, settings))
        return worker

    def stop(self) -> None:
        """End the server; workers that are left write their finished runs and end."""
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()
            self._control.close()
            CHILDREN.remove(self._process)


_server: Server | None = None
_starting = threading.Lock()


def server() -> Server:
    """The server of this process, started where there is none.

    Raises:
        DDError: it does not start.
    """
    global _server
    with _starting:
        if _server is None or not _server.usable():
            try:
                _server = Server()
            except OSError as error:
                raise DDError(f"no worker processes can be started ({error}); n_jobs=1 does without") from error
            atexit.register(_server.stop)
        return _server


def can_start_workers() -> bool:
    """Whether the system has what workers are made of."""
    return hasattr(os, "fork") and hasattr(socket, "send_fds") and bool(sys.executable)


def warm_up(arguments: Sequence[str]) -> None:
    """Start the server of a sweep while the command line is still being read.

    Args:
        arguments: the command line; nothing happens if it is no sweep over several processes.
    """
    sweep = {"-m", "--multirun"} & set(arguments)
    executors = {argument for argument in arguments if argument.startswith("executor=")}
    if executors - {"executor=auto", "executor=processes"}:
        return
    if sweep and not {"n_jobs=1", "plan_only=true"} & set(arguments) and cores() > 1 and can_start_workers():
        server()


def end_all(workers: Sequence[Worker], grace: float) -> None:
    """End workers within a limit: those that are busy may write their finished runs first.

    Args:
        workers: closed afterwards.
        grace: seconds until those that still live are killed.
    """
    for worker in workers:
        worker.signal(signal.SIGTERM)
    until = time.monotonic() + grace
    for worker in workers:
        if not worker.ended(max(until - time.monotonic(), 0.0)):
            worker.signal(signal.SIGKILL)
    for worker in workers:
        worker.ended(1.0)
        worker.close()
