"""Layers of the backbone; maps are [samples, height, width, channels] throughout."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dd.models.rmt.architecture import Architecture

BLOCK_EPS = 1e-6
"""Added to the variances by the norms inside the blocks."""


class Conv(nn.Conv2d):
    """torch's convolution for maps with the channels last."""

    def forward(self, x: Tensor) -> Tensor:
        """[samples, height, width, channels] -> [samples, height', width', channels']."""
        x = x.permute(0, 3, 1, 2)
        if x.dtype == torch.float64:  # its depthwise kernels on the CPU are three times slower with channels last
            x = x.contiguous()
        return super().forward(x).permute(0, 2, 3, 1)


class DepthwiseConv(nn.Module):
    """One filter a channel, with biases; the map keeps its size.

    Args:
        dim: channels.
        size: odd side of the filters.
    """

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        self.conv = Conv(dim, dim, size, padding=size // 2, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        """[samples, height, width, channels] -> the same shape."""
        return self.conv(x)


class BatchNorm(nn.Module):
    """BatchNorm2d over the last axis, with the entries of torch's in the state dict.

    Training normalises by the batch's mean and variance and moves the running ones, in place on the buffers, also where
    ``torch.func.vmap`` runs over stacked buffers; evaluation normalises by the running ones.

    Args:
        dim: channels.
        eps: added to the variance.
        momentum: weight of the batch in the running statistics.
        affine: whether there are gains and shifts.

    Attributes:
        track_running_stats: whether training moves the running statistics.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, dim: int, eps: float, momentum: float, affine: bool) -> None:
        super().__init__()
        self.eps, self.momentum, self.track_running_stats = eps, momentum, True
        self.weight = nn.Parameter(torch.ones(dim)) if affine else None
        self.bias = nn.Parameter(torch.zeros(dim)) if affine else None
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        unbiased = variance.detach() * (count / (count - 1))
        # torch.func.vmap has no rule for lerp_
        self.running_mean.mul_(1 - self.momentum).add_(mean.detach(), alpha=self.momentum)
        self.running_var.mul_(1 - self.momentum).add_(unbiased, alpha=self.momentum)
        self.num_batches_tracked.add_(1)

    def forward(self, x: Tensor) -> Tensor:
        """[samples, height, width, channels] -> the same shape.

        Raises:
            ValueError: training on a single pixel of a single sample, which has no variance.
        """
        wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
        if self.training:
            count = x.shape[0] * x.shape[1] * x.shape[2]
            if count < 2:
                raise ValueError(f"batch norm in training: needs more than one value a channel, not {tuple(x.shape)}")
            variance, mean = torch.var_mean(wide, dim=(0, 1, 2), correction=0)
            if self.track_running_stats:
                self._track(mean, variance, count)
        else:
            mean, variance = self.running_mean, self.running_var
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is None or self.bias is None:
            return ((wide - mean) * scale).to(x.dtype)
        return ((wide - mean) * (scale * self.weight) + self.bias).to(x.dtype)


def outer_norm(architecture: Architecture, dim: int) -> nn.Module:
    """Normalisation in the stem, between the stages and in the head: over ``dim`` channels."""
    a = architecture
    if a.norm == "batch":
        return BatchNorm(dim, a.norm_eps, a.norm_momentum, a.norm_affine)
    return nn.LayerNorm(dim, a.norm_eps, a.norm_affine) if a.norm == "layer" else nn.Identity()


def inner_norm(architecture: Architecture, dim: int) -> nn.Module:
    """Normalisation in front of attention and feed-forward layers: over ``dim`` channels."""
    return nn.Identity() if architecture.norm == "none" else nn.LayerNorm(dim, BLOCK_EPS)


class FeedForward(nn.Module):
    """Linear, GELU, a 3 x 3 depthwise convolution with a skip, Linear.

    Args:
        dim: channels.
        hidden: channels in between.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = DepthwiseConv(hidden, 3)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[samples, height, width, channels] -> the same shape."""
        x = nn.functional.gelu(self.fc1(x))
        return self.fc2(x + self.dwconv(x))


class DropPath(nn.Module):
    """Leave out a branch of single samples in training, and scale the others by 1 / (1 - rate); rate 0 draws nothing.

    Args:
        rate: probability that a sample's branch is left out.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """[samples, height, width, channels] -> the same shape."""
        if self.rate == 0 or not self.training:
            return x
        keep = 1 - self.rate
        return x * (torch.empty_like(x[:, :1, :1, :1]).bernoulli_(keep) / keep)
