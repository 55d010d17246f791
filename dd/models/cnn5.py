"""The 5-layer CNN of Nakkiran et al. (arXiv 1912.02292, appendix B): four convolutional blocks and the read-out."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from dd.components.module import ModuleModel, batch_normalised
from dd.runs.run import Run


class Largest(nn.Module):
    """The largest entry of each map: an adaptive pooling that a GPU differentiates in the same order each time."""

    def forward(self, x: Tensor) -> Tensor:
        """From [samples, channels, height, width] to [samples, channels]."""
        return x.amax(dim=(2, 3))


@dataclass(frozen=True)
class CNN5(ModuleModel):
    """3x3 convolutions of k, 2k, 4k and 8k channels, each with BatchNorm and ReLU; k is the width.

    The second and the third block end in a max pooling by 2, the fourth in one over what is left: by 8 for images of
    32 x 32, as published. ``normalization=none`` leaves BatchNorm out.
    """

    default_init = "torch"
    images = True
    normalizations = ("batch_norm", "none")

    def module(self, run: Run) -> nn.Module:
        """See :meth:`ModuleModel.module`."""
        channels, height, width = self.image(run)
        layers: list[nn.Module] = []
        for stage in range(4):
            after = run.width * 2**stage
            layers += [nn.Conv2d(channels, after, 3, padding=1), batch_normalised(run, after), nn.ReLU()]
            if stage in (1, 2) and min(height, width) > 1:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
            channels = after
        return nn.Sequential(*layers, Largest())
