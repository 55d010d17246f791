"""Steps on a GPU as CUDA graphs: recorded once, then launched whole.

A step of narrow networks is some dozens of kernels of a few microseconds each; launched one by one from Python they
keep the device waiting. A graph launches all of them with one call. It is recorded after some ordinary steps, if enough
are left to repay it, and taken only if it gives, bit for bit, what an ordinary step gives.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

WARM = 20
"""Ordinary steps on batches of one shape before it is recorded: libraries are loaded, what is decided once is decided,
and runs that leave early have mostly left."""

WORTH = 100
"""Steps that must be left for a graph to be recorded, which costs as much as some dozens of ordinary steps."""

Step = Callable[..., None]
"""Takes a step's number, from 1, and a batch's tensors. On a GPU the number is a tensor of no dimension, float64."""

Batch = tuple[Tensor, ...]


class Replay:
    """Steps of one trainer.

    Args:
        budget: steps in all.
        device: where they are taken; on a CPU every step is an ordinary one, and where the environment variable
            ``DD_CUDA_GRAPHS`` is 0.
    """

    def __init__(self, budget: int, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._budget = budget if os.environ.get("DD_CUDA_GRAPHS") != "0" else -1
        # a graph cannot count: a number from the host would be that of the recording for ever
        self._number = torch.zeros((), dtype=torch.float64, device=device)
        self.forget()

    def forget(self) -> None:
        """Drop what is recorded: the trainer's tensors are others from now on."""
        self._graphs: dict[object, _Graph | None] = {}
        self._seen: Counter[object] = Counter()

    def run(self, step: Step, changed: Callable[[], Sequence[Tensor]], first: int, batches: Iterable[Batch]) -> None:
        """Take steps ``first`` + 1, ... on some batches.

        Args:
            step: an ordinary step, all of whose work is on the device.
            changed: the tensors that a step changes, in place; the same ones till :meth:`forget`.
            first: steps taken.
            batches: one a step.
        """
        if not self._on_gpu:
            for number, batch in enumerate(batches, start=first + 1):
                step(number, *batch)
            return

        def counted(*batch: Tensor) -> None:
            step(self._number.add_(1), *batch)

        self._number.fill_(first)
        for done, batch in enumerate(batches, start=first):
            shape = tuple(tensor.shape for tensor in batch)
            graph = self._graphs.get(shape)
            if graph is not None:
                graph.replay(batch)
                continue
            if shape not in self._graphs and self._seen[shape] >= WARM and self._budget - done >= WORTH:
                self._graphs[shape] = _recorded(counted, [*changed(), self._number], batch)
            else:
                counted(*batch)
                self._seen[shape] += 1


class _Graph:
    """A recorded step.

    Args:
        step: what is recorded.
        batch: its batch.
    """

    def __init__(self, step: Step, batch: Batch) -> None:
        self._given, self._batch = batch, tuple(tensor.clone() for tensor in batch)
        self._graph: Any = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            step(*self._batch)

    def replay(self, batch: Batch) -> None:
        """Take the step on a batch of the same shape."""
        for own, given, last in zip(self._batch, batch, self._given, strict=True):
            if given is not last:
                own.copy_(given)
        self._given = batch
        self._graph.replay()


def _recorded(step: Step, changed: Sequence[Tensor], batch: Batch) -> _Graph | None:
    """Take an ordinary step and record it; None where it cannot be recorded, or does something else when replayed."""
    stream = torch.cuda.current_stream()
    try:
        graph = _Graph(step, batch)
    except RuntimeError as error:  # recording has changed nothing, but torch then stays on the stream it records on
        torch.cuda.set_stream(stream)
        reason = str(error).splitlines()[0]
        warnings.warn(f"steps are launched one by one, not as a CUDA graph: {reason}", RuntimeWarning, stacklevel=2)
        step(*batch)
        return None
    before = [tensor.clone() for tensor in changed]
    graph.replay(batch)
    replayed = [tensor.clone() for tensor in changed]
    for tensor, value in zip(changed, before, strict=True):
        tensor.copy_(value)
    step(*batch)
    pairs = zip(changed, replayed, strict=True)
    if all(torch.allclose(a, b, rtol=0, atol=0, equal_nan=True) for a, b in pairs):
        return graph
    message = "steps are launched one by one: a CUDA graph of them gives other numbers"
    warnings.warn(message, RuntimeWarning, stacklevel=2)
    return None
