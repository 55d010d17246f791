"""Published sizes and the width family against published and tabulated counts.

Covers: dd/models/rmt/architecture.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dd.models.rmt.architecture import Architecture
from dd.models.rmt.backbone import RMT
from dd.models.rmt.variants import VARIANTS, published, width_variant

PUBLISHED = {"rmt_t": 14_334_216, "rmt_s": 26_967_240, "rmt_b": 54_154_896, "rmt_l": 95_464_864}
ENTRIES = {"rmt_t": 374, "rmt_s": 704, "rmt_b": 1122, "rmt_l": 1122}

CIFAR = {
    2: 14_122, 4: 46_008, 6: 95_668, 8: 163_102, 10: 248_310, 12: 351_292, 14: 472_048, 16: 610_578, 20: 940_960,
    24: 1_342_438, 28: 1_815_012, 32: 2_358_682, 40: 3_659_310, 48: 5_244_322, 56: 7_113_718, 64: 9_267_498,
    80: 14_428_210, 96: 20_726_458, 128: 36_735_562,
}  # fmt: skip
DEEP = {
    4: 68_856, 8: 239_518, 12: 511_996, 16: 886_290, 24: 1_940_326, 32: 3_401_626, 48: 7_546_018, 64: 13_319_466,
    96: 29_753_530, 128: 52_703_818,
}  # fmt: skip
SHALLOW = {
    4: 13_880, 8: 45_598, 12: 95_164, 16: 162_578, 24: 350_950, 32: 610_714, 48: 1_344_418, 64: 2_363_690,
    96: 5_258_938, 128: 9_296_458,
}  # fmt: skip
MNIST = {
    2: 2_764, 4: 8_300, 6: 16_618, 8: 27_718, 10: 41_600, 12: 58_264, 14: 77_710, 16: 99_938, 20: 152_740, 24: 216_670,
    32: 377_914, 40: 583_670, 48: 833_938, 64: 1_468_010, 96: 3_270_298,
}  # fmt: skip
MNIST_TWO = {4: 13_844, 8: 45_526, 16: 162_434, 32: 610_426, 64: 2_363_114}
DIGITS = {
    2: 988, 4: 2_700, 6: 5_146, 8: 8_326, 10: 12_240, 12: 16_888, 14: 22_270, 16: 28_386, 20: 42_820, 24: 60_190,
    32: 103_738, 48: 226_066, 64: 395_370, 128: 1_542_346,
}  # fmt: skip
TABLES = [
    (32, 3, (2, 2, 2, 2), 2, CIFAR),
    (32, 3, (2, 2, 8, 2), 2, DEEP),
    (32, 3, (2, 2, 2), 2, SHALLOW),
    (28, 1, (1, 1, 1), 2, MNIST),
    (28, 1, (2, 2, 2), 2, MNIST_TWO),
    (8, 1, (1, 1), 1, DIGITS),
]
DIGITS_GEOMETRY = {"channels": 1, "height": 8, "width": 8, "classes": 10, "depths": (1, 1), "patch": 1}


def trained(architecture: Architecture) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in RMT(architecture).parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_published_sizes_have_the_counts_of_the_training_logs(name: str) -> None:
    with torch.device("meta"):
        model = RMT(VARIANTS[name])
    assert sum(p.numel() for p in model.parameters()) == PUBLISHED[name] == VARIANTS[name].parameters()
    assert len(model.state_dict()) == ENTRIES[name]


@pytest.mark.parametrize(("side", "channels", "depths", "patch", "table"), TABLES)
def test_the_width_family_has_the_tabulated_counts(
    side: int, channels: int, depths: tuple[int, ...], patch: int, table: dict[int, int]
) -> None:
    found = {
        k: width_variant(k, channels=channels, height=side, width=side, classes=10, depths=depths, patch=patch)
        for k in table
    }
    assert {k: a.parameters() for k, a in found.items()} == table
    assert trained(found[4]) == table[4]
    assert trained(found[16]) == table[16]


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("affine", [True, False])
def test_the_closed_form_counts_modules_with_any_norm(norm: str, affine: bool) -> None:
    architecture = width_variant(6, **DIGITS_GEOMETRY, norm=norm, norm_affine=affine)
    assert architecture.parameters() == trained(architecture)
    scaled = replace(architecture, layer_scale=(None, 1e-6), ratios=(2.5, 3), channels=3)
    assert scaled.parameters() == trained(scaled)


def test_the_anchor_is_rmt_t_but_for_its_third_stage() -> None:
    anchor = width_variant(
        64, channels=3, height=224, width=224, classes=1000, depths=(2, 2, 8, 2), patch=4, anchor=True
    )
    assert anchor.parameters() == PUBLISHED["rmt_t"]
    assert replace(anchor, whole=(False, False, True, True), drop_path=0.1) == VARIANTS["rmt_t"]


def test_heads_and_decays_are_constant_over_the_widths() -> None:
    narrow, wide = (
        width_variant(k, channels=3, height=32, width=32, classes=10, depths=(2, 2, 2, 2), patch=2) for k in (2, 64)
    )
    assert narrow.heads == wide.heads == (2, 2, 4, 8)
    assert [d // h for d, h in zip(narrow.dims, narrow.heads, strict=True)] == [1, 2, 2, 2]
    assert narrow.decay_ranges == wide.decay_ranges
    assert (narrow.projection, wide.projection) == (32, 1024)


@pytest.mark.parametrize(
    ("side", "patch", "stages", "maps"),
    [(32, 2, 4, [16, 8, 4, 2]), (32, 1, 4, [32, 16, 8, 4]), (28, 2, 3, [14, 7, 4]), (8, 1, 2, [8, 4])],
)
def test_maps_have_the_tabulated_sizes(side: int, patch: int, stages: int, maps: list[int]) -> None:
    found = width_variant(4, channels=1, height=side, width=side, classes=2, depths=(1,) * stages, patch=patch)
    assert found.stage_sizes(side, side) == tuple((n, n) for n in maps)


def test_published_takes_other_outputs_and_inputs() -> None:
    found = published("rmt_s", classes=10, channels=1)
    assert (found.classes, found.channels, found.dims) == (10, 1, VARIANTS["rmt_s"].dims)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"k": 3}, "k=3: must be even and at least 2"),
        ({"k": 0}, "k=0: must be even and at least 2"),
        ({"k": 4, "anchor": True}, "k=4: must be a multiple of 8"),
        ({"depths": ()}, r"depths=\(\): must be one to four numbers"),
        ({"depths": (1, 0)}, r"depths=\(1, 0\): must be at least 1 each"),
        ({"depths": (1,) * 5}, "must be one to four numbers"),
        ({"patch": 3}, "patch=3: must be one of 1, 2, 4"),
        ({"form": "paper"}, "form='paper': must be one of released, product"),
        ({"norm": "group"}, "norm='group': must be one of batch, layer, none"),
        ({"classes": 0}, "classes=0: must be at least 1"),
        ({"patch": 4, "depths": (1, 1, 1)}, "image size=8 x 8: stage 3 would halve a map of one pixel"),
        ({"patch": 4, "height": 2, "width": 1, "depths": (1,)}, "the stem would halve a map of one pixel"),
        ({"norm_eps": 0.0}, "norm_eps=0.0: must be greater than 0"),
    ],
)
def test_a_bad_width_variant_is_refused_in_one_line(change: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        width_variant(**{"k": 4, **DIGITS_GEOMETRY, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"dims": (63, 128, 256, 512)}, "even in the first stage"),
        ({"dims": ()}, "dims"),
        ({"heads": (4, 4, 8)}, r"heads=\(4, 4, 8\): must be one entry a stage, 4"),
        ({"heads": (4, 4, 8, 15)}, "heads.*divisors of the channels"),
        ({"stem_strides": (2, 2, 2)}, "stem_strides.*four numbers"),
        ({"drop_path": 1.0}, "drop_path=1.0: must be at least 0 and less than 1"),
        ({"decay_start": 0.0}, "decay_start=0.0"),
        ({"norm_momentum": 0.0}, "norm_momentum=0.0"),
        ({"ratios": (0, 3, 3, 3)}, "ratios"),
    ],
)
def test_a_bad_architecture_is_refused_in_one_line(change: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        replace(VARIANTS["rmt_t"], **change)
    assert "\n" not in str(caught.value)


def test_an_unknown_variant_is_refused_with_the_names() -> None:
    with pytest.raises(ValueError, match="'rmt_x': must be one of rmt_t, rmt_s, rmt_b, rmt_l"):
        published("rmt_x")
