"""Reading a table that another process changes at the same time, on this machine or another.

A network file system may show an old listing for a while: it lacks parts that are there, or names parts that have gone.
Parts that are missing show rows late. A part that has gone, or that the file system calls stale, is a reason to list
again. Whoever takes the lock sees the table as it is (:mod:`dd.results.lock`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dd.errors import StoreError
from dd.results.lock import locked
from dd.results.parts import has_gone

TRIES, PAUSE, WAIT = 3, 0.02, 5.0
"""How often a reader lists and reads without the lock, seconds in between, and seconds to wait for the lock at last."""

Result = TypeVar("Result")


def patiently(folder: Path, look: Callable[[], Result]) -> Result:
    """List and read again where a part has gone or failed meanwhile, at last under the lock of the table.

    Args:
        folder: the table.
        look: lists and reads; called again as a whole.

    Raises:
        StoreError: it fails each time.
    """
    problem: Exception | None = None
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE)
        try:
            return look()
        except (OSError, StoreError) as error:
            problem = error
    try:
        with locked(folder, WAIT):
            return look()
    except OSError as error:
        problem = error
    except StoreError:  # the same damage, or there is no lock to be had: the first problem says more
        pass
    if isinstance(problem, OSError):
        reason = "it goes while the table is read" if has_gone(problem) else problem.strerror or problem
        raise StoreError(f"{problem.filename} cannot be read: {reason}") from problem
    assert problem is not None
    raise problem
