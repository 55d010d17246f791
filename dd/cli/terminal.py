"""Output that survives its surroundings: closed streams, closed pipes, encodings without dashes or Greek letters."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import shlex
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from dd.errors import USAGE, DDError, say
from dd.workers.signals import exit_code

ASCII = {
    "–": "-", "—": "-", "−": "-", "·": "*", "×": "x", "…": "...", "’": "'", "‘": "'", "“": '"', "”": '"', "≤": "<=",
    "≥": ">=", "→": "->", "±": "+-", "α": "alpha", "β": "beta", "γ": "gamma", "κ": "kappa", "λ": "lambda",
    "μ": "mu", "σ": "sigma", "━": "-", "╸": "-", "╺": "-", "•": "*",
}  # fmt: skip
"""What characters of dd's messages become where an encoding lacks them."""

HANDLER = "dd-readable"


def readable(text: str) -> str:
    """Text in ASCII, as close to the original as that allows.

    >>> readable("Holzmüller, λ ≥ 1 – 2")
    'Holzmuller, lambda >= 1 - 2'
    """
    out = []
    for character in text:
        plain = ASCII.get(character) or unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        out.append(character if character.isascii() else plain or "?")
    return "".join(out)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return readable(error.object[error.start : error.end]), error.end


codecs.register_error(HANDLER, _replaced)


class Steady(io.TextIOWrapper):
    """A text stream whose reader may leave: what is written after that is dropped, and the sweep goes on.

    Attributes:
        left: whether the reader has left.
    """

    left = False

    def write(self, text: str) -> int:
        """Write, or drop."""
        try:
            return super().write(text)
        except (BrokenPipeError, ValueError):
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Flush, or drop."""
        try:
            super().flush()
        except (BrokenPipeError, ValueError):
            self._drop()

    def _drop(self) -> None:
        """Send what is left, and all that follows, nowhere."""
        self.left = True
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            super().flush()


def steady() -> None:
    """Make the standard streams of this program such that no message can end it."""
    # a closed descriptor would be given to the next file opened, which then receives what libraries print
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = _steady(sys.stdout), _steady(sys.stderr)
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr  # type: ignore[misc,assignment]


def _steady(stream: TextIO | None) -> TextIO:
    """A stream's replacement; one that is not a file on a descriptor stays as it is."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    if type(stream) is not io.TextIOWrapper:
        return stream
    encoding, buffering = stream.encoding, stream.line_buffering
    return Steady(stream.detach(), encoding=encoding, errors=HANDLER, line_buffering=buffering, write_through=False)


def ended(work: Callable[[], int]) -> int:
    """Exit code of a command's work: its own; 2 after bad input, which is told in one line; 130 after Ctrl-C."""
    try:
        return work()
    except DDError as error:
        say(str(error))
        return USAGE
    except KeyboardInterrupt as interrupt:
        return exit_code(interrupt)


LAB = ("dd-lab", "dd-lab.exe", "dd_lab.py")
"""Files that start dd by its console script."""


def shell_line(module: str, arguments: Sequence[str]) -> str:
    """The shell line that runs a command of dd, in the way in which this program was started.

    Args:
        module: as ``analysis.figures``.
        arguments: of the command.
    """
    # the console script also works beside a folder that is called analysis
    lab = any(Path(word).name in LAB for word in sys.orig_argv[:2])
    start = ["dd-lab", module.rpartition(".")[2]] if lab else ["python", "-m", module]
    return shlex.join([*start, *arguments])


def command_of(arguments: Sequence[str]) -> str:
    """The shell line that starts the same sweep again."""
    return shell_line("dd.run", arguments)
