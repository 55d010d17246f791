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


def gpu_count(settings: Settings) -> int:
    """GPUs that runs are solved on; 0 where that is a CPU."""
    return 0 if device_of(settings).type == "cpu" else torch.cuda.device_count()


def limits_of(settings: Settings) -> Limits:
    """How large packs may be on the device.

    On GPUs: at most half of the memory that is free on the fullest, a share for each process on one GPU.
    """
    gpus = gpu_count(settings)
    if not gpus:
        return ON_CPU
    processes = gpus if settings.n_jobs == "auto" else int(settings.n_jobs)
    free = min(map(_free_bytes, range(gpus)))
    return replace(ON_GPU, bytes=min(ON_GPU.bytes, free // (2 * -(-processes // gpus))))


def _free_bytes(gpu: int) -> int:
    """Memory of a GPU that is free, or that torch keeps for what comes next."""
    free, _ = torch.cuda.mem_get_info(gpu)
    return free + torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)


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
