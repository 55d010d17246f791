"""Families of networks that are any torch module of the width, behind the common read-out.

A subclass says which module a width stands for; the rest follows from the module: names and shapes, initial weights,
stacks of runs (``torch.func.vmap``), running statistics, counts for plans.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dd.components.dataset import Dataset
from dd.components.model import Model, Tensors, initialization, scale_of, scheme_of
from dd.components.normalization import Normalization
from dd.errors import ConfigError
from dd.runs import registry
from dd.runs.run import OriginOf, Run
from dd.streams import stream

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
STATISTICS = ("running_mean", "running_var")
WIDEST = 2**20
"""Where the search for the interpolation width ends."""


class CompiledNetwork(Protocol):
    """One architecture in compiled code; tensors of one run, contiguous, on the CPU."""

    def gradient(
        self, theta: Tensor, buffers: Tensors, inputs: Tensor, targets: Tensor, out: Tensor, *, loss: str
    ) -> None:
        """Gradient of the training loss on a batch, with batch statistics; running ones move in place.

        Args:
            theta: parameters, [parameters].
            buffers: running statistics by name, each [1, 1, features]; none are kept where empty.
            inputs: prepared inputs, [samples, columns].
            targets: [samples, outputs].
            out: the gradient, [parameters].
            loss: ``mse`` or ``cross_entropy``.
        """

    def features(self, theta: Tensor, buffers: Tensors, inputs: Tensor, *, training: bool) -> Tensor:
        """Features of inputs, [samples, features]; with ``training`` by the statistics of all of them."""


@dataclass(frozen=True)
class ModuleModel(Model):
    """Base of the families that are a torch module of the width; normalisation, if any, acts inside the module.

    Initial weights: linear layers by the run's scheme times ``init.scale``; convolutions by torch's law, U(-a, a) with
    a = 1/sqrt(fan_in), biases too; gains of norms 1, their biases 0; other parameters as the module itself starts them,
    torch's generator seeded by the run. Running statistics start at mean 0 and variance 1. Other buffers are constants,
    and all runs of an architecture share them.

    Attributes:
        images: whether the module takes [samples, channels, height, width] in place of [samples, columns].
        normalizations: names of what ``normalization`` may be; the module makes of it what it likes.
        norms: classes of layers, beside PyTorch's, whose ``weight`` is a gain and whose ``bias`` is a shift.
    """

    frozen_features = False
    deep = True
    images: ClassVar[bool] = False
    normalizations: ClassVar[tuple[str, ...]] = ("none",)
    norms: ClassVar[tuple[type[nn.Module], ...]] = ()

    @abstractmethod
    def module(self, run: Run) -> nn.Module:
        """Make the network that turns inputs into the features that the read-out sees, [samples, features].

        It may depend on the family's options, the width, the data's shape and outputs, and the normalization alone.
        """

    def check(self, run: Run, origin: OriginOf) -> None:
        """Try the module on two samples, or on one if that is a batch, and refuse parts that could not be repeated."""
        self.check_normalization(run, origin)
        if self.images:
            self.image(run, origin)
        blueprint, batch = self._blueprint(run), run.batch_size or run.n_train
        samples = min(run.n_train % batch or batch, 2)
        try:
            for name, part in _empty(blueprint).named_modules():
                if fault := _fault(part):
                    raise ValueError(f"{name or 'the module'} {fault}")
            _sizes(blueprint, samples)
            if fault := _unrepeatable(blueprint, samples):
                raise ValueError(f"the module {fault}")
        except Exception as error:  # the module's own code may raise anything
            allowed = f"must take {samples} samples of {' x '.join(map(str, blueprint.sample))}: {error}"
            raise ConfigError("model", self.name, " ".join(allowed.split()), origin("model")) from error

    def check_normalization(self, run: Run, origin: OriginOf) -> None:
        """Refuse a normalization that the module makes nothing of."""
        if run.normalization.name not in self.normalizations:
            allowed = f"model={self.name} normalises inside or not at all: use {' or '.join(self.normalizations)}"
            raise ConfigError("normalization", run.normalization.name, allowed, origin("normalization"))

    def image(self, run: Run, origin: OriginOf = lambda key: "") -> tuple[int, int, int]:
        """Channels, height and width of the run's images.

        Raises:
            ConfigError: its data are no images.
        """
        if run.data.image is not None:
            return run.data.image
        sets = {name: registry.kind("data", name)() for name in registry.names("data")}
        names = ", ".join(name for name, data in sets.items() if isinstance(data, Dataset) and data.image)
        allowed = f"model={self.name} needs images: use one of {names}, or images of your own (docs/own.md)"
        raise ConfigError("data", run.data.name, allowed, origin("data") or origin("model"))

    def feature_count(self, run: Run) -> int:
        """See :meth:`Model.feature_count`."""
        return _sizes(self._blueprint(run), 2).features

    def parameter_count(self, run: Run) -> int:
        """Exact."""
        own = sum(parameter.numel() for parameter in _empty(self._blueprint(run)).parameters())
        return own + run.outputs * (self.feature_count(run) + 1)

    def multiply_adds(self, run: Run) -> float:
        """Of linear layers and convolutions, but at least one a parameter."""
        return max(_sizes(self._blueprint(run), 2).multiply_adds, float(self.parameter_count(run)))

    def activation_bytes(self, run: Run) -> float:
        """Twice what the layers return, float32: functions between them are not seen."""
        return 2 * 4.0 * _sizes(self._blueprint(run), 2).returned

    def map_bytes(self, run: Run) -> float:
        """Four times the largest tensor that a layer returns."""
        return 4 * 8.0 * _sizes(self._blueprint(run), 2).largest

    def interpolation_width(self, run: Run, inputs: int, outputs: int) -> float:
        """Width at which the trained parameters number samples times outputs; NaN where the search finds none."""
        try:
            return _width_of(replace(self._blueprint(run), width=0), run.n_train * outputs)
        except Exception:  # the module need not take every width
            return math.nan

    def build(self, run: Run, device: torch.device, dtype: torch.dtype) -> None:
        """Make what all forward passes on a device share: inside a transform of ``torch.func`` it is too late."""
        own = torch.empty(0, device=device).device  # cuda is cuda:0
        shared_module(self._blueprint(run), own, dtype)

    def buffers(self, run: Run) -> Tensors:
        """Running statistics at the start by name, each [1, 1, features], float64."""
        return {
            name: torch.full((1, 1, buffer.numel()), float(name.endswith("running_var")), dtype=torch.float64)
            for name, buffer in _empty(self._blueprint(run)).named_buffers()
            if name.endswith(STATISTICS)
        }

    def batch_dependent(self, run: Run) -> bool:
        """Whether the module has running statistics."""
        return bool(self.buffers(run))

    def draw(self, run: Run, inputs: int, outputs: int) -> dict[str, NDArray[np.float64]]:
        """Weights of the module by name, then the read-out; vectors are [1, size]."""
        module = _empty(self._blueprint(run))
        laws = {True: (initialization(run, self.default_init), scale_of(run)), False: (scheme_of("torch"), 1.0)}
        drawn: dict[str, NDArray[np.float64]] = {}
        start: Tensors = {}
        for key, parameter in module.named_parameters():
            path, _, name = key.rpartition(".")
            part, shape = module.get_submodule(path), parameter.shape
            own = dict(part.named_parameters(recurse=False)) if isinstance(part, (nn.Linear, *CONVOLUTIONS)) else {}
            if "weight" in own and name in ("weight", "bias"):
                law, scale = laws[isinstance(part, nn.Linear)]
                fan_in = math.prod(own["weight"].shape[1:])
                if name == "weight":
                    value = law.weight(stream(run.seed, f"init.{path}"), shape[0], fan_in, fan_in, shape[0]) * scale
                else:
                    value = law.bias(stream(run.seed, f"init.{path}.bias"), shape[0], fan_in)[None] * scale
            elif isinstance(part, (*NORMS, *BATCH_NORMS, *self.norms)):
                value = np.full((1, parameter.numel()), float(name == "weight"))
            else:
                start = start or self._own_start(run)
                value = start[key].double().numpy().reshape(shape[0] if len(shape) > 1 else 1, -1)
            drawn[key] = np.ascontiguousarray(value)
        return drawn | {"readout": self.draw_readout(run, self.feature_count(run), outputs)}

    def _own_start(self, run: Run) -> Tensors:
        """Parameters as the module starts them by itself."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(stream(run.seed, "init.module").integers(2**63)))
            return {name: parameter.detach() for name, parameter in self.module(run).named_parameters()}

    def split(self, run: Run, named: Mapping[str, Tensor]) -> list[Tensor]:
        """Linear layers and dense convolutions are matrices; depthwise kernels, biases and gains are vectors."""
        depthwise = _depthwise(self._blueprint(run))
        out: list[Tensor] = []
        for name, view in named.items():
            if name == "readout":
                out += [view[:, :, :-1], view[:, :, -1]]
            else:
                out.append(view.flatten(1) if name in depthwise or view.shape[1] == 1 else view)
        return out

    def has_compiled(self, run: Run) -> bool:
        """Whether :meth:`compiled` has code for the run on this machine."""
        return False

    def compiled(self, run: Run, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> CompiledNetwork | None:
        """The run's network in compiled code for the CPU; None where there is none.

        Args:
            run: any run of the stack.
            shapes: shapes of the trained tensors in the order in which they lie in a row of parameters.
            dtype: of parameters and inputs.
        """
        return None

    def features(self, run: Run, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """See :meth:`Model.features`: by the statistics of ``x``."""
        return self.normalised_features(run, trained, x, {}, training=True)

    def normalised_features(
        self,
        run: Run,
        trained: Mapping[str, Tensor],
        x: Tensor,
        buffers: Mapping[str, Tensor],
        *,
        training: bool,
    ) -> Tensor:
        """Features that the read-out sees, differentiable; a stack is one call under ``torch.func.vmap``.

        Args:
            run: any run of the stack.
            trained: trained tensors, each [runs, rows, columns].
            x: prepared inputs, [1 or runs, samples, columns].
            buffers: running statistics, each [runs, 1, features]; moved in place where ``training``, but none are
                kept where empty.
            training: whether statistics are those of the batch.

        Returns:
            [runs, samples, features].
        """
        blueprint = self._blueprint(run)
        module = shared_module(blueprint, x.device, x.dtype).train(training)
        for part in module.modules():
            if "track_running_stats" in vars(part) and part.running_mean is not None:
                vars(part)["track_running_stats"] = bool(buffers)
        shapes = _shapes(blueprint)
        parameters = {k: v.view(len(v), *shapes[k]) for k, v in trained.items() if k in shapes}
        memory = {k: v[:, 0] for k, v in buffers.items()}
        samples = x.view(*x.shape[:2], *blueprint.sample)

        def one(own: Tensors, statistics: Tensors, sample: Tensor) -> Tensor:
            features: Tensor = torch.func.functional_call(module, (own, statistics), (sample,))
            return features

        runs = len(trained["readout"])
        if runs == 1 and len(samples) == 1:
            own, statistics = ({k: v[0] for k, v in each.items()} for each in (parameters, memory))
            return one(own, statistics, samples[0])[None]
        shared = len(samples) == 1
        return torch.func.vmap(one, in_dims=(0, 0, None if shared else 0))(
            parameters, memory, samples[0] if shared else samples
        )

    def statistics(self, run: Run, trained: Mapping[str, Tensor], x: Tensor) -> Tensors:
        """Running statistics of a network whose batch is ``x`` for ever: means and (unbiased) variances.

        Args:
            run: any run of the stack.
            trained: trained tensors, each [runs, rows, columns].
            x: prepared inputs, [1 or runs, samples, columns].

        Returns:
            By name, each [runs, 1, features]; none without batch statistics.
        """
        module, runs = _empty(self._blueprint(run)), len(trained["readout"])
        # from zero, one pass leaves momentum times the statistics
        found = {k: x.new_zeros(runs, 1, v.shape[2]) for k, v in self.buffers(run).items()}
        if found:
            with torch.no_grad():
                self.normalised_features(run, trained, x, found, training=True)
        return {k: v / vars(module.get_submodule(k.rpartition(".")[0]))["momentum"] for k, v in found.items()}

    def _blueprint(self, run: Run) -> Blueprint:
        data = run.data
        return Blueprint(self, run.width, data.input_count, data.image, run.outputs, run.normalization, run)


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
        return self.model.image(self.run) if self.model.images else (self.inputs,)


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
    return blueprint.model.module(blueprint.run).to(device, dtype).requires_grad_(False)


@lru_cache(maxsize=256)
def _empty(blueprint: Blueprint) -> nn.Module:
    """The module without storage, for names and shapes."""
    with torch.device("meta"):
        return blueprint.model.module(blueprint.run)


@lru_cache(maxsize=256)
def _shapes(blueprint: Blueprint) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in _empty(blueprint).named_parameters()}


@lru_cache(maxsize=256)
def _depthwise(blueprint: Blueprint) -> frozenset[str]:
    """Names of the weights of grouped convolutions."""
    parts = _empty(blueprint).named_modules()
    return frozenset(f"{name}.weight" for name, part in parts if isinstance(part, CONVOLUTIONS) and part.groups > 1)


@lru_cache(maxsize=256)
def _sizes(blueprint: Blueprint, samples: int) -> Sizes:
    """Sizes by a pass in training without storage.

    Raises:
        ValueError: the module returns anything but [samples, features].
    """
    counts, sizes = [0.0], [0.0]

    def see(part: nn.Module, _: object, output: object) -> None:
        if not isinstance(output, Tensor):
            return
        sizes.append(output.numel() / samples)
        if isinstance(part, (nn.Linear, *CONVOLUTIONS)):
            counts.append(sizes[-1] * math.prod(part.weight.shape[1:]))

    with torch.device("meta"), torch.no_grad():
        module = blueprint.model.module(blueprint.run).train()
        for part in module.modules():
            if not any(part.children()):
                part.register_forward_hook(see)
        features = module(torch.empty(samples, *blueprint.sample))
    if features.ndim != 2 or len(features) != samples:
        raise ValueError(f"the module returns {list(features.shape)}, not [samples, features]")
    return Sizes(features.shape[1], sum(counts), sum(sizes), max(sizes))


@lru_cache(maxsize=256)
def _width_of(blueprint: Blueprint, parameters: int) -> float:
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
def _unrepeatable(blueprint: Blueprint, samples: int) -> str | None:
    """What two passes in training show that no other process could repeat, or that dd would train wrongly; or None."""

    def constants(module: nn.Module) -> Tensors:
        moving = (*STATISTICS, "num_batches_tracked")
        return {name: buffer.clone() for name, buffer in module.named_buffers() if not name.endswith(moving)}

    def same(a: Tensors, b: Tensors) -> bool:
        return all(torch.equal(a[name], b[name]) for name in a)

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        modules = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            modules.append(blueprint.model.module(blueprint.run).train())
        module, before = modules[0], constants(modules[0])
        x = torch.randn(samples, *blueprint.sample)
        first, second = module(x), module(x)
    if not same(before, constants(modules[1])):
        return "has buffers of random numbers: make them from a generator of its own with a fixed seed"
    if not same(before, constants(module)):
        return "changes its buffers in training; only running statistics of batch norm may change"
    if not torch.equal(first, second):
        return "draws random numbers in training"
    if not all(parameter.requires_grad for parameter in module.parameters()):
        return "has parameters without gradient: register what is not trained as a buffer"
    return None


def _fault(part: nn.Module) -> str | None:
    """Why no run could have a layer, or None."""
    if isinstance(part, DROPOUTS) and part.p > 0:
        return "draws random numbers in training"
    if isinstance(part, BATCH_NORMS) and (part.running_mean is None or part.momentum is None):
        return "needs running statistics with a momentum"
    return None
