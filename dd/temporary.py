"""Names of files and folders that are there only while something is written."""

from __future__ import annotations

import os
import re
import socket


def host() -> str:
    """Name of this machine, as a part of a file's name."""
    return re.sub(r"[^\w-]", "-", socket.gethostname())[:64]


def temporary_name() -> str:
    """A name that no other process gives, on this machine or another: host, process and a random part.

    Readers of tables pass over names that begin with ``_``.
    """
    return f"_{host()}.{os.getpid()}.{os.urandom(6).hex()}.tmp"
