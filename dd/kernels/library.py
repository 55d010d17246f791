"""Finding and loading the compiled engine."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch

VARIANTS = {"AVX512": ("avx512", "avx2", "baseline"), "AVX2": ("avx2", "baseline")}
"""PyTorch's name of the processor's instruction set -> libraries that run there, best first."""


@cache
def library() -> ctypes.CDLL | None:
    """The engine for this processor; None where none was compiled."""
    for name in VARIANTS.get(torch.backends.cpu.get_cpu_capability(), ("baseline",)):
        for path in Path(__file__).parent.glob(f"engine_{name}.*"):
            try:
                return ctypes.CDLL(str(path))
            except OSError:  # made for another system
                continue
    return None
