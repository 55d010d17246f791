"""Deep fully connected networks: any number of hidden layers of equal width."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from dd.components.module import ModuleModel
from dd.runs.axis import axis
from dd.runs.run import Run

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


@dataclass(frozen=True)
class MLP(ModuleModel):
    """``depth`` times a linear layer and the activation; the read-out follows."""

    default_init = "torch"

    depth: int = axis(2, "hidden layers", low=1, high=100)
    activation: str = axis("relu", "non-linearity of the hidden units", choices=tuple(ACTIVATIONS))
    bias: bool = axis(True, "biases in all layers")

    def module(self, run: Run) -> nn.Module:
        """See :meth:`ModuleModel.module`."""
        widths = (run.data.input_count, *[run.width] * self.depth)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after, bias=self.bias), ACTIVATIONS[self.activation]()]
        return nn.Sequential(*layers)
