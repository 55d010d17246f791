"""Steps on a GPU as CUDA graphs: recorded once, then launched whole; ``DD_CUDA_GRAPHS=0`` does without.

A step of narrow networks is some dozens of launches of a few microseconds each; one by one from Python they
keep the device waiting. A graph launches all of them with one call. It is recorded after some ordinary steps, if enough
are left to repay it, and taken only if at the next step it gives the numbers of the ordinary step.
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
"""Ordinary steps on batches of one shape before it is recorded: libraries are loaded, and what is decided once is
decided. Twice as many each time that runs have left."""

WORTH = 100
"""Steps on batches of one shape that must be left, about, for it to be recorded; an estimate."""

Step = Callable[..., None]
"""Takes a step's number, from 1, and a batch's tensors."""

Batch = tuple[Tensor, ...]


class Replay:
    """Steps of one trainer; ordinary ones on a CPU, and where ``DD_CUDA_GRAPHS`` in the environment is 0.

    Args:
        budget: steps in all.
        device: where they are taken.
        plain: whether no step is recorded: what it does is decided by the host.
    """

    def __init__(self, budget: int, device: torch.device, *, plain: bool = False) -> None:
        self._budget, self._warm = budget, WARM
        self._records = not plain and device.type == "cuda" and os.environ.get("DD_CUDA_GRAPHS") != "0"
        self._graphs: dict[object, _Graph] = {}
        self._seen: Counter[object] = Counter()
        # a graph cannot count: a number from the host would be that of the recording for ever
        self._number = torch.zeros((), dtype=torch.float64, device=device)

    def forget(self) -> None:
        """Drop what is recorded: the trainer's tensors are others from now on."""
        self._graphs.clear()
        self._seen.clear()
        self._warm *= 2

    def run(self, step: Step, changed: Callable[[], Sequence[Tensor]], first: int, batches: Iterable[Batch]) -> None:
        """Take steps ``first`` + 1, ... on some batches.

        Args:
            step: an ordinary step, all of whose work is on the device and follows from tensors there.
            changed: the tensors that a step changes, in place; the same ones till :meth:`forget`.
            first: steps taken.
            batches: one a step.
        """
        if not self._records:
            for number, batch in enumerate(batches, start=first + 1):
                step(number, *batch)
            return

        def counted(*batch: Tensor) -> None:
            step(self._number.add_(1), *batch)

        self._number.fill_(first)
        for done, batch in enumerate(batches, start=first):
            shape = tuple(tensor.shape for tensor in batch)
            graph = self._graphs.get(shape)
            if graph is None:
                if self._is_due(shape, self._budget - done):
                    self._record(shape, counted, batch)
                counted(*batch)
            elif graph.checked:
                graph.replay(batch)
            else:
                self._check(graph, counted, [*changed(), self._number], batch)
            self._seen[shape] += 1

    def _is_due(self, shape: object, left: int) -> bool:
        """Whether it is time to record steps on batches of a shape, ``left`` steps on any before the end."""
        seen = self._seen[shape]
        return self._records and seen >= self._warm and left * seen / self._seen.total() >= WORTH

    def _record(self, shape: object, step: Step, batch: Batch) -> None:
        """Record a step without taking it; if that fails, no other is recorded."""
        stream = torch.cuda.current_stream()
        try:
            self._graphs[shape] = _Graph(step, batch)
        except RuntimeError as error:
            self._give_up(
                f"steps cannot be recorded as a CUDA graph: {str(error.__context__ or error).splitlines()[0]}"
            )
        finally:
            torch.cuda.set_stream(stream)  # after an error torch stays on the one that it records on

    def _check(self, graph: _Graph, step: Step, changed: Sequence[Tensor], batch: Batch) -> None:
        """Take an ordinary step, and compare a replayed one, which has another number and batch than the recorded."""
        before = [tensor.clone() for tensor in changed]
        graph.replay(batch)
        replayed = [tensor.clone() for tensor in changed]
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)
        step(*batch)
        pairs = zip(changed, replayed, strict=True)
        graph.checked = all(torch.allclose(a, b, rtol=0, atol=0, equal_nan=True) for a, b in pairs)
        if not graph.checked:
            self._give_up("a CUDA graph of a step gives other numbers than the step")

    def _give_up(self, reason: str) -> None:
        self._graphs.clear()
        self._records = False
        warnings.warn(f"{reason}; steps are launched one by one", RuntimeWarning, stacklevel=4)


class _Graph:
    """A recorded step.

    Args:
        step: what is recorded.
        batch: its batch.

    Attributes:
        checked: whether a replay was seen to give what the step gives.
    """

    def __init__(self, step: Step, batch: Batch) -> None:
        self.checked = False
        self._given, self._batch = batch, tuple(tensor.clone() for tensor in batch)
        self._graph: Any = torch.cuda.CUDAGraph()
        # what other threads of the process do is not ours
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            step(*self._batch)

    def replay(self, batch: Batch) -> None:
        """Take the step on a batch of the same shape."""
        for own, given, last in zip(self._batch, batch, self._given, strict=True):
            if given is not last:
                own.copy_(given)
        self._given = batch
        self._graph.replay()
