"""What a sweep is given from Python: files kept beside its table, and the overrides that name them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

from dd.errors import StoreError
from dd.temporary import temporary_name


def keep(path: Path, what: str, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file unless it is there; it appears whole or not at all.

    Args:
        path: the file, named by its content.
        what: it holds, for the error.
        write: writes the content to an open file.

    Raises:
        StoreError: it cannot be written.
    """
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staged = path.with_name(temporary_name())
        try:
            with staged.open("xb") as file:
                write(file)
            os.replace(staged, path)
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"results_dir: cannot write {what} to {path.parent} ({reason})") from error


def assigned(key: str, text: object) -> str:
    """The override that sets a key to a text, whatever characters it has."""
    quoted = str(text).replace("'", "\\'")
    return f"{key}='{quoted}'"
