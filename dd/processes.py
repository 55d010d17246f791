"""Where worker processes come from: a fork server that has imported PyTorch once, on one thread."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from typing import Any

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def context() -> Any:
    """Processes that do not inherit the parent's threads; one import of torch serves them all."""
    methods = multiprocessing.get_all_start_methods()
    made = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        made.set_forkserver_preload(["dd.solve"])
    return made


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Processes started here inherit that the linear algebra of every library stays on one thread."""
    before = {key: os.environ.get(key) for key in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def warm_up(arguments: Sequence[str]) -> None:
    """Start the fork server of a sweep while the command line is still being read.

    Args:
        arguments: the command line; nothing happens if it is no sweep over several processes.
    """
    sweep = {"-m", "--multirun"} & set(arguments)
    if not sweep or {"n_jobs=1", "plan_only=true"} & set(arguments) or cores() < 2:
        return
    if threading.current_thread() is not threading.main_thread():
        return
    if context().get_start_method() == "forkserver":
        # the server inherits that Ctrl-C is the parent's business
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with one_thread():
                forkserver.ensure_running()
        finally:
            signal.signal(signal.SIGINT, before)
