"""Families of networks that are any torch module of the width, behind the common read-out.

A subclass says which module a width stands for; the rest follows from the module: names and shapes, initial weights,
stacks of runs (``torch.func.vmap``), running statistics, counts for plans.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from dd.components.blueprint import (
    BATCH_NORMS,
    CONVOLUTIONS,
    STATISTICS,
    Blueprint,
    depthwise,
    draws,
    empty,
    rows_of,
    shapes,
    shared_module,
    sizes,
    started,
    track_statistics,
    unrepeatable,
    vectorizes,
    width_of,
)
from dd.components.dataset import Dataset
from dd.components.divisors import Divisors
from dd.components.initialization import OwnStart
from dd.components.model import Model, Tensors, initialization, scale_of, scheme_of
from dd.components.normalization import AffineNormalization
from dd.errors import ConfigError, in_one_line
from dd.runs import registry
from dd.runs.axis import Value
from dd.runs.run import OriginOf, Run
from dd.streams import stream

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


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

    Initial weights: :attr:`layers` by the run's scheme times ``init.scale``, other linear layers and convolutions by
    torch's law, U(-a, a) with a = 1/sqrt(fan_in), biases too; gains of norms 1, their biases 0; other parameters as
    the module itself starts them, torch's generator seeded by the run. With ``init=own`` all parameters start so.
    Running statistics start at mean 0 and variance 1. Other buffers are constants, and all runs of an architecture
    share them.

    Attributes:
        images: whether the module takes [samples, channels, height, width] in place of [samples, columns].
        layers: classes of layers that the run's initialization draws.
        normalizations: names of what ``normalization`` may be; the module makes of it what it likes.
        norms: classes of layers, beside PyTorch's, whose ``weight`` is a gain and whose ``bias`` is a shift. Those with
            ``running_var`` divide by the root of ``running_var + eps`` in evaluation.
    """

    frozen_features = False
    deep = True
    images: ClassVar[bool] = False
    layers: ClassVar[tuple[type[nn.Module], ...]] = (nn.Linear, *CONVOLUTIONS)
    normalizations: ClassVar[tuple[str, ...]] = ("none",)
    norms: ClassVar[tuple[type[nn.Module], ...]] = ()

    @property
    def takes_images(self) -> bool:
        """As :attr:`images`."""
        return self.images

    @property
    def culprit(self) -> tuple[str, Value]:
        """Key and value that an error of the module names."""
        return "model", self.name

    @abstractmethod
    def module(self, run: Run) -> nn.Module:
        """Make the network that turns inputs into the features that the read-out sees, [samples, features].

        It may depend on the family's options, the width, the data's shape and outputs, and the normalization alone.
        """

    def check(self, run: Run, origin: OriginOf) -> None:
        """Try the module on two samples, or on one if that is a batch, and refuse parts that could not be repeated."""
        self.check_normalization(run, origin)
        if self.takes_images:
            self.image(run, origin)
        blueprint, batch = self.blueprint(run), run.batch_size or run.n_train
        samples = min(run.n_train % batch or batch, 2)
        key, value = self.culprit
        try:
            sizes(blueprint, samples)
            fault = unrepeatable(blueprint, samples)
        except Exception as error:  # the module's own code may raise anything
            shape = " x ".join(map(str, blueprint.sample))
            allowed = f"must take {samples} samples of {shape}: {in_one_line(error)}"
            raise ConfigError(key, value, allowed, origin(key)) from error
        if fault:
            raise ConfigError(key, value, f"the module {fault}", origin(key))

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
        return sizes(self.blueprint(run), 2).features

    def parameter_count(self, run: Run) -> int:
        """Exact."""
        own = sum(parameter.numel() for parameter in empty(self.blueprint(run)).parameters())
        return own + run.outputs * (self.feature_count(run) + int(self.has_bias))

    def parameter_shapes(self, run: Run) -> dict[str, torch.Size]:
        """Shapes of the module's parameters by name."""
        return shapes(self.blueprint(run))

    def multiply_adds(self, run: Run) -> float:
        """Of linear layers and convolutions, but at least one a parameter."""
        return max(sizes(self.blueprint(run), 2).multiply_adds, float(self.parameter_count(run)))

    def activation_bytes(self, run: Run) -> float:
        """Twice what the layers return, float32: functions between them are not seen."""
        return 2 * 4.0 * sizes(self.blueprint(run), 2).returned

    def map_bytes(self, run: Run) -> float:
        """Four times the largest tensor that a layer returns."""
        return 4 * 8.0 * sizes(self.blueprint(run), 2).largest

    def interpolation_width(self, run: Run, inputs: int, outputs: int) -> float:
        """Width at which the trained parameters number samples times outputs; NaN where the search finds none."""
        try:
            return width_of(replace(self.blueprint(run), width=0), run.n_train * outputs)
        except Exception:  # the module need not take every width
            return math.nan

    def build(self, run: Run, device: torch.device, dtype: torch.dtype) -> None:
        """Make what all forward passes on a device share: inside a transform of ``torch.func`` it is too late."""
        own = torch.empty(0, device=device).device  # cuda is cuda:0
        shared_module(self.blueprint(run), own, dtype)

    def buffers(self, run: Run) -> Tensors:
        """Running statistics at the start by name, each [1, 1, features], float64."""
        return {
            name: torch.full((1, 1, buffer.numel()), float(name.endswith("running_var")), dtype=torch.float64)
            for name, buffer in empty(self.blueprint(run)).named_buffers()
            if name.endswith(STATISTICS)
        }

    def batch_dependent(self, run: Run) -> bool:
        """Whether the module has running statistics."""
        return bool(self.buffers(run))

    def draws(self, run: Run) -> bool:
        """Whether a step of training draws random numbers, as dropout does."""
        return draws(self.blueprint(run))

    def vectorizes(self, run: Run) -> bool:
        """Whether ``torch.func.vmap`` takes the module, so that several networks can be one call."""
        return vectorizes(self.blueprint(run))

    def draw(self, run: Run, inputs: int, outputs: int) -> dict[str, NDArray[np.float64]]:
        """Weights of the module by name, then the read-out; vectors are [1, size]."""
        scheme, plain = initialization(run, self.default_init), scheme_of("torch")
        if isinstance(scheme, OwnStart):
            return self.draw_own(run, outputs)
        module = empty(self.blueprint(run))
        drawn: dict[str, NDArray[np.float64]] = {}
        start: dict[str, NDArray[np.float64]] = {}
        for key, parameter in module.named_parameters():
            path, _, name = key.rpartition(".")
            part, shape = module.get_submodule(path), parameter.shape
            own = dict(part.named_parameters(recurse=False)) if isinstance(part, (nn.Linear, *CONVOLUTIONS)) else {}
            if "weight" in own and name in ("weight", "bias"):
                law, scale = (scheme, scale_of(run)) if isinstance(part, self.layers) else (plain, 1.0)
                fan_in = math.prod(own["weight"].shape[1:])
                if name == "weight":
                    value = law.weight(stream(run.seed, f"init.{path}"), shape[0], fan_in, fan_in, shape[0]) * scale
                else:
                    value = law.bias(stream(run.seed, f"init.{path}.bias"), shape[0], fan_in)[None] * scale
            elif isinstance(part, (*NORMS, *BATCH_NORMS, *self.norms)):
                value = np.full((1, parameter.numel()), float(name == "weight"))
            else:
                start = start or rows_of(started(self.blueprint(run), self.start_seed(run)))
                value = start[key]
            drawn[key] = np.ascontiguousarray(value)
        return drawn | {"readout": self.draw_readout(run, self.feature_count(run), outputs)}

    def draw_own(self, run: Run, outputs: int) -> dict[str, NDArray[np.float64]]:
        """:meth:`draw` as the module starts itself, times ``init.scale``; the read-out by torch's law."""
        scale = scale_of(run)
        own = {k: v * scale for k, v in rows_of(started(self.blueprint(run), self.start_seed(run))).items()}
        return own | {"readout": self.draw_readout(run, self.feature_count(run), outputs)}

    def start_seed(self, run: Run) -> int:
        """What torch's generator is seeded with where the module starts its own parameters."""
        return int(stream(run.seed, "init.module").integers(2**63))

    def split(self, run: Run, named: Mapping[str, Tensor]) -> list[Tensor]:
        """Linear layers and dense convolutions are matrices; depthwise kernels, biases and gains are vectors."""
        grouped = depthwise(self.blueprint(run))
        out: list[Tensor] = []
        for name, view in named.items():
            if name == "readout":
                out += [view[:, :, :-1], view[:, :, -1]]
            else:
                out.append(view.flatten(1) if name in grouped or view.shape[1] == 1 else view)
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
        random: bool = False,
    ) -> Tensor:
        """Features that the read-out sees, differentiable; a stack is one call under ``torch.func.vmap``.

        Args:
            run: any run of the stack.
            trained: trained tensors, each [runs, rows, columns].
            x: prepared inputs, [1 or runs, samples, columns].
            buffers: running statistics, each [runs, 1, features]; moved in place where ``training``, but none are
                kept where empty.
            training: whether statistics are those of the batch.
            random: whether layers draw, as dropout does; only in training, and only in its steps.

        Returns:
            [runs, samples, features].
        """
        blueprint = self.blueprint(run)
        silent = training and not random and self.draws(run)
        # a function that draws (F.dropout) is silent in evaluation alone, which batch statistics do not allow
        module = shared_module(blueprint, x.device, x.dtype).train(
            training and (not silent or self.batch_dependent(run))
        )
        for part in module.modules() if silent else ():
            if isinstance(part, _DropoutNd):
                part.eval()
        track_statistics(module, bool(buffers))
        own_shapes = shapes(blueprint)
        parameters = {k: v.view(len(v), *own_shapes[k]) for k, v in trained.items() if k in own_shapes}
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
        module, runs = empty(self.blueprint(run)), len(trained["readout"])
        # from zero, one pass leaves momentum times the statistics
        found = {k: x.new_zeros(runs, 1, v.shape[2]) for k, v in self.buffers(run).items()}
        if found:
            with torch.no_grad():
                self.normalised_features(run, trained, x, found, training=True)
        return {k: v / vars(module.get_submodule(k.rpartition(".")[0]))["momentum"] for k, v in found.items()}

    def divisors(self, run: Run, buffers: Mapping[str, Tensor]) -> Divisors | None:
        """What batch norms divide their channels by in evaluation, of all layers.

        Args:
            run: any run of the stack.
            buffers: running statistics by name, each [runs, 1, features].

        Returns:
            [runs, 1, channels]; None without batch norms, or where a layer does what nobody has said.
        """
        module, variances, eps = empty(self.blueprint(run)), [], []
        for name, variance in buffers.items():
            path, _, kind = name.rpartition(".")
            if kind == "running_var":
                layer = module.get_submodule(path)
                if type(layer).forward is not nn.BatchNorm1d.forward and type(layer) not in self.norms:
                    return None
                variances.append(variance)
                eps.append(torch.full_like(variance, vars(layer)["eps"]))
        return Divisors(torch.cat(variances, dim=2), torch.cat(eps, dim=2)) if variances else None

    def blueprint(self, run: Run) -> Blueprint:
        """All that the run's module may depend on."""
        data = run.data
        return Blueprint(self, run.width, data.input_count, data.image, run.outputs, run.normalization, run)


def batch_normalised(run: Run, channels: int) -> nn.Module:
    """Batch norm of a map's channels with the options of ``normalization=batch_norm``; the identity for ``none``."""
    norm = run.normalization
    if not isinstance(norm, AffineNormalization):
        return nn.Identity()
    return nn.BatchNorm2d(channels, norm.eps, momentum=norm.memory, affine=norm.trains)
