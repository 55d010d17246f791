"""Random features: a frozen random hidden layer and a trained read-out (Rahimi & Recht 2007)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dd.components.model import ACTIVATIONS, BIAS, Model
from dd.runs.axis import axis
from dd.runs.run import Run
from dd.streams import stream

ELEMENTWISE: dict[str, Callable[[Tensor], Tensor]] = ACTIVATIONS | {
    "relu_centered": lambda x: torch.relu(x) - 1 / math.sqrt(2 * math.pi),  # of mean zero under N(0, 1)
    "abs": torch.abs,
    "linear": lambda x: x,
    "softsign": lambda x: x / (1 + x.abs()),
    # not torch's elu, which rounds the last elements of a tensor differently
    "elu": lambda x: torch.where(x > 0, x, torch.expm1(x)),
}

TILE = 256
"""Columns of one matrix product: its shape, and with it every bit of a feature, is the same for all widths."""


def _in_tiles(x: Tensor, weight: Tensor) -> Tensor:
    """X · weight, [runs, samples, columns], each product as wide as a tile."""
    tiles = [torch.nn.functional.pad(w, (0, TILE - w.shape[1])) for w in weight.split(TILE, dim=1)]
    return torch.cat([x @ tile for tile in tiles], dim=-1)[..., : weight.shape[1]]


@dataclass(frozen=True)
class RandomFeatures(Model):
    """features = act(x W) with W ~ N(0, 1/inputs), or cosines and sines of x W / bandwidth.

    The weights are drawn feature by feature: the features of a narrow model are the first columns of a wide one's.
    ``fourier`` features come in pairs (cos, sin) of one frequency, each times sqrt(2); an odd width ends on a cosine.
    ``cosine`` features are sqrt(2) cos(x w / bandwidth + b) with b uniform on [0, 2 pi) (Rahimi & Recht 2007). With
    ``weights=sphere`` each column of W is scaled to norm 1, and so uniform on the sphere (Mei & Montanari,
    arXiv 1908.05355).
    """

    nested = True

    activation: str = axis(
        "relu",
        "non-linearity of the features",
        choices=(*ACTIVATIONS, "fourier", "cosine", *(k for k in ELEMENTWISE if k not in ACTIVATIONS)),
    )
    bandwidth: float = axis(1.0, "length scale of fourier and cosine features", low=0, low_open=True)
    weights: str = axis(
        "gaussian", "law of a feature's weights: N(0, 1/inputs), or uniform of norm 1", choices=("gaussian", "sphere")
    )
    bias: bool = axis(False, BIAS)

    def canonical(self) -> Self:
        """The bandwidth means something for fourier and cosine features only."""
        return replace(self, bandwidth=1.0) if self.activation in ELEMENTWISE else self

    def draw_frozen(self, run: Run, inputs: int) -> dict[str, NDArray[np.float64]]:
        """Weights ``features``, [inputs, features or frequencies]; of cosines also ``phase``, [features]."""
        count = math.ceil(run.width / 2) if self.activation == "fourier" else run.width
        weight = stream(run.seed, "features.weight").standard_normal((count, inputs))
        sphere = self.weights == "sphere"
        weight /= np.linalg.norm(weight, axis=1, keepdims=True) if sphere else math.sqrt(inputs)
        frozen = {"features": np.ascontiguousarray(weight.T)}
        if self.activation == "cosine":
            frozen["phase"] = stream(run.seed, "features.phase").uniform(0, 2 * math.pi, count)
        return frozen

    def features(self, run: Run, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """See :meth:`Model.features`."""
        pre = _in_tiles(x, frozen["features"])
        if self.activation in ELEMENTWISE:
            return ELEMENTWISE[self.activation](pre)
        phase = pre / self.bandwidth
        if self.activation == "cosine":
            return math.sqrt(2) * (phase + frozen["phase"]).cos()
        pairs = torch.stack([phase.cos(), phase.sin()], dim=-1).flatten(-2)
        return math.sqrt(2) * pairs[..., : run.width]

    def interpolation_width(self, run: Run, inputs: int, outputs: int) -> float:
        """As many columns as samples, whatever the number of outputs: they share the features."""
        return run.n_train - int(self.bias)
