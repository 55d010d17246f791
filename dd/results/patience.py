"""Reading a table that another process changes at the same time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dd.errors import StoreError
from dd.results.lock import locked

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
        except (FileNotFoundError, StoreError) as error:
            problem = error
    try:
        with locked(folder, WAIT):
            return look()
    except FileNotFoundError as error:
        problem = error
    except StoreError:  # the same damage, or there is no lock to be had: the first problem says more
        pass
    if isinstance(problem, FileNotFoundError):
        raise StoreError(f"{problem.filename} cannot be read: it goes while the table is read") from problem
    assert problem is not None
    raise problem
