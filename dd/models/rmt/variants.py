"""The four published sizes and the one-parameter width family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dd.models.rmt.architecture import Architecture

STEM_STRIDES = {1: (1, 1, 1, 1), 2: (2, 1, 1, 1), 4: (2, 1, 2, 1)}
"""Strides of the stem's four convolutions for each total stride."""


def _released(
    dims: tuple[int, ...],
    depths: tuple[int, ...],
    heads: tuple[int, ...],
    ratios: tuple[float, ...],
    decay_ranges: tuple[float, ...],
    drop_path: float,
    *,
    whole_third: bool = False,
    late_scale: float | None = None,
) -> Architecture:
    return Architecture(
        channels=3,
        classes=1000,
        dims=dims,
        depths=depths,
        heads=heads,
        ratios=ratios,
        stem_strides=STEM_STRIDES[4],
        decay_ranges=decay_ranges,
        whole=(False, False, whole_third, True),
        projection=1024,
        layer_scale=(None, None, late_scale, late_scale),
        drop_path=drop_path,
    )


VARIANTS: dict[str, Architecture] = {
    "rmt_t": _released(
        (64, 128, 256, 512), (2, 2, 8, 2), (4, 4, 8, 16), (3, 3, 3, 3), (4, 4, 6, 6), 0.10, whole_third=True
    ),
    "rmt_s": _released((64, 128, 256, 512), (3, 4, 18, 4), (4, 4, 8, 16), (4, 4, 3, 3), (4, 4, 6, 6), 0.15),
    "rmt_b": _released(
        (80, 160, 320, 512), (4, 8, 25, 8), (5, 5, 10, 16), (4, 4, 3, 3), (5, 5, 6, 6), 0.40, late_scale=1e-6
    ),
    "rmt_l": _released(
        (112, 224, 448, 640), (4, 8, 25, 8), (7, 7, 14, 20), (4, 4, 3, 3), (6, 6, 6, 6), 0.50, late_scale=1e-6
    ),
}
"""Sizes of the June 2024 release, ImageNet's heads; T's third stage is whole in the code, decomposed in the text."""

_HEADS = (2, 2, 4, 8)
_ANCHOR_HEADS = (4, 4, 8, 16)
_DECAY_RANGES = (4.0, 4.0, 6.0, 6.0)
RATIO = 3


def published(name: str, classes: int = 1000, channels: int = 3) -> Architecture:
    """One of the published sizes, ``rmt_t``, ``rmt_s``, ``rmt_b`` or ``rmt_l``, with other outputs or inputs.

    Raises:
        ValueError: no such size.
    """
    if name not in VARIANTS:
        raise ValueError(f"variant={name!r}: must be one of " + ", ".join(VARIANTS))
    return replace(VARIANTS[name], classes=classes, channels=channels)


def width_variant(
    k: int,
    *,
    channels: int,
    height: int,
    width: int,
    classes: int,
    depths: Sequence[int],
    patch: int,
    anchor: bool = False,
    form: str = "released",
    rotary: bool = True,
    norm: str = "batch",
    norm_eps: float = 1e-5,
    norm_affine: bool = True,
    norm_momentum: float = 0.1,
) -> Architecture:
    """A network of the width family: k, 2 k, 4 k, 8 k channels, everything else constant.

    The number of heads is constant, since it sets the decays and with them the spatial prior; the head's projection
    grows with the width (2 k 2^(stages - 1)), so that a narrow network ends on no wide layer. All stages but the last
    are decomposed.

    Args:
        k: channels of the first stage, even.
        channels: channels of the images.
        height: of the images, pixels.
        width: of the images, pixels.
        classes: outputs.
        depths: blocks of each stage, one to four stages.
        patch: total stride of the stem: 1, 2 or 4.
        anchor: heads (4, 4, 8, 16) in place of (2, 2, 4, 8), k a multiple of 8: RMT-T's channels, heads and decays at
            k = 64, depths 2, 2, 8, 2 and patch 4 (its third stage is whole besides).
        form: see :class:`Architecture`.
        rotary: see :class:`Architecture`.
        norm: see :class:`Architecture`.
        norm_eps: see :class:`Architecture`.
        norm_affine: see :class:`Architecture`.
        norm_momentum: see :class:`Architecture`.

    Raises:
        ValueError: a value is not allowed, or the images vanish at a stage.
    """
    stages = len(depths)
    if k < 2 or k % 2:
        raise ValueError(f"k={k}: must be even and at least 2 (the stem starts at k / 2 channels)")
    if anchor and k % 8:
        raise ValueError(f"k={k}: must be a multiple of 8 with the heads {_ANCHOR_HEADS}")
    if not 1 <= stages <= len(_HEADS):
        raise ValueError(f"depths={tuple(depths)}: must be one to four numbers")
    if patch not in STEM_STRIDES:
        raise ValueError(f"patch={patch}: must be one of " + ", ".join(map(str, STEM_STRIDES)))
    dims = tuple(k * 2**stage for stage in range(stages))
    found = Architecture(
        channels=channels,
        classes=classes,
        dims=dims,
        depths=tuple(depths),
        heads=(_ANCHOR_HEADS if anchor else _HEADS)[:stages],
        ratios=(RATIO,) * stages,
        stem_strides=STEM_STRIDES[patch],
        decay_ranges=_DECAY_RANGES[:stages],
        whole=(False,) * (stages - 1) + (True,),
        projection=2 * dims[-1],
        layer_scale=(None,) * stages,
        form=form,
        rotary=rotary,
        norm=norm,
        norm_eps=norm_eps,
        norm_affine=norm_affine,
        norm_momentum=norm_momentum,
    )
    found.stage_sizes(height, width)
    return found
