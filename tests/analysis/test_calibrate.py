"""Simulated error rates: the nulls are what they say, the test keeps its level, intervals cover."""

from __future__ import annotations

import numpy as np
import pytest

from analysis import calibrate
from analysis.calibrate import Case, Study, shapes
from analysis.prominence import prominences

SHAPES = {shape.name: shape for shape in shapes()}

HARDEST = [
    ("level, then falling", 9), ("level, then falling", 10), ("25 points, level, then falling", 20),
    ("level, then a late step down", 6), ("level, then a step down", 0),
]  # fmt: skip
"""Where the test of scores alone, or skewed noise in a valley, rejects most."""


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_shapes_have_no_interior_maximum(shape: calibrate.Shape) -> None:
    assert prominences(shape.curve).max() <= 0
    assert all(0 <= place < len(shape.curve) for place in shape.places)


@pytest.mark.parametrize(("centre", "of"), [(calibrate.MEDIAN, np.median), (calibrate.MEAN, np.mean)])
def test_heavy_noise_is_centred(centre: float, of: object) -> None:
    noise = -np.log(np.random.default_rng(0).standard_normal(400_000) ** 2) - centre
    assert abs(of(noise)) < 4 * np.std(noise) / np.sqrt(len(noise))  # type: ignore[operator]


@pytest.mark.parametrize("noise", calibrate.NOISES)
def test_noises_are_centred_everywhere(noise: str) -> None:
    e = calibrate.NOISES[noise](np.random.default_rng(1), (4000, 3, 7), 2)
    assert e.shape == (4000, 3, 7)
    middle = np.nanmean(e, (0, 1)) if noise.endswith("mean") else np.nanmedian(e, (0, 1))
    assert np.abs(middle).max() < 0.08
    assert np.isnan(e).any() == ("missing" in noise)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("centred", ["median", "mean"])
@pytest.mark.parametrize(("shape", "place"), HARDEST)
def test_heavy_noise_at_one_point_is_no_peak(shape: str, place: int, centred: str, seeds: int) -> None:
    for others in ("", ", others noisy"):
        case = Case(SHAPES[shape], f"1/u² at one point{others}, {centred}", place, seeds, 1000)
        peak, rejected = calibrate.wrong_peaks(case)
        assert peak <= rejected <= 0.05


@pytest.mark.parametrize(("sets", "each"), calibrate.SHARED)
@pytest.mark.parametrize("noise", ["normal", "1/u² at one point, median"])
def test_training_sets_that_seeds_share_are_the_observations(noise: str, sets: int, each: int) -> None:
    case = Case(SHAPES["level, then a step down"], noise, 5, (sets, each), 1000)
    assert case.logs().shape == (1000, sets, 13)
    assert calibrate.wrong_peaks(case)[0] <= (0.05 if sets > 2 else 0)


def test_a_bump_of_the_smallest_size_is_seldom_denied() -> None:
    for shape in calibrate._bumps():
        assert prominences(shape.curve).max() == pytest.approx(0.2)
        for scale in (0.1, 1.0):
            for centred in ("median", "mean"):
                case = Case(shape, f"1/u² at one point, {centred}", shape.places[1], 5, 2000, scale)
                assert calibrate.wrong_no_peaks(case)[0] <= 0.05


def test_intervals_cover() -> None:
    """At 15 clusters, where percentile intervals of the bootstrap cover 0.88 to 0.92."""
    names = ("AUC", "Spearman of loss and height", "partial Spearman", "share of peaks below a fixed loss")
    found = calibrate.coverage(Study("few", (24,) * 15, 0.5, 0.3, 1.0, 0.7), 150, names)
    assert set(found) == set(names)
    assert min(hit for hit, _ in found.values()) >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 150)


@pytest.mark.parametrize("part", ["peaks", "intervals"])
def test_the_command_prints_its_tables(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate.main([part, "--quick", "--draws", "8", "--seeds", "3,5"]) == 0
    printed = capsys.readouterr().out
    heads = {"peaks": ["3 seeds", "2 sets × 5", "share of `no peak`", "prominence"], "intervals": ["| AUC |"]}
    assert all(head in printed for head in heads[part])
    assert "nan" not in printed


def test_cases_are_drawn_the_same_alone_and_among_others() -> None:
    every = list(calibrate.cases(shapes()[:2], (3, 5), 4, ["normal", "Cauchy at one point"]))
    assert len(every) == len({repr(case) for case in every}) == 2 * (1 + 2) * 2
    np.testing.assert_array_equal(every[3].logs(), every[3].logs())
    assert not np.array_equal(every[2].logs(), every[4].logs())
