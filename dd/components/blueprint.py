"""What dd learns of a torch module before any run is trained: names, shapes, counts, and whether it can be repeated."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dd.components.normalization import Normalization
from dd.runs.run import Run

if TYPE_CHECKING:
    from dd.components.module import ModuleModel

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
STATISTICS = ("running_mean", "running_var")
WIDEST = 2**20
"""Where the search for the interpolation width ends."""


@dataclass(frozen=True)
class Blueprint:
    """All that a module may depend on.

    Attributes:
        model: the family with its options.
        width: of the run.
        inputs: input dimension of the data.
        image: channels, height and width of the data's images, or None.
        outputs: of the data.
        normalization: of the run.
        run: any run of which this holds.
    """

    model: ModuleModel
    width: int
    inputs: int
    image: tuple[int, int, int] | None
    outputs: int
    normalization: Normalization
    run: Run = field(compare=False, repr=False)

    @property
    def sample(self) -> tuple[int, ...]:
        """Shape of one sample as the module takes it."""
        return self.model.image(self.run) if self.model.takes_images else (self.inputs,)


@dataclass(frozen=True)
class Sizes:
    """What a forward pass tells, for one sample.

    Attributes:
        features: that the read-out sees.
        multiply_adds: of linear layers and convolutions.
        returned: elements of all tensors that layers return.
        largest: elements of the largest of them.
    """

    features: int
    multiply_adds: float
    returned: float
    largest: float


@lru_cache(maxsize=64)
def shared_module(blueprint: Blueprint, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """The module that all forward passes on a device call; its own weights are never used."""
    return started(blueprint, 0).to(device, dtype).requires_grad_(False)


def started(blueprint: Blueprint, seed: int) -> nn.Module:
    """The module on the CPU as its own code starts it, torch's generator seeded."""
    with seeded(seed):
        return blueprint.model.module(blueprint.run)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's generator of the CPU at a seed; afterwards it is where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def track_statistics(module: nn.Module, wanted: bool) -> None:
    """Whether batch norms move and use their running statistics; else those of the batch serve, and nothing moves."""
    for part in module.modules():
        if "track_running_stats" in vars(part) and part.running_mean is not None:
            vars(part)["track_running_stats"] = wanted


@lru_cache(maxsize=1024)
def empty(blueprint: Blueprint) -> nn.Module:
    """The module for names and shapes: without storage, unless its code looks at values."""
    try:
        with torch.device("meta"):
            return blueprint.model.module(blueprint.run)
    except Exception:  # a module's code may do anything with values that are not there
        return started(blueprint, 0)


@lru_cache(maxsize=1024)
def shapes(blueprint: Blueprint) -> dict[str, torch.Size]:
    """Shapes of the module's parameters by name."""
    return {name: parameter.shape for name, parameter in empty(blueprint).named_parameters()}


@lru_cache(maxsize=1024)
def depthwise(blueprint: Blueprint) -> frozenset[str]:
    """Names of the weights of grouped convolutions."""
    parts = empty(blueprint).named_modules()
    return frozenset(f"{name}.weight" for name, part in parts if isinstance(part, CONVOLUTIONS) and part.groups > 1)


@lru_cache(maxsize=1024)
def sizes(blueprint: Blueprint, samples: int) -> Sizes:
    """Sizes by a pass in training, without storage where the module's code allows that.

    Raises:
        ValueError: the module returns anything but [samples, features].
    """
    try:
        with torch.device("meta"):
            return _sizes(blueprint, samples)
    except Exception:  # without values, or for good: the second time tells
        with seeded(0):
            return _sizes(blueprint, samples)


def _sizes(blueprint: Blueprint, samples: int) -> Sizes:
    counts, returned = [0.0], [0.0]

    def see(part: nn.Module, _: object, output: object) -> None:
        if not isinstance(output, Tensor):
            return
        returned.append(output.numel() / samples)
        if isinstance(part, (nn.Linear, *CONVOLUTIONS)):
            counts.append(returned[-1] * math.prod(part.weight.shape[1:]))

    with torch.no_grad():
        module = blueprint.model.module(blueprint.run).train()
        for part in module.modules():
            if not any(part.children()):
                part.register_forward_hook(see)
        features = module(torch.ones(samples, *blueprint.sample))
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != samples:
        found = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"the module returns {found}, not [samples, features]")
    return Sizes(features.shape[1], sum(counts), sum(returned), max(returned))


@lru_cache(maxsize=1024)
def width_of(blueprint: Blueprint, parameters: int) -> float:
    """Width at which the trained parameters have a number, linear between whole widths; NaN if there is none."""

    def count(width: int) -> int:
        return blueprint.model.parameter_count(blueprint.run.replace(width=width))

    low, high = 1, 2
    while count(high) < parameters:
        low, high = high, 2 * high
        if high > WIDEST:
            return math.nan
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < parameters else (low, middle)
    first, second = count(low), count(high)
    return max(low + (parameters - first) / max(second - first, 1), 0.0)


@lru_cache(maxsize=1024)
def draws(blueprint: Blueprint) -> bool:
    """Whether a pass in training draws from torch's generator, as dropout does."""
    module, x = started(blueprint, 0).train(), torch.ones(2, *blueprint.sample)
    with seeded(0), torch.no_grad():
        before = torch.get_rng_state()
        module(x)
        return not torch.equal(before, torch.get_rng_state())


@lru_cache(maxsize=1024)
def vectorizes(blueprint: Blueprint) -> bool:
    """Whether ``torch.func.vmap`` takes the module, so that runs can be stacked."""
    module = started(blueprint, 0).eval()
    stacked = {name: torch.stack([p.detach()] * 2) for name, p in module.named_parameters()}
    x = torch.ones(2, *blueprint.sample)
    try:
        with torch.no_grad():
            torch.func.vmap(lambda own: torch.func.functional_call(module, own, (x,)))(stacked)
    except Exception:  # whatever vmap refuses
        return False
    return True


@lru_cache(maxsize=1024)
def unrepeatable(blueprint: Blueprint, samples: int) -> str | None:
    """What no other process could repeat of a module, or what dd would train or measure wrongly; None if nothing."""
    for name, part in empty(blueprint).named_modules():
        if isinstance(part, BATCH_NORMS) and (part.running_mean is None or part.momentum is None):
            return f"{name or 'the module'} needs running statistics with a momentum"
    module, same_seed, other_seed = (started(blueprint, seed).train() for seed in (0, 0, 1))
    if not _same(dict(module.named_parameters()), dict(same_seed.named_parameters())):
        return "starts from random numbers that torch's seed does not decide: draw them by torch's global generator"
    if not all(parameter.requires_grad for parameter in module.parameters()):
        return "has parameters without gradient: register what is not trained as a buffer"
    before = _constants(module)
    if not _same(before, _constants(other_seed)):
        return "has buffers of random numbers: make them from a generator of its own with a fixed seed"
    with torch.no_grad():
        with seeded(0):
            x = torch.randn(max(samples, 2) + 1, *blueprint.sample)
        passes = []
        for _ in range(2):
            with seeded(1):
                passes.append(module(x[:samples]))
        if not _same(before, _constants(module)):
            return "changes its buffers in training; only running statistics of batch norm may change"
        if not torch.equal(*passes):
            return "draws random numbers that torch's seed does not decide"
        every, first = module.eval()(x), module(x[:1])
    if every.shape[1:] != first.shape[1:]:
        return f"returns {list(first.shape)} for one sample and {list(every.shape)} for {len(x)}: features change"
    if not torch.allclose(every[:1], first, rtol=1e-3, atol=1e-4, equal_nan=True):
        return "mixes samples: what it makes of one depends on the others, in evaluation too"
    return None


def _constants(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the buffers that no pass may change."""
    moving = (*STATISTICS, "num_batches_tracked")
    return {name: buffer.clone() for name, buffer in module.named_buffers() if not name.endswith(moving)}


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def rows_of(module: nn.Module) -> dict[str, NDArray[np.float64]]:
    """Parameters of a module by name, [rows, columns]; vectors are [1, size]."""
    return {
        name: p.detach().double().reshape(len(p) if p.ndim > 1 else 1, -1).numpy()
        for name, p in module.named_parameters()
    }
