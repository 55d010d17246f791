"""Parameters and multiply-adds of an architecture, counted without memory or time on torch's meta device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dd.models.rmt.architecture import Architecture
from dd.models.rmt.backbone import RMT
from dd.models.rmt.layers import BatchNorm

PUBLISHED = {"rmt_t": (14, 2.5), "rmt_s": (27, 4.5), "rmt_b": (54, 9.7), "rmt_l": (95, 18.2)}
"""Millions of parameters and "G" of the paper's tables, at 224 x 224 with 1000 classes."""


@dataclass(frozen=True)
class Counts:
    """Size and cost of a network for one image.

    Attributes:
        parameters: trained parameters.
        macs: multiply-adds of convolutions, linear layers and attention's products, forward.
        fvcore: total of fvcore's counter: ``macs`` and 2 for each element behind a BatchNorm, 5 behind a LayerNorm. The
            published "G" are this over 2^30.
    """

    parameters: int
    macs: int
    fvcore: int


def count(architecture: Architecture, height: int, width: int) -> Counts:
    """Count for one image of ``height`` times ``width`` pixels.

    Raises:
        ValueError: the image vanishes at a stage.
    """
    elements = 0

    def add(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal elements
        elements += (2 if isinstance(module, BatchNorm) else 5) * output.numel()

    with torch.device("meta"):
        # the counter knows no cost of the fused kernels
        model = RMT(architecture).write_out_attention().eval()
        image = torch.empty(1, architecture.channels, height, width)
    for module in model.modules():
        if isinstance(module, BatchNorm | nn.LayerNorm):
            module.register_forward_hook(add)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    macs = counter.get_total_flops() // 2
    return Counts(sum(p.numel() for p in model.parameters()), macs, macs + elements)


def _numbers(counts: Counts) -> tuple[str, str, str]:
    return f"{counts.parameters:,}", f"{counts.macs / 1e9:.3f}", f"{counts.fvcore / 2**30:.3f}"


def _aligned(rows: Iterable[tuple[str, ...]]) -> str:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first, rest = widths[0], widths[1:]
    return "\n".join(
        "  ".join([row[0].ljust(first), *(cell.rjust(n) for cell, n in zip(row[1:], rest, strict=True))])
        for row in rows
    )


def published_table(architectures: dict[str, Architecture], size: int) -> str:
    """A row for each of the published sizes on square images, beside the paper's numbers (224 pixels, 1000 classes)."""
    rows = [("variant", "parameters", "paper M", "GMAC", "fvcore / 2^30", "paper G")]
    for name, architecture in architectures.items():
        parameters, macs, fvcore = _numbers(count(architecture, size, size))
        millions, total = PUBLISHED[name]
        rows.append((name, parameters, str(millions), macs, fvcore, str(total)))
    return _aligned(rows)


def width_table(architecture: Architecture, height: int, width: int) -> str:
    """The row of a network of the width family."""
    counts = count(architecture, height, width)
    maps = " ".join(f"{h}x{w}" for h, w in architecture.stage_sizes(height, width))
    row = (str(architecture.dims[0]), f"{counts.parameters:,}", f"{counts.macs / 1e6:.2f}", maps)
    return _aligned([("k", "parameters", "MMAC", "maps"), row])
