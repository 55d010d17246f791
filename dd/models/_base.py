"""What a model family must offer.

A family maps inputs to *features*, the outputs of its last hidden layer. The read-out behind them is common to all:
outputs = [normalised features, 1] · readoutᵀ, the column of ones only where ``model.bias`` is true. Weights are stored
as torch's linear layers store them, [outputs of the layer, inputs of the layer (+ 1 for the bias)], which is also the
layout in which thin products are fast. Shapes carry a leading ``runs`` axis; a 1 there stands for a tensor that all
runs share.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dd import registry
from dd.axis import Axis
from dd.config import RunConfig
from dd.initializations._base import Initialization
from dd.registry import Component
from dd.streams import stream

BIAS = Axis("bias", bool, False, "add biases (for frozen features: a column of ones)")

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "erf": torch.erf,
}

Tensors = dict[str, Tensor]


def with_ones(x: Tensor) -> Tensor:
    """Append a column of ones: [..., features] -> [..., features + 1]."""
    return torch.cat([x, torch.ones_like(x[..., :1])], dim=-1)


def initialization(run: RunConfig, default: str) -> Initialization:
    """Return the run's initialization, ``default`` standing for the family's own."""
    name = default if run.init in (None, "default") else run.init
    scheme: Initialization = registry.get("init", str(name))
    return scheme


class Model(Component):
    """Base of the model families.

    Attributes:
        default_init: name of the scheme that ``init=default`` stands for.
        frozen_features: whether the features never change in training; they are then computed once.
        deep: whether the normalisation acts inside the family, on several layers (:meth:`normalised_features`), and
            Jacobians of the whole training set are out of reach.
    """

    default_init: ClassVar[str] = "fan_in"
    frozen_features: ClassVar[bool] = True
    deep: ClassVar[bool] = False

    def init(self, runs: Sequence[RunConfig], inputs: int, outputs: int) -> Tensors:
        """Draw the trained weights of a stack of runs of one width.

        Args:
            runs: runs that share the family, its options and the width.
            inputs: input dimension.
            outputs: outputs of the read-out.

        Returns:
            Trained tensors by name, each [runs, rows, columns], float64; the last one is ``readout``,
            [runs, outputs, features (+ 1 for the bias)].
        """
        drawn = [self._draw(run, inputs, outputs) for run in runs]
        return {k: torch.stack([torch.from_numpy(d[k]) for d in drawn]) for k in drawn[0]}

    def draw_frozen(self, run: RunConfig, inputs: int) -> dict[str, np.ndarray]:
        """Frozen weights of a run by name, float64; here none."""
        return {}

    def _draw(self, run: RunConfig, inputs: int, outputs: int) -> dict[str, np.ndarray]:
        """Trained weights of one run; here a read-out."""
        return {"readout": self._draw_readout(run, self.feature_count(run), outputs)}

    def _draw_readout(self, run: RunConfig, features: int, outputs: int) -> np.ndarray:
        """[outputs, features (+ 1)], times ``init.scale``."""
        scheme = initialization(run, self.default_init)
        weight = scheme.weight(stream(run.seed, "init.readout"), features, outputs, features, outputs).T
        if self.has_bias(run):
            bias = scheme.bias(stream(run.seed, "init.readout.bias"), outputs, features)
            weight = np.concatenate([weight, bias[:, None]], axis=1)
        return np.ascontiguousarray(weight) * (1.0 if run.init_scale is None else run.init_scale)

    def feature_count(self, run: RunConfig) -> int:
        """Number of features that the read-out sees, the column of ones not counted."""
        return run.width

    def prepare(self, run: RunConfig, x: Tensor) -> Tensor:
        """What :meth:`features` takes for inputs [samples, inputs], computed once: here [1, samples, inputs]."""
        return x[None]

    @abstractmethod
    def features(
        self, run: RunConfig, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor], x: Tensor
    ) -> Tensor:
        """Features of inputs.

        Args:
            run: any run of the stack (they share the options).
            frozen: tensors of :meth:`draw_frozen`.
            trained: trained tensors of :meth:`init`.
            x: prepared inputs, [1 or runs, samples, columns].

        Returns:
            [runs, samples, features]; frozen ones of a narrow run are, bit for bit, the first of a wide one's.
        """

    def backward(
        self,
        run: RunConfig,
        trained: Mapping[str, Tensor],
        x: Tensor,
        features: Tensor,
        grad: Tensor,
        out: Tensors,
    ) -> None:
        """Gradients of the trained tensors below the read-out, written into ``out``; frozen features have none.

        Args:
            run: any run of the stack.
            trained: trained tensors.
            x: the batch's prepared inputs, [1 or runs, samples, columns].
            features: :meth:`features` of ``x``, [runs, samples, features].
            grad: gradient of the loss in the features, [runs, samples, features].
            out: one tensor for each trained one, [runs, rows, columns].
        """

    def split(self, run: RunConfig, named: Mapping[str, Tensor]) -> list[Tensor]:
        """Weight matrices [runs, rows, columns] and vectors [runs, size] (biases, gain, shift) as views.

        Args:
            run: any run of the stack.
            named: trained tensors, or what else has their shapes.
        """
        out = []
        for name, view in named.items():
            if name in ("gain", "shift"):
                out.append(view[:, 0])
            elif self.has_bias(run):
                out += [view[:, :, :-1], view[:, :, -1]]
            else:
                out.append(view)
        return out

    def has_bias(self, run: RunConfig) -> bool:
        """Whether the read-out sees a column of ones."""
        return bool(run.group_options("model")["bias"])

    def parameter_count(self, run: RunConfig) -> int:
        """Trained parameters of a run, for plans: give or take biases."""
        data = run.component("data")
        readout = data.outputs * run.width
        return int(readout if self.frozen_features else readout + (data.inputs(run) + 1) * run.width)

    def multiply_adds(self, run: RunConfig) -> float:
        """Of one sample's forward pass, for plans."""
        return float(self.parameter_count(run))

    def activation_bytes(self, run: RunConfig) -> float:
        """What training keeps of one sample between the forward and the backward pass, for plans."""
        return 4.0 * run.width

    def map_bytes(self, run: RunConfig) -> float:
        """What a forward pass in float64 holds of one sample at once."""
        return 8.0 * run.width

    @abstractmethod
    def interpolation_width(self, run: RunConfig, inputs: int, outputs: int) -> float:
        """Width at which the model can just fit the training set, the peak's expected place."""
