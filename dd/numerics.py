"""The state of PyTorch and NumPy in which dd computes, whatever the caller has switched on."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

USUAL: Any = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
"""What NumPy does about floating-point errors unless told otherwise."""

_switches_of_torch = threading.RLock()
"""PyTorch's switches belong to the whole process: two threads may not turn them against each other."""


@contextmanager
def neutral() -> Iterator[None]:
    """Undo what a caller may have switched on for its own computations and what would change numbers here.

    Inference mode, gradients off, automatic mixed precision, default type and device of new tensors; in NumPy,
    floating-point errors that raise.
    """
    kind = torch.get_default_dtype()
    # leaving inference mode resets more of PyTorch's state than the mode, so nobody leaves it who is not in it
    contexts: list[Any] = [torch.inference_mode(False)] if torch.is_inference_mode_enabled() else []
    contexts += [torch.enable_grad(), np.errstate(**USUAL)]
    contexts += [torch.autocast(name, enabled=False) for name in ("cpu", "cuda") if torch.is_autocast_enabled(name)]
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(kind)


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Fix what changes bits behind one's back, and put it back afterwards.

    One thread (results of a matrix product depend on the thread count), denormals flushed (dead units' momentum
    would double the cost of a long run), no TF32, :func:`neutral`; on a GPU deterministic kernels, chosen without
    timing them (on a CPU all that are used are, and asking for them costs a second of imports). Deterministic kernels
    would have fresh memory filled at every allocation, against those who read it: nothing here does. A second thread
    waits.
    """
    with _switches_of_torch, neutral(), _switches(device):
        yield


@contextmanager
def _switches(device: torch.device) -> Iterator[None]:
    """The switches of :func:`reproducible`."""
    threads = torch.get_num_threads()
    precision = torch.get_float32_matmul_precision()
    flushed = bool(torch.tensor(1e-39) * 1.0 == 0)  # torch tells in no other way
    deterministic = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic  # a module whose class has the switch
    fills, timed = memory.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.set_float32_matmul_precision("highest")
    if device.type != "cpu":
        torch.use_deterministic_algorithms(True)
        memory.fill_uninitialized_memory = False
        torch.backends.cudnn.benchmark = False
    convolutions = torch.backends.cudnn.allow_tf32  # a switch of their own
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = convolutions
        if device.type != "cpu":
            torch.use_deterministic_algorithms(deterministic)
            memory.fill_uninitialized_memory = fills
            torch.backends.cudnn.benchmark = timed


def all_finite(x: torch.Tensor) -> bool:
    """Whether all entries are finite; by their sum, a tenth of the time, unless huge entries overflow it."""
    return math.isfinite(float(x.sum())) or bool(torch.isfinite(x).all())
