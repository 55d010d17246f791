"""Multiply-adds against the published and the tabulated ones.

Covers: dd/models/rmt/__main__.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from dd.models.rmt.__main__ import main
from dd.models.rmt.summary import count
from dd.models.rmt.variants import VARIANTS, width_variant


def test_the_command_prints_the_published_counts(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["variant", "parameters", "paper", "M", "GMAC", "fvcore", "/", "2^30", "paper", "G"]
    assert [row.split() for row in rows] == [
        ["rmt_t", "14,334,216", "14", "2.637", "2.469", "2.5"],
        ["rmt_s", "26,967,240", "27", "4.777", "4.470", "4.5"],
        ["rmt_b", "54,154,896", "54", "10.373", "9.699", "9.7"],
        ["rmt_l", "95,464,864", "95", "19.488", "18.203", "18.2"],
    ]


@pytest.mark.parametrize(("name", "whole", "total"), [("rmt_s", True, 4.753), ("rmt_t", False, 2.343)])
def test_the_other_third_stage_costs_what_the_paper_says(name: str, whole: bool, total: float) -> None:
    found = count(replace(VARIANTS[name], whole=(False, False, whole, True)), 224, 224)
    assert round(found.fvcore / 2**30, 3) == total


@pytest.mark.parametrize(
    ("side", "channels", "depths", "patch", "table"),
    [
        (32, 3, (2, 2, 2, 2), 2, {4: "0.88", 8: "2.67", 12: "5.37", 64: "123.4", 128: "480.1"}),
        (32, 3, (2, 2, 2, 2), 1, {4: "4.2", 16: "38.8", 64: "505"}),
        (32, 3, (2, 2, 8, 2), 2, {64: "188"}),
        (28, 1, (1, 1, 1), 2, {4: "0.35", 8: "1.08", 24: "7.9", 96: "115"}),
        (8, 1, (1, 1), 1, {4: "0.08", 8: "0.25", 16: "0.84", 128: "45.5"}),
    ],
)
def test_the_width_family_costs_what_the_table_says(
    side: int, channels: int, depths: tuple[int, ...], patch: int, table: dict[int, str]
) -> None:
    for k, text in table.items():
        a = width_variant(k, channels=channels, height=side, width=side, classes=10, depths=depths, patch=patch)
        digits = len(text.partition(".")[2])
        macs = count(a, side, side).macs
        assert f"{macs / 1e6:.{digits}f}" == text, k
        assert a.multiply_adds(side, side) == macs, "the closed form"


def test_the_command_prints_a_line_of_the_width_family(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--width", "8"])
    assert capsys.readouterr().out.splitlines()[1].split() == ["8", "163,102", "2.67", "16x16", "8x8", "4x4", "2x2"]
    main(["--width", "8", "--image", "28", "--depths", "2-2-2"])
    assert capsys.readouterr().out.splitlines()[1].split()[1] == "45,526"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--width", "7"], "k=7: must be even and at least 2"),
        (["--width", "4", "--depths", "1-x"], "'1-x' must be numbers with hyphens between"),
        (["--classes", "0"], "classes=0: must be at least 1"),
        (["--size", "2"], "would halve a map of one pixel"),
    ],
)
def test_the_command_refuses_bad_values(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments)
    assert line in capsys.readouterr().err.splitlines()[-1]
