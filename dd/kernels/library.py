"""Finding and loading the compiled engine."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch

VARIANTS = {"AVX512": ("avx512", "avx2", "baseline"), "AVX2": ("avx2", "baseline")}
"""PyTorch's name of the processor's instruction set -> libraries that run there, best first."""


@cache
def _found() -> tuple[str, ctypes.CDLL] | None:
    for name in VARIANTS.get(torch.backends.cpu.get_cpu_capability(), ("baseline",)):
        for path in sorted(Path(__file__).parent.glob(f"engine_{name}.*")):
            try:
                return name, ctypes.CDLL(str(path))
            except OSError:  # made for another system
                continue
    return None


def library() -> ctypes.CDLL | None:
    """The engine for this processor; None where none was compiled."""
    found = _found()
    return found[1] if found else None


def variant() -> str | None:
    """Instruction set of :func:`library`."""
    found = _found()
    return found[0] if found else None
