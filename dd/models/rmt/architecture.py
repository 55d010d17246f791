"""Everything that fixes a network of the RMT family (Fan et al., arXiv 2309.11523)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

FORMS = ("released", "product")
"""Attention with the log-decay added to the logits (code of June 2024), and the paper's product (equation 5)."""

NORMS = ("batch", "layer", "none")


def _after(length: int, stride: int) -> int:
    """Length of a map behind a 3 x 3 convolution of padding 1."""
    return (length - 1) // stride + 1


@dataclass(frozen=True)
class Architecture:
    """One network; its parameters' shapes and its function follow from these numbers.

    Attributes:
        channels: channels of the images.
        classes: outputs.
        dims: channels of each stage; the first is even (the stem's first half uses dims[0] / 2).
        depths: blocks of each stage.
        heads: attention heads of each stage; they divide its channels. Rotation acts on pairs of a head's channels; the
            last one of an odd number is left as it is.
        ratios: hidden channels of each stage's feed-forward layers over its channels.
        stem_strides: strides of the stem's four convolutions, 1 or 2 each.
        decay_ranges: b - a of each stage; head j of h decays by gamma_j = 1 - 2^(-a - (b - a) j / h) a pixel.
        whole: whether a stage attends over its whole map; otherwise along rows, then along columns.
        projection: width of the linear layer between the last stage and the classifier.
        layer_scale: start of each stage's LayerScale vectors; None: the stage has none.
        decay_start: a.
        drop_path: rate of the last block; the rates rise linearly from 0 at the first.
        rotary: whether queries and keys are rotated by their position.
        form: "released" or "product", see :data:`FORMS`.
        norm: "batch" as released; "layer": LayerNorm over the channels in place of every BatchNorm; "none": no
            normalisation at all, in the blocks neither.
        norm_eps: added to the variances outside the blocks (inside it is 1e-6).
        norm_affine: gains and shifts of the norms outside the blocks.
        norm_momentum: weight of the newest batch in BatchNorm's running statistics.

    Raises:
        ValueError: naming the field, its value and what is allowed.
    """

    channels: int
    classes: int
    dims: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    ratios: tuple[float, ...]
    stem_strides: tuple[int, ...]
    decay_ranges: tuple[float, ...]
    whole: tuple[bool, ...]
    projection: int
    layer_scale: tuple[float | None, ...]
    decay_start: float = 2.0
    drop_path: float = 0.0
    rotary: bool = True
    form: str = "released"
    norm: str = "batch"
    norm_eps: float = 1e-5
    norm_affine: bool = True
    norm_momentum: float = 0.1

    def __post_init__(self) -> None:
        for field in ("channels", "classes", "projection"):
            _require(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")
        _require(len(self.dims) >= 1, "dims", self.dims, "one number a stage, at least one stage")
        for field in ("depths", "heads", "ratios", "decay_ranges", "whole", "layer_scale"):
            value = getattr(self, field)
            _require(len(value) == len(self.dims), field, value, f"one entry a stage, {len(self.dims)}")
        for field in ("dims", "depths", "heads"):
            _require(min(getattr(self, field)) >= 1, field, getattr(self, field), "at least 1 each")
        _require(self.dims[0] % 2 == 0, "dims", self.dims, "even in the first stage, whose stem starts at half of it")
        for dim, heads in zip(self.dims, self.heads, strict=True):
            _require(dim % heads == 0, "heads", self.heads, f"divisors of the channels {self.dims}")
        _require(min(self.hidden) >= 1, "ratios", self.ratios, "at least one hidden channel a stage")
        _require(
            len(self.stem_strides) == 4 and set(self.stem_strides) <= {1, 2},
            "stem_strides",
            self.stem_strides,
            "four numbers, 1 or 2 each",
        )
        _require(self.decay_start > 0, "decay_start", self.decay_start, "greater than 0")
        _require(min(self.decay_ranges) >= 0, "decay_ranges", self.decay_ranges, "at least 0 each")
        _require(0 <= self.drop_path < 1, "drop_path", self.drop_path, "at least 0 and less than 1")
        _require(self.form in FORMS, "form", self.form, "one of " + ", ".join(FORMS))
        _require(self.norm in NORMS, "norm", self.norm, "one of " + ", ".join(NORMS))
        _require(self.norm_eps > 0, "norm_eps", self.norm_eps, "greater than 0")
        _require(0 < self.norm_momentum <= 1, "norm_momentum", self.norm_momentum, "greater than 0, at most 1")

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.dims)

    @property
    def hidden(self) -> tuple[int, ...]:
        """Hidden channels of each stage's feed-forward layers."""
        return tuple(int(ratio * dim) for ratio, dim in zip(self.ratios, self.dims, strict=True))

    def parameters(self) -> int:
        """Number of trained parameters in closed form; heads, strides and image size do not enter."""
        first, outer = self.dims[0], (0 if self.norm == "none" or not self.norm_affine else 2)
        count = 63 * first**2 // 4 + 9 * self.channels * first // 2 + 3 * first + outer * 3 * first
        inner = 0 if self.norm == "none" else 4
        for dim, hidden, depth, scale in zip(self.dims, self.hidden, self.depths, self.layer_scale, strict=True):
            block = 4 * dim**2 + 2 * dim * hidden + 41 * dim + 11 * hidden + inner * dim
            count += depth * (block + (0 if scale is None else 2 * dim))
        for dim, after in zip(self.dims, self.dims[1:], strict=False):
            count += 9 * dim * after + after + outer * after
        return count + self.projection * (self.dims[-1] + 1 + outer + self.classes) + self.classes

    def multiply_adds(self, height: int, width: int) -> int:
        """Multiply-adds of one image's forward pass: convolutions, linear layers, attention.

        Args:
            height: of the image, pixels.
            width: of the image, pixels.
        """
        size, count = (height, width), 0
        half = self.dims[0] // 2
        stem = (self.channels, half, half, 2 * half, 2 * half)
        for before, after, stride in zip(stem, stem[1:], self.stem_strides, strict=False):
            size = (_after(size[0], stride), _after(size[1], stride))
            count += math.prod(size) * 9 * before * after
        sizes = self.stage_sizes(height, width)
        for (rows, columns), dim, hidden, depth, whole in zip(
            sizes, self.dims, self.hidden, self.depths, self.whole, strict=True
        ):
            pixels = rows * columns
            seen = pixels if whole else rows + columns
            count += depth * pixels * (4 * dim**2 + 2 * dim * hidden + 34 * dim + 9 * hidden + 2 * dim * seen)
        for size, before, after in zip(sizes[1:], self.dims, self.dims[1:], strict=False):
            count += math.prod(size) * 9 * before * after
        return count + self.projection * (math.prod(sizes[-1]) * self.dims[-1] + self.classes)

    def stage_sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """Height and width of each stage's map.

        Args:
            height: of the images, pixels.
            width: of the images, pixels.

        Raises:
            ValueError: a stride meets a map of a single pixel; the message names the stage.
        """
        size = (height, width)
        _require(min(size) >= 1, "image size", size, "at least one pixel each way")
        for stride in self.stem_strides:
            size = _halved(size, stride, (height, width), "the stem")
        sizes = [size]
        for stage in range(1, self.stages):
            size = _halved(size, 2, (height, width), f"stage {stage + 1}")
            sizes.append(size)
        return tuple(sizes)


def _require(true: bool, field: str, value: object, allowed: str) -> None:
    if not true:
        raise ValueError(f"{field}={value!r}: must be {allowed}")


def _halved(size: Sequence[int], stride: int, image: Sequence[int], place: str) -> tuple[int, int]:
    if stride == 2 and max(size) == 1:
        raise ValueError(
            f"image size={image[0]} x {image[1]}: {place} would halve a map of one pixel; "
            "take larger images, fewer stages or a smaller stride of the stem"
        )
    return _after(size[0], stride), _after(size[1], stride)
