"""Work that is done in several processes, or here and later."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Protocol, TypeVar

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables that linear algebra takes its number of threads from when it is first used."""

Result = TypeVar("Result")


class Begin(Protocol):
    """Begins some work; what it returns waits for the result, or raises what the work raised."""

    def __call__(self, work: Callable[[], Result]) -> Callable[[], Result]:
        """Begin."""


@contextmanager
def processes(count: int) -> Iterator[Begin]:
    """Processes whose linear algebra has one thread each: more threads would only wait for a core.

    With fewer than two, all work is done in this process, when its result is asked for. Work that has not begun at the
    end is dropped.
    """
    if count < 2:
        yield lambda work: work
        return
    before = {name: os.environ.get(name) for name in THREADS}
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"))
    try:
        os.environ.update(dict.fromkeys(THREADS, "1"))
        yield lambda work: pool.submit(work).result
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
