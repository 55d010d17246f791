"""What worker processes do, and the server that forks them.

The server imports PyTorch once and forks a worker for each pair of file descriptors that it is sent
(:mod:`dd.workers.server`). Neither imports the caller's ``__main__``, so that a sweep works from a script without a
guard, from standard input and from a notebook.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from dd.errors import DDError, in_one_line
from dd.workers.signals import ignore_all

CODE = struct.Struct("i")
"""How the server tells a worker's exit code; negative for the number of a signal, as ``subprocess`` has it."""

PATIENCE = 5.0
"""Seconds that a worker whose parent has died may take to write its finished runs."""

LOOK = 0.5
"""Seconds between looks at the parent."""


def serve(descriptor: int, parent: int) -> None:
    """Fork a worker for each message on a socket, until it closes; tell how each ended.

    Args:
        descriptor: a Unix socket. A message carries two descriptors: a worker's connection, and the end of a pipe to
            which its exit code goes.
        parent: process whose end is ours too.
    """
    ignore_all()
    import dd.workers.solving  # noqa: F401 - what every worker needs, imported once

    control = socket.socket(fileno=descriptor)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pipes: dict[int, int] = {}
    while os.getppid() == parent:
        ready, _, _ = select.select([control.fileno(), wake], [], [], LOOK)
        if wake in ready:
            os.read(wake, 4096)
            _bury(pipes)
        if control.fileno() in ready:
            message, descriptors, _, _ = socket.recv_fds(control, 1, 2)
            if not message:
                break
            connection, pipe = descriptors
            child = os.fork()
            if child == 0:
                signal.set_wakeup_fd(-1)
                for inherited in (control.detach(), wake, woken, pipe, *pipes.values()):
                    os.close(inherited)
                _be_worker(connection)
            pipes[child] = pipe
            os.close(connection)
    os._exit(0)


def _bury(pipes: dict[int, int]) -> None:
    """Tell the exit codes of the workers that have ended."""
    for child in list(pipes):
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            pipe = pipes.pop(child)
            with suppress(OSError):
                os.write(pipe, CODE.pack(os.waitstatus_to_exitcode(status)))
            os.close(pipe)


def _be_worker(descriptor: int) -> None:
    """Solve packs until the connection closes; never returns into the server."""
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, _stop)
        with suppress(OSError):  # where memory runs out, a worker goes before the process that keeps the table
            Path("/proc/self/oom_score_adj").write_text("1000")
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()
        connection = Connection(descriptor)  # kept until the end: a signal must not meet it half closed
        with suppress(EOFError, OSError):
            work(connection)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        with suppress(Exception):
            traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _stop(number: int, frame: FrameType | None) -> None:
    """Leave at once, by way of :func:`dd.workers.solving.solve_and_store`'s last write."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _watch(parent: int) -> None:
    """End with the parent: finished runs are written, and nothing is computed that nobody waits for."""
    while os.getppid() == parent:
        time.sleep(LOOK)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os._exit(1)


def work(connection: Connection) -> None:
    """Solve packs from a connection until it closes, or until one is refused.

    The first message is the caller's surroundings: working directory, environment, module path, settings. Answers
    ``("ready", process id)``, then for each run ``("run", row)`` and at the end of a pack ``("done", None)``,
    ``("refused", line)`` where the user can mend it, or ``("lost", line)``.
    """
    folder, environment, path, settings = connection.recv()
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = path
    os.chdir(folder)
    from dd.workers.solving import solve_and_store

    connection.send(("ready", os.getpid()))
    while True:
        pack = connection.recv()
        try:
            solve_and_store(pack, settings, lambda row: connection.send(("run", row)))
            answer: tuple[str, str | None] = ("done", None)
        except DDError as error:
            connection.send(("refused", str(error)))
            return  # the caller ends the sweep, and may have asked for it already
        except Exception as error:
            answer = ("lost", in_one_line(error))
        connection.send(answer)
