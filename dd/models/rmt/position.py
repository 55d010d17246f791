"""What attention knows of positions: rotations of queries and keys, and decays with the distance."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Tables(NamedTuple):
    """Position tables of a map of one size.

    Attributes:
        rotation: sines and cosines, each [height, width, head channels]; None where nothing is rotated.
        masks: for whole attention one, [heads, height * width, height * width]; for a decomposed one that of the rows,
            [heads, width, width], and that of the columns, [heads, height, height]. Log-decays in the released form,
            decays in the product form.
    """

    rotation: tuple[Tensor, Tensor] | None
    masks: tuple[Tensor, ...]


def angles(size: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None) -> Tensor:
    """Angles a pixel of each rotated channel, [2 floor(size / 2)].

    The pair m turns by 10000^(-m / (pairs - 1)): both ends included, as in RetNet and unlike 10000^(-2 m / size).

    Args:
        size: channels of a head; of an odd number the last one is not rotated.
        dtype: of the result.
        device: of the result.
    """
    return 10000.0 ** -torch.linspace(0, 1, size // 2, dtype=dtype, device=device).repeat_interleave(2)


def log_decays(
    heads: int, start: float, span: float, dtype: torch.dtype = torch.float64, device: torch.device | None = None
) -> Tensor:
    """Log gamma_j, where gamma_j = 1 - 2^(-start - span j / heads), [heads] (equation 8 as in the released code)."""
    return torch.log1p(-(2.0 ** -(start + span * torch.arange(heads, dtype=dtype, device=device) / heads)))


def rotation(height: int, width: int, angle: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Sines and cosines of the raster index y * width + x times the angles, each [height, width, size].

    Args:
        height: of the map.
        width: of the map.
        angle: :func:`angles` of the head, [2 floor(size / 2)].
        size: channels of a head; the last of an odd number gets sine 0 and cosine 1.
    """
    turn = torch.arange(height * width, dtype=angle.dtype, device=angle.device)[:, None] * angle
    turn = nn.functional.pad(turn, (0, size - angle.shape[0])).view(height, width, size)
    return turn.sin(), turn.cos()


def line_mask(log_decay: Tensor, length: int) -> Tensor:
    """Log gamma_j |i - i'|, [heads, length, length]."""
    place = torch.arange(length, dtype=log_decay.dtype, device=log_decay.device)
    return log_decay[:, None, None] * (place[:, None] - place).abs()


def plane_mask(log_decay: Tensor, height: int, width: int) -> Tensor:
    """Log gamma_j times the Manhattan distance of pixels in raster order, [heads, height * width, height * width]."""
    rows, columns = line_mask(log_decay, height), line_mask(log_decay, width)
    mask = rows[:, :, None, :, None] + columns[:, None, :, None, :]
    return mask.reshape(-1, height * width, height * width)


class RelativePosition(nn.Module):
    """Position tables of a stage, shared by its blocks.

    ``angle`` and ``decay`` are in the state dict as in the released files, but the tables are computed from the exact
    formulas, so that those of a float64 network are exact to float64. The tables of the configured size are kept; they
    are no buffers, since a stack of networks (``torch.func.stack_module_state``) shares them, and since casting them
    would round. Moving or casting the module makes them anew.

    Args:
        heads: attention heads.
        size: channels of a head.
        start: a, see :func:`log_decays`.
        span: b - a.
        whole: whether the stage attends over its whole map.
        rotary: whether queries and keys are rotated.
        product: whether the decays multiply the attention (they are added as logarithms otherwise).
        shape: height and width of the map for which the tables are kept; None: for none.
    """

    angle: Tensor
    decay: Tensor

    def __init__(
        self,
        heads: int,
        size: int,
        start: float,
        span: float,
        *,
        whole: bool,
        rotary: bool,
        product: bool,
        shape: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.size, self.start, self.span = heads, size, start, span
        self.whole, self.product, self.shape = whole, product, shape
        self.rotary = rotary and size > 1
        self.register_buffer("angle", angles(size).float())
        self.register_buffer("decay", log_decays(heads, start, span).float())
        self._keep()

    def _keep(self) -> None:
        self.kept = None if self.shape is None else self.tables(*self.shape, self.decay.dtype, self.decay.device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RelativePosition:
        super()._apply(fn, recurse)
        self._keep()
        return self

    def tables(self, height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tables:
        """Compute the tables of one size: float64 for data of float64, else float32 rounded from float64."""
        exact = torch.float32 if device.type == "mps" else torch.float64
        kind = torch.float64 if dtype == torch.float64 else torch.float32
        decay = log_decays(self.heads, self.start, self.span, exact, device)
        turned = None
        if self.rotary:
            sine, cosine = rotation(height, width, angles(self.size, exact, device), self.size)
            turned = sine.to(kind), cosine.to(kind)
        if self.whole:
            masks: tuple[Tensor, ...] = (plane_mask(decay, height, width),)
        else:
            masks = (line_mask(decay, width), line_mask(decay, height))
        return Tables(turned, tuple((m.exp() if self.product else m).to(kind) for m in masks))

    def forward(self, x: Tensor) -> Tables:
        """Tables for a map [samples, height, width, channels], the kept ones where they fit."""
        height, width = x.shape[1:3]
        kept = self.kept
        if kept is not None and self.shape == (height, width):
            mask = kept.masks[0]
            if mask.device == x.device and (mask.dtype == torch.float64) == (x.dtype == torch.float64):
                return kept
        return self.tables(height, width, x.dtype, x.device)
