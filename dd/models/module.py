"""A user's own network: any ``torch.nn.Module`` that a function of the width makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dd.components.blueprint import Blueprint, rows_of, seeded
from dd.components.model import scale_of
from dd.components.module import ModuleModel
from dd.errors import ConfigError, DDError, in_one_line
from dd.models._factory import FORM, Factory, factory
from dd.runs.axis import Scope, Value, axis
from dd.runs.run import OriginOf, Run

ITSELF = "."
"""What ``readout`` calls a network that is one linear layer."""


class ReadoutTakenOut(nn.Identity):
    """Where the read-out was; its name tells what is wrong where a network uses more of it than its outputs."""


@dataclass(frozen=True)
class Module(ModuleModel):
    """The network of ``model.path``: its last linear layer is the read-out, what comes before makes the features."""

    default_init = "own"

    path: str | None = axis(None, "FILE.py:FUNCTION, a function of (width, inputs, outputs)", scope=Scope.WHERE)
    readout: str = axis("auto", "name of the linear layer whose outputs are the network's; auto: the last one")
    source: str | None = axis(None, "sha256 of the function and its file, found by dd; if given, they must have it")
    bias: bool = axis(True, "whether the read-out has biases, found by dd")

    @property
    def factory(self) -> Factory:
        """The function.

        Raises:
            ConfigError: it is absent, or another than the run is for.
        """
        try:
            return _factory_of(self.path, self.source) if self.source else _found(self.path)
        except ValueError as error:
            raise ConfigError("model.path", self.path, str(error)) from error

    @property
    def takes_images(self) -> bool:
        """Whether the function asks for ``image``."""
        return self.factory.images

    @property
    def culprit(self) -> tuple[str, Value]:
        """See :attr:`ModuleModel.culprit`."""
        return "model.path", self.path

    def settle(self, run: Run, origin: OriginOf) -> Run:
        """Source and read-out, as they are found."""
        try:
            found = replace(self, source=self.factory.source)
        except ConfigError as error:
            raise ConfigError(error.key, error.value, error.allowed, origin(error.key)) from error
        settled = run.replace(model=found)
        if found.takes_images:
            self.image(run, origin)
        try:
            name, bias = readout_of(found.blueprint(settled))
        except ConfigError as error:
            raise ConfigError(error.key, error.value, error.allowed, origin(error.key)) from error
        except ValueError as error:
            key, value = self.culprit if self.readout == "auto" else ("model.readout", self.readout)
            raise ConfigError(key, value, str(error), origin(key)) from error
        return settled.replace(model=replace(found, readout=name, bias=bias))

    def network(self, run: Run) -> nn.Module:
        """The whole network, as the function makes it."""
        make = self.factory
        network = make(run.width, self.image(run) if make.images else run.data.input_count, run.outputs)
        if not isinstance(network, nn.Module):
            raise ConfigError(*self.culprit, f"returns {type(network).__name__}, not a torch.nn.Module")
        if any(is_lazy(parameter) for parameter in network.parameters()):
            with torch.no_grad():  # lazy layers learn their shapes from a first pass
                network.eval()(torch.zeros(2, *self.blueprint(run).sample))
        return network.train()

    def module(self, run: Run) -> nn.Module:
        """The network with its read-out taken out."""
        return taken_apart(self.network(run), self.readout)[0]

    def draw_own(self, run: Run, outputs: int) -> dict[str, NDArray[np.float64]]:
        """Parameters as the network starts them, its read-out's included, times ``init.scale``."""
        with seeded(self.start_seed(run)):
            rest, layer = taken_apart(self.network(run), self.readout)
        readout = rows_of(layer)
        weight = np.concatenate([readout["weight"], *([readout["bias"].T] if self.bias else [])], axis=1)
        drawn = rows_of(rest) | {"readout": weight}
        return {name: value * scale_of(run) for name, value in drawn.items()}


def _found(path: str | None) -> Factory:
    """The factory of a path."""
    if path is None:
        raise ValueError(f"must be FILE.py:FUNCTION, {FORM}")
    return factory(path)


@lru_cache(maxsize=64)
def _factory_of(path: str | None, source: str) -> Factory:
    """The factory of a path, if it still has the source that a run is for."""
    found = _found(path)
    if found.source != source:
        raise ValueError(f"its source has sha256 {found.source}, but this run is for {source}: start the sweep again")
    return found


def taken_apart(network: nn.Module, name: str) -> tuple[nn.Module, nn.Module]:
    """A network without its read-out, and the read-out."""
    if name == ITSELF:
        return nn.Identity(), network
    readout = network.get_submodule(name)
    network.set_submodule(name, ReadoutTakenOut())
    return network, readout


@lru_cache(maxsize=1024)
def readout_of(blueprint: Blueprint) -> tuple[str, bool]:
    """The read-out of a user's network, by a pass in evaluation.

    Returns:
        Its name, and whether it has biases.

    Raises:
        ValueError: the network's outputs are not those of a linear layer, or have another shape.
    """
    model = blueprint.model
    assert isinstance(model, Module)
    with seeded(0), _blaming(blueprint):
        network = model.network(blueprint.run).eval()
        x = torch.randn(3, *blueprint.sample)
    linear = {(name or ITSELF): part for name, part in network.named_modules() if isinstance(part, nn.Linear)}
    if model.readout not in ("auto", *linear):
        raise ValueError(f"is no linear layer of the network; it has {', '.join(linear) or 'none'}")
    seen: list[tuple[str, Tensor]] = []
    for name, part in linear.items():
        part.register_forward_hook(lambda _, given, __, name=name: seen.append((name, given[0])))
    with torch.no_grad(), _blaming(blueprint):
        outputs = network(x)
    with torch.no_grad():
        if not isinstance(outputs, Tensor) or outputs.shape != (3, blueprint.outputs):
            found = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
            raise ValueError(f"returns {found} for 3 samples, not [samples, outputs], here [3, {blueprint.outputs}]")
        name = model.readout if model.readout != "auto" else seen[-1][0] if seen else ""
        if not name:
            raise ValueError("has no torch.nn.Linear; its last layer must be one")
        features = [given for of, given in seen if of == name]
        part = linear[name]
        made = part(features[0]) if len(features) == 1 else None
        if made is None or made.shape != outputs.shape or not torch.allclose(made, outputs, atol=1e-6):
            raise ValueError(
                f"the outputs are not those of the linear layer {name}: end the network in one (the loss has its own "
                "softmax), or name another by model.readout"
            )
    others = [other for key, other in network.named_modules() if (key or ITSELF) != name]
    own = set(map(id, part.parameters()))
    if any(id(p) in own for other in others for p in other.parameters(recurse=False)):
        raise ValueError(f"the linear layer {name} shares its weights with another layer; the read-out needs its own")
    return name, part.bias is not None


@contextmanager
def _blaming(blueprint: Blueprint) -> Iterator[None]:
    """Turn what a user's code raises into one line.

    Raises:
        ValueError: with the error and its place.
    """
    try:
        yield
    except DDError:
        raise
    except Exception as error:  # it may raise anything
        text = f"fails for samples of {' x '.join(map(str, blueprint.sample))}: {in_one_line(error)}"
        if "conv" in text and blueprint.image and not blueprint.model.takes_images:
            text += "; make(width, image, outputs) gets images"
        raise ValueError(text) from error
