"""Random features: a frozen random hidden layer and a trained read-out (Rahimi & Recht 2007)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dd.axis import Axis
from dd.config import RunConfig
from dd.models._base import ACTIVATIONS, BIAS, Model
from dd.streams import stream

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
    """

    options = (
        Axis("activation", str, "relu", "non-linearity of the features", choices=(*ACTIVATIONS, "fourier")),
        Axis("bandwidth", float, 1.0, "length scale of fourier features", low=0, low_open=True),
        BIAS,
    )  # fmt: skip

    def canonical(self, options: dict[str, Any]) -> None:
        """The bandwidth means something for fourier features only."""
        if options["model.activation"] != "fourier":
            options["model.bandwidth"] = 1.0

    def draw_frozen(self, run: RunConfig, inputs: int) -> dict[str, np.ndarray]:
        """Weights ``features``, [inputs, features or frequencies]."""
        fourier = run.group_options("model")["activation"] == "fourier"
        count = math.ceil(run.width / 2) if fourier else run.width
        weight = stream(run.seed, "features.weight").standard_normal((count, inputs)) / math.sqrt(inputs)
        return {"features": np.ascontiguousarray(weight.T)}

    def features(
        self, run: RunConfig, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor], x: Tensor
    ) -> Tensor:
        """See :meth:`Model.features`."""
        options = run.group_options("model")
        pre = _in_tiles(x, frozen["features"])
        if options["activation"] != "fourier":
            return ACTIVATIONS[options["activation"]](pre)
        phase = pre / options["bandwidth"]
        pairs = torch.stack([phase.cos(), phase.sin()], dim=-1).flatten(-2)
        return math.sqrt(2) * pairs[..., : run.width]

    def interpolation_width(self, run: RunConfig, inputs: int, outputs: int) -> float:
        """As many columns as samples, whatever the number of outputs: they share the features."""
        return run.n_train - int(run.group_options("model")["bias"])
