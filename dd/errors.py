"""Errors that a user can mend, told in one line."""

from __future__ import annotations

import sys
import traceback
import unicodedata

FAILED, USAGE = 1, 2
"""Exit codes: a run failed, bad input."""

LONGEST = 300
"""Characters of a value that a message shows."""


def is_control(character: str) -> bool:
    """Whether a character has no place in a line of text: control characters, line ends, half of a pair."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def printable(text: str) -> str:
    r"""Text as one line of bounded length that any terminal can show.

    >>> printable("a\nb"), len(printable("x" * 1000))
    ('a\\nb', 301)
    """
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]}…{text[-LONGEST // 2 :]}"
    if text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode() if is_control(c) else c for c in text)


def say(text: str) -> None:
    """Tell the user one line, on standard error at once."""
    print(f"dd: {text}", file=sys.stderr, flush=True)


class DDError(Exception):
    """Something the user can mend; printed as one line, exit code 2."""

    def _render_traceback_(self) -> list[str]:
        """What IPython and Jupyter show in the place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class ConfigError(DDError):
    """A bad value of one key.

    Args:
        key: the command-line key, for example ``data.n_train``.
        value: the value given.
        allowed: what would have been accepted.
        origin: where the value came from, for example ``command line`` or a file of ``conf/``.
    """

    def __init__(self, key: str, value: object, allowed: str, origin: str = "") -> None:
        self.key, self.value, self.allowed, self.origin = key, value, allowed, origin
        shown = "null" if value is None else printable(str(value))
        where = f" (from {origin})" if origin else ""
        super().__init__(f"{printable(key)}={shown}{where}: {allowed}")


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
