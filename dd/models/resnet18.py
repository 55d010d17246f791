"""The pre-activation ResNet18 (He et al., arXiv 1603.05027) of width k (Nakkiran et al., arXiv 1912.02292)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from dd.components.module import ModuleModel, batch_normalised
from dd.runs.run import Run


class Block(nn.Module):
    """Two 3x3 convolutions, each after its normalization and ReLU, beside a shortcut.

    Args:
        run: for its normalization.
        before: input channels.
        after: output channels.
        stride: of the first convolution.
    """

    def __init__(self, run: Run, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = batch_normalised(run, before), batch_normalised(run, after)
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        resized = stride != 1 or before != after
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False) if resized else None

    def forward(self, x: Tensor) -> Tensor:
        """From maps [samples, before, height, width] to maps [samples, after, height / stride, width / stride]."""
        seen = self.norm1(x).relu()
        kept = x if self.shortcut is None else self.shortcut(seen)
        found: Tensor = self.conv2(self.norm2(self.conv1(seen)).relu()) + kept
        return found


class Mean(nn.Module):
    """The mean of each map."""

    def forward(self, x: Tensor) -> Tensor:
        """From [samples, channels, height, width] to [samples, channels]."""
        return x.mean(dim=(2, 3))


@dataclass(frozen=True)
class ResNet18(ModuleModel):
    """Stages of two blocks with k, 2k, 4k and 8k channels, then the mean over the last map; k is the width.

    ``normalization=none`` leaves BatchNorm out.
    """

    default_init = "torch"
    images = True
    normalizations = ("batch_norm", "none")

    def module(self, run: Run) -> nn.Module:
        """See :meth:`ModuleModel.module`."""
        channels = run.width
        layers: list[nn.Module] = [nn.Conv2d(self.image(run)[0], channels, 3, padding=1, bias=False)]
        for stage in range(4):
            after = run.width * 2**stage
            layers += [Block(run, channels, after, 1 if stage == 0 else 2), Block(run, after, after, 1)]
            channels = after
        return nn.Sequential(*layers, Mean())
