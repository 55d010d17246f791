"""Finding and loading the compiled engine."""

from __future__ import annotations

import ctypes
import os
import zlib
from functools import cache
from pathlib import Path

import torch

VARIANTS = {"AVX512": ("avx512", "avx2", "baseline"), "AVX2": ("avx2", "baseline")}
"""PyTorch's name of the processor's instruction set -> libraries that run there, best first."""

SWITCH = "DD_ENGINE"
"""Environment variable that chooses one of them by name; ``none`` does without."""


def allowed() -> tuple[str, ...]:
    """Names of the libraries that may be used here, best first.

    Raises:
        ValueError: ``DD_ENGINE`` names one that does not run here.
    """
    here = VARIANTS.get(torch.backends.cpu.get_cpu_capability(), ("baseline",))
    chosen = os.environ.get(SWITCH, "")
    if chosen not in ("", "none", *here):
        raise ValueError("must be one of " + ", ".join([*here, "none"]))
    return here if not chosen else () if chosen == "none" else (chosen,)


@cache
def _found() -> tuple[str, ctypes.CDLL] | None:
    for name in allowed():
        for path in sorted(Path(__file__).parent.glob(f"engine_{name}.*")):
            try:
                found = ctypes.CDLL(str(path))
                if found.dd_sources() == sources():
                    return name, found
            except (OSError, AttributeError):  # made for another system, or long ago
                continue
    return None


def sources() -> int:
    """Checksum of ``src``, which a library carries: one of other sources may not be called."""
    files = sorted((Path(__file__).parent / "src").glob("*.[ch]"))
    return zlib.crc32(b"".join(path.read_bytes().replace(b"\r\n", b"\n") for path in files)) & 0x7FFFFFFF


def library() -> ctypes.CDLL | None:
    """The engine for this processor; None where none was compiled."""
    found = _found()
    return found[1] if found else None


def compiles() -> str:
    """What makes a library for this machine, in words."""
    if (Path(__file__).parents[2] / "hatch_build.py").is_file():
        return "make engine compiles one"
    return "pip install --force-reinstall --no-deps --no-binary dd-lab dd-lab compiles one"


def variant() -> str | None:
    """Instruction set of :func:`library`."""
    found = _found()
    return found[0] if found else None
