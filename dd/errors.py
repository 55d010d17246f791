"""Errors that a user can mend, told in one line."""

from __future__ import annotations

import traceback
from typing import Any


class DDError(Exception):
    """Something the user can mend; printed as one line, exit code 2."""


class ConfigError(DDError):
    """A bad value of one key.

    Args:
        key: the command-line key, for example ``data.n_train``.
        value: the value given.
        allowed: what would have been accepted.
        origin: where the value came from, for example ``command line`` or a file of ``conf/``.
    """

    def __init__(self, key: str, value: Any, allowed: str, origin: str = "") -> None:
        self.key, self.value, self.allowed, self.origin = key, value, allowed, origin
        shown = "null" if value is None else value
        where = f" (from {origin})" if origin else ""
        super().__init__(f"{key}={shown}{where}: {allowed}")


class DataNotFoundError(ConfigError):
    """A data set whose files are nowhere to be found; the message names the fix."""


class StoreError(DDError):
    """A results folder that cannot be read or written."""


class Stop(SystemExit):
    """Ends a single run from inside Hydra's job, past Hydra's own report of failed jobs.

    Args:
        error: what happened, told by the command line.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(1)
        self.error = error


class RunsFailed(Exception):
    """At least one run of a finished sweep has status ``failed``; exit code 1."""


def in_one_line(error: BaseException) -> str:
    """Kind, message and place of an exception, without line breaks."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"
