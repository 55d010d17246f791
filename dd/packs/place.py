"""Where a sweep is computed, and how much fits there."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import torch

from dd.errors import ConfigError
from dd.kernels.library import SWITCH, library
from dd.measure.conditioning import Measure
from dd.runs.settings import Settings


@dataclass(frozen=True)
class Limits:
    """How large a pack may grow.

    Attributes:
        runs: runs at most.
        seconds: merged up to about this much work; smaller packs would make the table slow to read.
        bytes: memory at most; a run that needs more is a pack by itself.
    """

    runs: int
    seconds: float
    bytes: int


ON_CPU = Limits(256, 1.5, 1 << 30)
"""Several packs for each process, so that processes end together."""

ON_GPU = Limits(4096, 600.0, 16 << 30)
"""Few packs: a GPU wants many runs at once."""


@dataclass(frozen=True)
class Place:
    """Where packs are solved, and what is done there; a plan depends on it and on the runs alone.

    Attributes:
        limits: how large packs may grow.
        measure: what is measured; None for training alone.
        device: where.
        trainer: ``auto``, or the trainer that is asked for.
    """

    limits: Limits = ON_CPU
    measure: Measure | None = None
    device: torch.device = torch.device("cpu")
    trainer: str = "auto"


def place_of(settings: Settings) -> Place:
    """The place that the settings stand for."""
    return Place(limits_of(settings), measure_of(settings), device_of(settings), settings.trainer)


def device_of(settings: Settings) -> torch.device:
    """The device that ``device`` stands for."""
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def limits_of(settings: Settings) -> Limits:
    """How large packs may be on the device: on a GPU at most half of the memory that is free, a share a process."""
    device = device_of(settings)
    if device.type == "cpu":
        return ON_CPU
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch keeps it for the next
    processes = 1 if settings.n_jobs == "auto" else int(settings.n_jobs)
    return replace(ON_GPU, bytes=min(ON_GPU.bytes, free // (2 * processes)))


def measure_of(settings: Settings) -> Measure:
    """What ``measure`` and ``measure.memory`` ask for."""
    return Measure(settings.measure_name, int(settings.measure_memory * 1e9))


def check_device(settings: Settings) -> None:
    """Make sure that the device is there, and the build of the engine that the environment asks for.

    Raises:
        ConfigError: one is not.
    """
    try:
        library()
    except ValueError as error:
        raise ConfigError(SWITCH, os.environ[SWITCH], str(error), "the environment") from None
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device", "cuda", "this torch finds no CUDA device; use device=auto or device=cpu")
