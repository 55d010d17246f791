"""Error rates of the peak test and of the verdict's intervals, in simulation: ``python -m analysis.calibrate``.

Simulated curves go through the same functions that judge real ones. docs/peaks.md has the tables that this prints.
"""

from __future__ import annotations

import argparse
import itertools
import os
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

from analysis import association
from analysis.judgement import (
    LEVEL,
    SMALLEST,
    counted,
    decisions,
    held_out_rises,
    of_training_sets,
    p_value,
    prominence_bound,
)
from analysis.prominence import prominences

DRAWS = 4000
SEEDS = (3, 5, 10)
QUIET = 0.05
"""Standard deviation of the noise beside a point with heavy noise."""

MEDIAN, MEAN = -2 * np.log(stats.norm.isf(0.25)), np.euler_gamma + np.log(2)
"""Of log 1/u² with a standard normal u: 0.79 and 1.27."""


@dataclass(frozen=True)
class Shape:
    """An expected curve of log losses, and where its noise may be heavy.

    Attributes:
        name: in words.
        curve: [points].
        places: indices of grid points.
    """

    name: str
    curve: np.ndarray
    places: tuple[int, ...]


def _after(points: int, at: int) -> np.ndarray:
    """0 up to a grid point, then rising to 1 at the end."""
    return np.clip((np.arange(points) - at) / (points - 1 - at), 0, 1)


def shapes() -> list[Shape]:
    """Quasi-convex curves: none has an interior maximum."""
    late, u = np.arange(13) > 6, np.linspace(-1, 1, 13)
    return [
        Shape("level", np.zeros(13), (0, 6)),
        Shape("falling", -2 * u, (6, 9)),
        Shape("U-shaped", 6 * (u - 0.2) ** 2, (3, 7)),
        Shape("level, then a step down", -3.0 * late, (0, 5, 6)),
        Shape("level, then a late step down", -3.0 * (np.arange(13) > 10), (0, 6, 9)),
        Shape("level, then falling", -3 * _after(13, 1), (0, 9, 10)),
        Shape("level, then falling late", -3 * _after(13, 8), (3, 7, 9)),
        Shape("level, then falling slowly", -_after(13, 1), (9, 10)),
        Shape("level, then a step up", 3.0 * late, (6, 7, 12)),
        Shape("5 points, level, then falling", -3 * _after(5, 2), (0, 1, 2)),
        Shape("7 points, level, then falling", -3 * _after(7, 1), (0, 3, 4)),
        Shape("25 points, level, then falling", -3 * _after(25, 3), (0, 3, 20)),
    ]


Noise = Callable[[np.random.Generator, tuple[int, ...], int], np.ndarray]
"""From a generator, a shape [..., seeds, points] and the place of heavy noise to values; NaN where runs are missing."""


def _normal(rng: np.random.Generator, shape: tuple[int, ...], place: int) -> np.ndarray:
    return 0.2 * rng.standard_normal(shape)


def _correlated(rng: np.random.Generator, shape: tuple[int, ...], place: int) -> np.ndarray:
    """Autoregressive along x, as common random numbers make neighbours."""
    e = rng.standard_normal(shape)
    for j in range(1, shape[-1]):
        e[..., j] = 0.9 * e[..., j - 1] + np.sqrt(1 - 0.9**2) * e[..., j]
    return 0.2 * e


def _shifted(rng: np.random.Generator, shape: tuple[int, ...], place: int) -> np.ndarray:
    """A shift of each seed."""
    return _normal(rng, shape, place) + 0.5 * rng.standard_normal((*shape[:-1], 1))


def _growing(rng: np.random.Generator, shape: tuple[int, ...], place: int) -> np.ndarray:
    """Standard deviation from 0.02 to 0.5 along x."""
    return np.asarray(np.geomspace(0.02, 0.5, shape[-1]) * rng.standard_normal(shape))


def _shrinking(rng: np.random.Generator, shape: tuple[int, ...], place: int) -> np.ndarray:
    return _growing(rng, shape, place)[..., ::-1]


def _around(rng: np.random.Generator, shape: tuple[int, ...], place: int) -> np.ndarray:
    """Standard deviation 1 at a place, falling off on both sides."""
    distance = np.abs(np.arange(shape[-1]) - place)
    return np.asarray((QUIET + np.exp(-(distance**2) / 4)) * rng.standard_normal(shape))


def _t_everywhere(rng: np.random.Generator, shape: tuple[int, ...], place: int) -> np.ndarray:
    return 0.1 * rng.standard_t(2, shape)


def _one_place(
    rng: np.random.Generator, shape: tuple[int, ...], place: int, heavy: Callable[..., np.ndarray], quiet: float = QUIET
) -> np.ndarray:
    """Heavy noise at one place."""
    e = quiet * rng.standard_normal(shape)
    e[..., place] += heavy(rng, shape[:-1])
    return e


def _inverse_square(rng: np.random.Generator, shape: tuple[int, ...], centre: float) -> np.ndarray:
    """Log 1/u² of a normal u: the risk beside the threshold."""
    return np.asarray(-np.log(rng.standard_normal(shape) ** 2) - centre)


def _three_places(rng: np.random.Generator, shape: tuple[int, ...], place: int, centre: float) -> np.ndarray:
    """Log 1/u² at a place, and 0.3 times that beside it."""
    e = _one_place(rng, shape, place, partial(_inverse_square, centre=centre))
    for beside in (place - 1, place + 1):
        if 0 <= beside < shape[-1]:
            e[..., beside] += 0.3 * _inverse_square(rng, shape[:-1], centre)
    return e


def _student(rng: np.random.Generator, shape: tuple[int, ...], freedom: float) -> np.ndarray:
    return rng.standard_t(freedom, shape)


def _two_values(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.choice([-0.5, 0.5], shape)


def _with_gaps(rng: np.random.Generator, shape: tuple[int, ...], place: int, noise: Noise, share: float) -> np.ndarray:
    """A share of the runs missing, and points that do not count left out."""
    e = noise(rng, shape, place)
    e[rng.random(shape) < share] = np.nan
    return np.where(counted(e)[..., None, :], e, np.nan)


AT_MEDIAN, AT_MEAN = partial(_inverse_square, centre=MEDIAN), partial(_inverse_square, centre=MEAN)

NOISES: dict[str, Noise] = {
    "normal": _normal,
    "correlated along x": _correlated,
    "a shift of each seed": _shifted,
    "growing along x": _growing,
    "shrinking along x": _shrinking,
    "large around one point": _around,
    "t, 2 degrees of freedom": _t_everywhere,
    "t, 2 degrees of freedom, at one point": partial(_one_place, heavy=partial(_student, freedom=2)),
    "Cauchy at one point": partial(_one_place, heavy=partial(_student, freedom=1)),
    "1/u² at one point, median": partial(_one_place, heavy=AT_MEDIAN),
    "1/u² at one point, mean": partial(_one_place, heavy=AT_MEAN),
    "1/u² at one point, others noisy, median": partial(_one_place, heavy=AT_MEDIAN, quiet=0.2),
    "1/u² at one point, others noisy, mean": partial(_one_place, heavy=AT_MEAN, quiet=0.2),
    "1/u² at three points, median": partial(_three_places, centre=MEDIAN),
    "1/u² at three points, mean": partial(_three_places, centre=MEAN),
    "normal, a fifth missing": partial(_with_gaps, noise=_normal, share=0.2),
    "1/u² at one point, a fifth missing, median": partial(
        _with_gaps, noise=partial(_one_place, heavy=AT_MEDIAN), share=0.2
    ),
    "1/u² at one point, a fifth missing, mean": partial(
        _with_gaps, noise=partial(_one_place, heavy=AT_MEAN), share=0.2
    ),
}
"""Noises for which the test keeps its level. 1/u² stands for its logarithm, centred in its median or in its mean."""

HARD: dict[str, Noise] = {"two values at one point": partial(_one_place, heavy=_two_values)}
"""Noise with which three seeds cannot keep it: one time in eight all three have the same value, on the wrong side."""

SHARED = ((2, 5), (3, 3), (5, 2), (10, 3))
"""Training sets, and seeds of each."""


def _generator(*names: object) -> np.random.Generator:
    """One of its own for each case, so that cases can be run alone and in any order."""
    return np.random.default_rng(zlib.crc32(repr(names).encode()))


@dataclass(frozen=True)
class Case:
    """One line of one simulation.

    Attributes:
        shape: expected curve.
        noise: name in ``NOISES`` or ``HARD``.
        place: of heavy noise.
        seeds: number of seeds, or (training sets, seeds of each).
        draws: curves.
        scale: factor on the noise.
    """

    shape: Shape
    noise: str
    place: int
    seeds: int | tuple[int, int]
    draws: int
    scale: float = 1.0

    def logs(self) -> np.ndarray:
        """[draws, seeds, points], training sets in place of seeds where they are shared."""
        noise, points = (NOISES | HARD)[self.noise], len(self.shape.curve)
        rng = _generator(self.shape.name, self.noise, self.place, self.seeds)
        if isinstance(self.seeds, int):
            return np.asarray(self.shape.curve + self.scale * noise(rng, (self.draws, self.seeds, points), self.place))
        sets, each = self.seeds
        of_sets = self.scale * noise(rng, (self.draws, sets, points), self.place)
        of_seeds = 0.1 * self.scale * rng.standard_normal((self.draws, sets * each, points))
        logs = self.shape.curve + np.repeat(of_sets, each, axis=1) + of_seeds
        return of_training_sets(logs, np.repeat(np.arange(sets), each))


def cases(
    of: Sequence[Shape],
    seeds: Sequence[int | tuple[int, int]],
    draws: int,
    noises: Sequence[str],
    scales: Sequence[float] = (1.0,),
) -> Iterator[Case]:
    """Every shape with every noise, at each of the shape's places where the noise has one."""
    for shape, noise, scale in itertools.product(of, noises, scales):
        for place in shape.places if "point" in noise else shape.places[:1]:
            for count in seeds:
                yield Case(shape, noise, place, count, draws, scale)


def wrong_peaks(case: Case) -> tuple[float, float]:
    """Shares of ``peak``, and of p-values at or below the level."""
    logs = case.logs()
    rejected = p_value(held_out_rises(logs)) <= LEVEL
    decided = decisions(logs[rejected])[0]  # the others are not called a peak, and the bound takes long
    return float(np.sum(decided == "peak")) / case.draws, float(rejected.mean())


def wrong_no_peaks(case: Case) -> tuple[float]:
    """Share of ``no peak``."""
    return (float(np.mean(prominence_bound(case.logs()) < SMALLEST)),)


def right_peaks(case: Case) -> float:
    """Share of ``peak``."""
    return float(np.mean(decisions(case.logs())[0] == "peak"))


def _bumps() -> list[Shape]:
    """Curves whose prominence is the smallest of interest: to call them curves without a peak is an error."""
    found = []
    for points in (5, 13):
        u = np.linspace(-1, 1, points)
        bump = np.exp(-((u / 0.2) ** 2) / 2)
        for name, base in (("level", 0 * u), ("falling", -2.0 * np.maximum(u, 0))):
            curve = bump + base
            top = prominences(curve).argmax()
            curve = curve * SMALLEST / prominences(curve).max()
            found.append(Shape(f"{points} points, bump on a {name} curve", curve, (0, int(top))))
    return found


def _table(title: str, head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """A table in markdown."""
    lines = [title, "", *(f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows)), ""]
    return "\n".join(lines)


def _worst(title: str, every: Sequence[Case], found: Sequence[tuple[float, ...]]) -> str:
    """The largest rates of each noise over shapes and places, and the shape where the first of them is largest."""
    rows = []
    columns = list(dict.fromkeys(case.seeds for case in every))
    for noise in dict.fromkeys(case.noise for case in every):
        of_it = [(case, rate) for case, rate in zip(every, found, strict=True) if case.noise == noise]
        largest = [np.max([rate for case, rate in of_it if case.seeds == seeds], axis=0) for seeds in columns]
        shape = max(of_it, key=lambda pair: pair[1])[0].shape.name
        rows.append([noise, *(" / ".join(f"{rate:.3f}" for rate in rates) for rates in largest), shape])
    named = [f"{s} seeds" if isinstance(s, int) else f"{s[0]} sets × {s[1]}" for s in columns]
    return _table(title, ["noise", *named, "worst shape"], rows)


Run = Callable[[Callable[..., Any], Iterable[Any]], Iterable[Any]]
"""``map``, in this process or over several."""


def peak_tables(run: Run, seeds: Sequence[int], draws: int, quick: bool = False) -> Iterator[str]:
    """Wrong ``peak``, wrong ``no peak``, and power; ``quick`` takes one shape for each."""
    few = 1 if quick else None
    every = list(cases(shapes()[:few], seeds, draws, list(NOISES | HARD)))
    title = "Curves without a peak: share of `peak` / of p ≤ 0.05, the largest over shapes and places"
    yield _worst(title, every, list(run(wrong_peaks, every)))
    every = list(cases(shapes()[3:8][:few], SHARED, draws, list(NOISES)[:13]))
    yield _worst(f"{title}; training sets shared by seeds", every, list(run(wrong_peaks, every)))
    every = list(cases(_bumps()[:few], seeds, draws, list(NOISES | HARD), (0.1, 0.5, 1.0)))
    title = f"Curves of prominence {SMALLEST:g}: share of `no peak`, the largest over shapes, places, scales"
    yield _worst(title, every, list(run(wrong_no_peaks, every)))
    heights = ((0.2, 0.05), (0.2, 0.1), (0.3, 0.1), (0.5, 0.1), (0.5, 0.2), (1.0, 0.1), (1.0, 0.2))
    rows = []
    for height, noise in heights:
        shape = Shape("bump", height * np.exp(-((np.linspace(-1, 1, 13) / 0.2) ** 2) / 2), (6,))
        found = run(right_peaks, [Case(shape, "normal", 6, count, draws, noise / 0.2) for count in seeds])
        rows.append([height, noise, *(f"{rate:.2f}" for rate in found)])
    head = ["prominence", "noise", *(f"{count} seeds" for count in seeds)]
    yield _table("A bump on a level curve: share of `peak`", head, rows)


@dataclass(frozen=True)
class Study:
    """A made-up study: clusters of conditions with a train loss, a height and a condition number.

    Attributes:
        name: in words.
        sizes: conditions of each cluster.
        moved: scatter of the clusters' mean log10 train loss; that within clusters is 1.5.
        beside: scatter of the clusters' heights at equal train loss, in decades of it.
        slope: of the height, per decade.
        noise: scatter of single heights.
        above: mean height over the border of a peak.
    """

    name: str
    sizes: tuple[int, ...]
    moved: float
    beside: float
    slope: float
    noise: float
    above: float = 0.0

    def draw(self, rng: np.random.Generator, times: int = 1) -> dict[str, np.ndarray]:
        """Conditions of a study with so many times the clusters."""
        sizes = np.tile(self.sizes, times)
        cluster = np.repeat(np.arange(len(sizes)), sizes)
        first, second, third = rng.standard_normal((3, len(sizes)))[:, cluster]
        single = rng.standard_normal((4, len(cluster)))
        loss = 1.5 * single[0] + self.moved * first
        height = self.slope * (-loss - self.beside * second) + self.noise * single[1] + self.above
        kappa, other = first + second + 0.5 * single[2], third + 0.5 * single[3]
        return {"cluster": cluster, "loss": loss, "height": height, "kappa": kappa, "other": other}


SIZES = {
    "15 clusters of 24": (24,) * 15,
    "15 clusters of 3 to 70": (70, *(36,) * 7, 9, 6, 6, 6, 6, 3, 3),
    "58 single conditions": (1,) * 58,
    "200 single conditions": (1,) * 200,
}

EFFECTS = ((0.5, 0.3, 1.0, 0.7, 0.0), (1.0, 1.0, 1.0, 0.5, 0.0), (0.5, 1.0, 0.5, 1.5, 0.0), (1.0, 0.4, 1.0, 0.2, -1.0))
"""Areas under the curve of 0.94, 0.91, 0.71 and 0.98; rank correlations of loss and height of -0.89 to -0.43."""


def studies() -> list[Study]:
    """Every size with every strength of effects."""
    return [Study(name, sizes, *effects) for name, sizes in SIZES.items() for effects in EFFECTS]


def _statistics(found: dict[str, np.ndarray]) -> dict[str, tuple[Callable[[association.Whole], float], dict[str, Any]]]:
    """Statistics of the verdict, and how their intervals are asked for."""
    loss, height = found["loss"], found["height"]
    peaked = height > 0
    rarer = association.rarer(peaked)
    places = {name: association.places(values) for name, values in found.items()}
    falling, low = association.places(-loss), loss < 0

    def of_level(part: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[association.Whole], float]:
        return lambda i: part(loss[i] <= association.separating_level(loss[i], peaked[i]), peaked[i])

    def rank(x: str, y: str) -> Callable[[association.Whole], float]:
        return lambda i: association.spearman(places[x][i], places[y][i])

    return {
        "AUC": (lambda i: association.auc(falling[i], peaked[i]), {"scale": "share", "among": rarer}),
        "Spearman of loss and height": (rank("loss", "height"), {"scale": "correlation"}),
        "Spearman of unrelated quantities": (rank("other", "height"), {"scale": "correlation"}),
        "partial Spearman": (
            lambda i: association.partial_spearman(places["kappa"][i], places["height"][i], places["loss"][i]),
            {"scale": "correlation"},
        ),
        "L50": (lambda i: association.logistic_midpoint(loss[i], peaked[i]), {"among": rarer}),
        "share of peaks below a fixed loss": (lambda i: _share(peaked[i][low[i]]), {"scale": "share", "among": low}),
        "share of peaks below the best level": (
            of_level(lambda below, peak: _share(peak[below])), {"scale": "share", "among": rarer, "smooth": False},
        ),
        "share of the peaks that are below the best level": (
            of_level(lambda below, peak: _share(below[peak])), {"scale": "share", "among": peaked, "smooth": False},
        ),
        "best level": (
            lambda i: association.separating_level(loss[i], peaked[i]), {"among": rarer, "smooth": False},
        ),
        "slope (Theil–Sen)": (lambda i: association.theil_sen(loss[i], height[i]), {}),
    }  # fmt: skip


def _share(hits: np.ndarray) -> float:
    return float(hits.mean()) if len(hits) else float("nan")


def coverage(study: Study, draws: int, only: Collection[str] = ()) -> dict[str, tuple[float, float]]:
    """Share of intervals that cover, and median width, by statistic; the slow ones in a tenth of the draws.

    The truth is that of a study with clusters enough for 60,000 conditions, and for the slope the planted one. Draws
    with fewer than three conditions on one side are left out, as a verdict leaves them out.
    """
    rng = _generator(study)

    def statistics(found: dict[str, np.ndarray]) -> dict[str, tuple[Any, dict[str, Any]]]:
        return {name: how for name, how in _statistics(found).items() if name in only or not only}

    many = statistics(study.draw(rng, 60_000 // sum(study.sizes)))
    every = np.arange(60_000 // sum(study.sizes) * sum(study.sizes))
    truth = {name: -study.slope if "slope" in name else statistic(every) for name, (statistic, _) in many.items()}
    hits: dict[str, list[tuple[bool, float]]] = {name: [] for name in truth}
    for number in range(draws):
        found = study.draw(rng)
        peaked = found["height"] > 0
        if min(peaked.sum(), (~peaked).sum()) < 3:
            continue
        for name, (statistic, options) in statistics(found).items():
            if number % 10 and ("slope" in name or not options.get("smooth", True)):
                continue  # slow ones
            got = association.cluster_interval(statistic, found["cluster"], **options)
            if np.isfinite(got.low):
                hits[name].append((got.low <= truth[name] <= got.high, got.high - got.low))
    return {
        name: (float(np.mean([h for h, _ in of])), float(np.median([w for _, w in of]))) for name, of in hits.items()
    }


def interval_tables(run: Run, draws: int, quick: bool = False) -> Iterator[str]:
    """Coverage of the verdict's intervals: the lowest over the strengths of effects; ``quick`` takes one of those."""
    every = studies()[:: len(EFFECTS) if quick else 1]
    found = list(run(partial(coverage, draws=draws), every))
    rows = []
    for name in found[0]:
        row = [name]
        for size in SIZES:
            of_it = [each[name] for study, each in zip(every, found, strict=True) if study.name == size]
            row.append(f"{min(hit for hit, _ in of_it):.3f}")
        rows.append(row)
    yield _table(
        "Share of 95 % intervals that cover, the lowest over four strengths of effects", ["statistic", *SIZES], rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables of docs/peaks.md; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m analysis.calibrate", description="Error rates, simulated.")
    parser.add_argument("part", choices=("all", "peaks", "intervals"), nargs="?", default="all")
    parser.add_argument("--draws", type=int, default=DRAWS, help="curves a case; a twentieth as many studies")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="numbers of seeds, for example 3,5,10")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; all cores by default")
    parser.add_argument("--quick", action="store_true", help="one case of each kind, to see that it runs")
    options = parser.parse_args(arguments)
    seeds = [int(count) for count in options.seeds.split(",")]
    with ProcessPoolExecutor(options.jobs) as pool:
        run: Run = pool.map if options.jobs > 1 else map
        if options.part != "intervals":
            for table in peak_tables(run, seeds, options.draws, options.quick):
                print(table, flush=True)
        if options.part != "peaks":
            for table in interval_tables(run, max(options.draws // 20, 1), options.quick):
                print(table, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
