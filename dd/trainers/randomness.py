"""Global random numbers for code of others that takes no generator."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from dd.streams import stream


class GlobalRandom:
    """Global random numbers of Python, NumPy and PyTorch for code that takes no generator, from a stream of their own.

    PyTorch's are those of the CPU and, where a process computes on one, of the current CUDA device.

    Args:
        seed: the run's seed.
        name: the stream.
    """

    def __init__(self, seed: int, name: str) -> None:
        first = int(stream(seed, name).integers(2**32))
        with self._kept():
            random.seed(first)
            np.random.seed(first)  # noqa: NPY002  # the global generator is the point
            torch.default_generator.manual_seed(first)  # torch.manual_seed would also seed devices that nobody restores
            if torch.cuda.is_initialized():
                torch.cuda.manual_seed(first)
            self._states = self._get()

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Draw from here, and go on where the last time ended; the process's own states are put back."""
        with self._kept():
            self._set(self._states)
            yield
            self._states = self._get()

    @classmethod
    @contextmanager
    def _kept(cls) -> Iterator[None]:
        before = cls._get()
        try:
            yield
        finally:
            cls._set(before)

    @staticmethod
    def _get() -> tuple[Any, Any, torch.Tensor, torch.Tensor | None]:
        device = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        return random.getstate(), np.random.get_state(), torch.get_rng_state(), device  # noqa: NPY002

    @staticmethod
    def _set(states: tuple[Any, Any, torch.Tensor, torch.Tensor | None]) -> None:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        if states[3] is not None:
            torch.cuda.set_rng_state(states[3])
