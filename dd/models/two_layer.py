"""Two-layer networks: both layers trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dd.components.model import ACTIVATIONS, Model, initialization, scale_of, with_ones
from dd.runs.axis import axis
from dd.runs.run import Run
from dd.streams import stream


@dataclass(frozen=True)
class TwoLayer(Model):
    """features = act([x, 1] hiddenᵀ); the last column of ``hidden`` holds the biases where ``model.bias`` is true."""

    default_init = "torch"
    frozen_features = False
    biased = ("hidden", "readout")

    activation: str = axis("relu", "non-linearity of the hidden units", choices=tuple(ACTIVATIONS))
    bias: bool = axis(True, "biases in both layers")

    def draw(self, run: Run, inputs: int, outputs: int) -> dict[str, NDArray[np.float64]]:
        """``hidden``, [width, inputs (+ 1)], and the read-out."""
        scheme = initialization(run, self.default_init)
        hidden = scheme.weight(stream(run.seed, "init.hidden"), run.width, inputs, inputs, run.width)
        if self.bias:
            bias = scheme.bias(stream(run.seed, "init.hidden.bias"), run.width, inputs)
            hidden = np.concatenate([hidden, bias[:, None]], axis=1)
        return {"hidden": hidden * scale_of(run), "readout": self.draw_readout(run, run.width, outputs)}

    def prepare(self, run: Run, x: Tensor) -> Tensor:
        """Append the column of ones that the hidden biases multiply: [1, samples, inputs (+ 1)]."""
        return (with_ones(x) if self.bias else x)[None]

    def features(self, run: Run, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """See :meth:`Model.features`."""
        return ACTIVATIONS[self.activation](x @ trained["hidden"].mT)

    def interpolation_width(self, run: Run, inputs: int, outputs: int) -> float:
        """Width at which the trained parameters number samples times outputs (Belkin et al., arXiv 1812.11118)."""
        bias = int(self.bias)
        return (run.n_train * outputs - bias * outputs) / (inputs + bias + outputs)


def is_two_layer(model: Model) -> TypeGuard[TwoLayer]:
    """Whether a model is this two-layer net itself, whose formulas others know, without options that they do not."""
    return isinstance(model, TwoLayer) and model == TwoLayer(activation=model.activation, bias=model.bias)
