"""The backbone: stem, stages of blocks, head (released code of June 2024)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from dd.models.rmt.architecture import Architecture
from dd.models.rmt.attention import ManhattanAttention
from dd.models.rmt.layers import Conv, DepthwiseConv, DropPath, FeedForward, inner_norm, outer_norm
from dd.models.rmt.position import RelativePosition, Tables


class PatchEmbedding(nn.Module):
    """The stem: four 3 x 3 convolutions with norms, GELU behind all but the last."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a, dim = architecture, architecture.dims[0]
        channels = (a.channels, dim // 2, dim // 2, dim, dim)
        layers: list[nn.Module] = []
        for i, stride in enumerate(a.stem_strides):
            layers += [Conv(channels[i], channels[i + 1], 3, stride, 1), outer_norm(a, channels[i + 1]), nn.GELU()]
        self.proj = nn.Sequential(*layers[:-1])

    def forward(self, images: Tensor) -> Tensor:
        """[samples, channels, height, width] -> [samples, height', width', dims[0]]."""
        return self.proj(images.permute(0, 2, 3, 1)).contiguous()


class Downsample(nn.Module):
    """A 3 x 3 convolution of stride 2 with a norm, between two stages."""

    def __init__(self, architecture: Architecture, stage: int) -> None:
        super().__init__()
        before, after = architecture.dims[stage : stage + 2]
        self.reduction = Conv(before, after, 3, 2, 1)
        self.norm = outer_norm(architecture, after)

    def forward(self, x: Tensor) -> Tensor:
        """[samples, height, width, dims[stage]] -> [samples, height', width', dims[stage + 1]]."""
        return self.norm(self.reduction(x))


class Block(nn.Module):
    """Position encoding by a depthwise convolution, attention and feed-forward layers, each behind a skip.

    Args:
        architecture: of the network.
        stage: index of the block's stage.
        rate: of the drop path.
    """

    gamma_1: Tensor | None
    gamma_2: Tensor | None

    def __init__(self, architecture: Architecture, stage: int, rate: float) -> None:
        super().__init__()
        a, dim = architecture, architecture.dims[stage]
        self.pos = DepthwiseConv(dim, 3)
        self.retention_layer_norm = inner_norm(a, dim)
        self.retention = ManhattanAttention(dim, a.heads[stage], a.form)
        self.final_layer_norm = inner_norm(a, dim)
        self.ffn = FeedForward(dim, a.hidden[stage])
        self.drop_path = DropPath(rate)
        start = a.layer_scale[stage]
        self.gamma_1 = None if start is None else nn.Parameter(torch.full((1, 1, 1, dim), start))
        self.gamma_2 = None if start is None else nn.Parameter(torch.full((1, 1, 1, dim), start))

    def forward(self, x: Tensor, tables: Tables) -> Tensor:
        """[samples, height, width, channels] -> the same shape."""
        x = x + self.pos(x)
        branch = self.retention(self.retention_layer_norm(x), tables)
        x = x + self.drop_path(branch if self.gamma_1 is None else self.gamma_1 * branch)
        branch = self.ffn(self.final_layer_norm(x))
        return x + self.drop_path(branch if self.gamma_2 is None else self.gamma_2 * branch)


class Stage(nn.Module):
    """Blocks over maps of one size, then the way to the next stage.

    Args:
        architecture: of the network.
        stage: index.
        shape: height and width of the map for which position tables are kept; None: for none.
    """

    def __init__(self, architecture: Architecture, stage: int, shape: tuple[int, int] | None) -> None:
        super().__init__()
        a = architecture
        self.Relpos = RelativePosition(
            a.heads[stage],
            a.dims[stage] // a.heads[stage],
            a.decay_start,
            a.decay_ranges[stage],
            whole=a.whole[stage],
            rotary=a.rotary,
            product=a.form == "product",
            shape=shape,
        )
        total, first = sum(a.depths), sum(a.depths[:stage])
        rates = [a.drop_path * i / max(total - 1, 1) for i in range(first, first + a.depths[stage])]
        self.blocks = nn.ModuleList(Block(a, stage, rate) for rate in rates)
        self.downsample = Downsample(a, stage) if stage + 1 < a.stages else None

    def forward(self, x: Tensor) -> Tensor:
        """[samples, height, width, dims[stage]] -> a map of the next stage; the last stage keeps the shape."""
        tables = self.Relpos(x)
        for block in self.blocks:
            x = block(x, tables)
        return x if self.downsample is None else self.downsample(x)


class RMT(nn.Module):
    """The network of an architecture; its state dict has the keys of the released files.

    It starts as the released code does: linear weights from a normal of standard deviation 0.02, their biases 0,
    convolutions and norms by torch's defaults.

    Args:
        architecture: what to build.
        size: height and width of the images for which position tables are kept; other sizes compute theirs in each
            pass. None: no tables are kept.

    Raises:
        ValueError: images of ``size`` vanish at a stage.
    """

    def __init__(self, architecture: Architecture, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        a = self.architecture = architecture
        self.size = size
        shapes = [None] * a.stages if size is None else a.stage_sizes(*size)
        self.patch_embed = PatchEmbedding(a)
        self.layers = nn.ModuleList(Stage(a, stage, shape) for stage, shape in enumerate(shapes))
        self.proj = nn.Linear(a.dims[-1], a.projection)
        self.norm = outer_norm(a, a.projection)
        self.head: nn.Module = nn.Linear(a.projection, a.classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def attentions(self) -> Iterator[ManhattanAttention]:
        """Attention modules from the first block to the last."""
        return (m for m in self.modules() if isinstance(m, ManhattanAttention))

    def write_out_attention(self, explicit: bool = True) -> RMT:
        """Set whether attention is written out in every dtype, as second and forward-mode derivatives need it."""
        for attention in self.attentions():
            attention.explicit = explicit
        return self

    def forward_map(self, images: Tensor) -> Tensor:
        """Images [samples, channels, height, width] -> the map that is pooled, [samples, height', width', projection].

        Raises:
            ValueError: another number of channels, or the images vanish at a stage.
        """
        if images.ndim != 4 or images.shape[1] != self.architecture.channels:
            raise ValueError(
                f"images of shape {tuple(images.shape)}: must be [samples, {self.architecture.channels}, height, width]"
            )
        self.architecture.stage_sizes(images.shape[2], images.shape[3])
        x = self.patch_embed(images)
        for stage in self.layers:
            x = stage(x)
        return nn.functional.silu(self.norm(self.proj(x)))

    def forward_features(self, images: Tensor) -> Tensor:
        """Images [samples, channels, height, width] -> what the classifier sees, [samples, projection]."""
        return self.forward_map(images).mean(dim=(1, 2))

    def forward_head(self, features: Tensor) -> Tensor:
        """[samples, projection] -> logits [samples, classes]."""
        return self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        """Images [samples, channels, height, width] -> logits [samples, classes]."""
        return self.forward_head(self.forward_features(images))
