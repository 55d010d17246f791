"""Two-layer networks: both layers trained."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from dd.axis import Axis
from dd.config import RunConfig
from dd.models._base import ACTIVATIONS, Model, Tensors, initialization, with_ones
from dd.streams import stream


class TwoLayer(Model):
    """features = act([x, 1] hiddenᵀ); the last column of ``hidden`` holds the biases where ``model.bias`` is true."""

    default_init = "torch"
    frozen_features = False
    options = (
        Axis("activation", str, "relu", "non-linearity of the hidden units", choices=("relu", "tanh")),
        Axis("bias", bool, True, "biases in both layers"),
    )

    def _draw(self, run: RunConfig, inputs: int, outputs: int) -> dict[str, np.ndarray]:
        scheme = initialization(run, self.default_init)
        hidden = scheme.weight(stream(run.seed, "init.hidden"), run.width, inputs, inputs, run.width)
        if run.group_options("model")["bias"]:
            bias = scheme.bias(stream(run.seed, "init.hidden.bias"), run.width, inputs)
            hidden = np.concatenate([hidden, bias[:, None]], axis=1)
        hidden = hidden * run.init_scale
        return {"hidden": hidden, "readout": self._draw_readout(run, run.width, outputs)}

    def prepare(self, run: RunConfig, x: Tensor) -> Tensor:
        """Append the column of ones that the hidden biases multiply: [1, samples, inputs (+ 1)]."""
        return (with_ones(x) if run.group_options("model")["bias"] else x)[None]

    def features(
        self, run: RunConfig, frozen: Mapping[str, Tensor], trained: Mapping[str, Tensor], x: Tensor
    ) -> Tensor:
        """See :meth:`Model.features`."""
        return ACTIVATIONS[run.group_options("model")["activation"]](x @ trained["hidden"].mT)

    def backward(
        self,
        run: RunConfig,
        trained: Mapping[str, Tensor],
        x: Tensor,
        features: Tensor,
        grad: Tensor,
        out: Tensors,
    ) -> None:
        """See :meth:`Model.backward`; the activations' derivatives follow from their values."""
        relu = run.group_options("model")["activation"] == "relu"
        pre = grad * (features > 0) if relu else grad * (1 - features * features)
        torch.matmul(pre.mT, x, out=out["hidden"])

    def interpolation_width(self, run: RunConfig, inputs: int, outputs: int) -> float:
        """Width at which the trained parameters number samples times outputs (Belkin et al., arXiv 1812.11118)."""
        bias = int(run.group_options("model")["bias"])
        return (run.n_train * outputs - bias * outputs) / (inputs + bias + outputs)
