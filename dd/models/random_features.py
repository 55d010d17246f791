"""Random features: a frozen random hidden layer and a trained read-out (Rahimi & Recht 2007)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dd.axis import Axis
from dd.config import RunConfig
from dd.models._base import ACTIVATIONS, BIAS, Model
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


class RandomFeatures(Model):
    """features = act(x W) with W ~ N(0, 1/inputs), or cosines and sines of x W / bandwidth.

    The weights are drawn feature by feature: the features of a narrow model are the first columns of a wide one's.
    ``fourier`` features come in pairs (cos, sin) of one frequency, each times sqrt(2); an odd width ends on a cosine.
    ``cosine`` features are sqrt(2) cos(x w / bandwidth + b) with b uniform on [0, 2 pi) (Rahimi & Recht 2007). With
    ``weights=sphere`` each column of W is scaled to norm 1, and so uniform on the sphere (Mei & Montanari,
    arXiv 1908.05355).
    """

    options = (
        Axis("activation", str, "relu", "non-linearity of the features",
             choices=(*ACTIVATIONS, "fourier", "cosine", *(k for k in ELEMENTWISE if k not in ACTIVATIONS))),
        Axis("bandwidth", float, 1.0, "length scale of fourier and cosine features", low=0, low_open=True),
        Axis("weights", str, "gaussian", "law of a feature's weights: N(0, 1/inputs), or uniform of norm 1",
             choices=("gaussian", "sphere")),
        BIAS,
    )  # fmt: skip

    def canonical(self, options: dict[str, Any]) -> None:
        """The bandwidth means something for fourier and cosine features only."""
        if options["model.activation"] in ELEMENTWISE:
            options["model.bandwidth"] = 1.0

    def draw_frozen(self, run: RunConfig, inputs: int) -> dict[str, np.ndarray]:
        """Weights ``features``, [inputs, features or frequencies]; of cosines also ``phase``, [features]."""
        options = run.group_options("model")
        count = math.ceil(run.width / 2) if options["activation"] == "fourier" else run.width
        weight = stream(run.seed, "features.weight").standard_normal((count, inputs))
        sphere = options["weights"] == "sphere"
        weight /= np.linalg.norm(weight, axis=1, keepdims=True) if sphere else math.sqrt(inputs)
        frozen = {"features": np.ascontiguousarray(weight.T)}
        if options["activation"] == "cosine":
            frozen["phase"] = stream(run.seed, "features.phase").uniform(0, 2 * math.pi, count)
        return frozen

    def features(
        self, run: RunConfig, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor], x: Tensor
    ) -> Tensor:
        """See :meth:`Model.features`."""
        options = run.group_options("model")
        pre = _in_tiles(x, frozen["features"])
        if options["activation"] in ELEMENTWISE:
            return ELEMENTWISE[options["activation"]](pre)
        phase = pre / options["bandwidth"]
        if options["activation"] == "cosine":
            return math.sqrt(2) * (phase + frozen["phase"]).cos()
        pairs = torch.stack([phase.cos(), phase.sin()], dim=-1).flatten(-2)
        return math.sqrt(2) * pairs[..., : run.width]

    def interpolation_width(self, run: RunConfig, inputs: int, outputs: int) -> float:
        """As many columns as samples, whatever the number of outputs: they share the features."""
        return run.n_train - int(run.group_options("model")["bias"])
