"""Which stacks the compiled path takes, decided by the run's own axes alone."""

from __future__ import annotations

from dd.config import RunConfig

LARGEST = 2_300_000
"""Batch · inputs · width up to which compiled loops beat a vendor's matrix products (docs/benchmarks.md)."""

RULES = ("sgd", "gd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad")
"""Update rules of :mod:`dd.kernels.rules`, named here so that other runs need not load the compiler."""


def suits(run: RunConfig, inputs: int, device: str) -> bool:
    """Whether a run is trained by compiled code: two-layer nets without normalisation, on a CPU, up to ``LARGEST``."""
    return (
        device == "cpu"
        and run.model == "two_layer"
        and run.normalization == "none"
        and run.optimizer in RULES
        and run.batch_size is not None
        and run.batch_size * inputs * run.width <= LARGEST
    )
