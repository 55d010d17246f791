"""What the numbers at the end of a sweep mean, and the command that goes on from there."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from dd.cli.conf import conf_dir, content_of
from dd.cli.summary import Line, Summary, nearest, number
from dd.cli.terminal import command_of, shell_line
from dd.errors import ConfigError, DDError
from dd.numerics import neutral
from dd.optim.gd import GD
from dd.packs.place import place_of
from dd.packs.plan import plan
from dd.packs.rows import Row
from dd.packs.solve import Solved, solve
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.schedules.constant import Constant

SEEDS, WIDTHS = 3, 4
"""Seeds and widths that the test of a peak takes (``analysis.judgement``)."""

NEAR = 0.01
"""A width this close to the threshold, as a share of it, is on it."""

FITTED = 1e-3
"""Train loss at or below which the training set counts as fitted."""

STEPS = tuple(10**exponent for exponent in (4, 5, 6, 7, 8, 10, 12))
"""Budgets of gradient descent that are tried."""

CLEAR = 5.0
"""How far the test loss of what is advised rises over the lowest one of the sweep, if it can."""

PATIENCE = 2.0
"""Seconds that trying may take, by the plan's estimate."""

AROUND = (0.3, 0.5, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 2.0, 3.0)
"""Widths that show a peak, in units of the threshold."""

OF_TRAINING = (
    "optimizer", "lr", "lr_unit", "schedule", "batch_size", "steps", "epochs", "stop_loss", "solver", "dtype",
)  # fmt: skip
"""Keys that say how a run is trained, with their options."""


def report(summary: Summary, runs: Sequence[Run], settings: Settings, command: str = "") -> str:
    """The end of a sweep: what was swept, the table, what it means, what to do next.

    Args:
        summary: of the rows.
        runs: the sweep.
        settings: how it was computed.
        command: what started it; empty if unknown.
    """
    parts = [_head(summary), "", summary.table(), "", *_meaning(summary, runs, settings, command)]
    return "\n".join(parts)


def figures(settings: Settings) -> str:
    """The command that draws the figures: in a checkout ``make figures``."""
    checkout = conf_dir().parent
    if settings.results_dir == "results" and Path.cwd() == checkout and (checkout / "Makefile").is_file():
        return "make figures"
    return shell_line("analysis.figures", ["--results", settings.results_dir, "--out", "figures"])


NAMES = {
    "width": ("width", "width", "widths"),
    "n_train": ("data.n_train", "number of training samples", "numbers of training samples"),
}
"""The key of an x, and what one and several of them are called."""

FITS = {
    "width": "the width that can just fit the training set",
    "n_train": "the most samples that the width can fit",
}
"""What the threshold is."""


def _head(summary: Summary) -> str:
    """Which widths, or numbers of samples, were swept, and where the threshold is."""
    xs = sorted({x for line in summary.lines for x in line.xs})
    if not xs:
        return "no run has a finite test loss"
    key, _, several = NAMES[summary.axis]
    swept = f"{key} {xs[0]}" if len(xs) == 1 else f"{len(xs)} {several} from {xs[0]} to {xs[-1]}"
    thresholds = sorted({line.threshold for line in summary.lines if line.threshold is not None})
    if not thresholds:
        return f"{swept}; no threshold is known"
    ends = [f"{at:.4g}" for at in (thresholds[0], thresholds[-1])]
    found = f"threshold {ends[0]}" if len(thresholds) == 1 else f"thresholds {ends[0]} to {ends[1]}"
    return f"{swept}; {found}: {FITS[summary.axis]}"


def _meaning(summary: Summary, runs: Sequence[Run], settings: Settings, command: str) -> list[str]:
    """Sentences, each a line or more."""
    key, _, several = NAMES[summary.axis]
    curves = [line for line in summary.lines if len(line.xs) > 2]
    risen = [line for line in curves if line.rises]
    flat = [line for line in curves if not line.rises]
    said, better = _missed(summary, runs)
    cured = bool(flat) and not risen  # the command that it suggests has the better widths
    if better and not cured:
        said.append(f"  {several} that hit it: {better}")
    if risen:
        top = max(risen, key=lambda line: line.ratio)
        kind = "highest rise" if len(risen) > 1 else "rise"
        where = f"at {key} {top.x}{_named(summary, [top])}, train loss {number(top.train, 2)}"
        said.append(f"{kind}: x{top.ratio:.3g} {where}; {_tested(summary.seeds, len(top.xs), settings, summary.axis)}")
    if flat:
        losses = sorted(line.train for line in flat if not math.isnan(line.train))
        ends = " to ".join(dict.fromkeys(number(loss, 2) for loss in (losses[:1] + losses[-1:])))
        at = {line.x for line in flat}
        where = f"at {key} {flat[0].x}" if len(at) == 1 else "near the threshold"
        said.append(f"no rise{_named(summary, flat)}" + f": train loss {where} is {ends}" * bool(losses))
        if cured:
            said += _cure(summary, flat, runs, settings, command, better)
    return said


def _named(summary: Summary, lines: Sequence[Line]) -> str:
    """Which lines of the table are meant; nothing where it has one."""
    if len(summary.lines) == 1:
        return ""
    if len(lines) > 3:
        return " in any line" if len(lines) == len(summary.lines) else f" in {len(lines)} of {len(summary.lines)} lines"
    names = [", ".join(_pairs(summary.axes, line.label)) for line in lines]
    return f" ({'; '.join(names)})"


def _pairs(axes: Sequence[str], label: Sequence[str]) -> list[str]:
    return [value if axis == "optimizer" else f"{axis} {value}" for axis, value in zip(axes, label, strict=True)]


def _tested(seeds: int, count: int, settings: Settings, axis: str = "width") -> str:
    """Whether the test of a peak says anything about so many seeds and widths, and what makes it do so.

    >>> _tested(1, 40, Settings()), _tested(5, 40, Settings(name="mine"))
    ('one seed: not tested; seed=range(5) tests it', '5 seeds: python -m analysis.peaks mine tests it')
    """
    if count < WIDTHS:
        return f"{count} {NAMES[axis][2]}: not tested; {WIDTHS} or more are"
    if seeds < SEEDS:
        return f"{'one seed' if seeds == 1 else f'{seeds} seeds'}: not tested; seed=range(5) tests it"
    elsewhere = ["--results", settings.results_dir] * (settings.results_dir != "results")
    along = ["--x", axis] * (axis != "width")
    return f"{seeds} seeds: {shell_line('analysis.peaks', [settings.name, *along, *elsewhere])} tests it"


def _missed(summary: Summary, runs: Sequence[Run]) -> tuple[list[str], str]:
    """That the widths, or numbers of samples, miss the threshold, if they do, and an override of some that do not."""
    known = [line for line in summary.lines if line.threshold is not None and line.xs]
    _, one, several = NAMES[summary.axis]
    for line in known:
        at, x = line.threshold, nearest(line.xs, line.threshold)
        assert at is not None
        assert x is not None
        if abs(x - at) <= max(0.5, NEAR * at):
            continue
        better = through(line.xs, at, runs, summary.axis)
        if not better or (len(line.xs) < 3 and "n_train" in summary.axes):
            break
        if len(line.xs) < 3:
            return [f"fewer than 3 {several} show no peak"], better
        if not line.xs[0] < at < line.xs[-1]:
            return [f"no {one} reaches the threshold {at:.4g}, where a peak would be"], better
        return [f"no {one} is the threshold {at:.4g}, where a peak is highest; the nearest is {x}"], better
    return [], ""


def through(xs: Sequence[int], threshold: float, runs: Sequence[Run] = (), axis: str = "width") -> str:
    """Override of widths that hold the threshold: a range moved, or widths around it; empty if there are none.

    >>> through(range(10, 2000, 50), 500)
    'width=range(50,2050,50)'
    >>> through([10, 100], 50)
    'width=15,25,40,45,48,50,52,55,62,100,150'
    >>> through(range(10, 200, 50), 100, axis="n_train")
    'data.n_train=range(50,250,50)'
    """
    at, steps, key = round(threshold), {b - a for a, b in pairwise(xs)}, NAMES[axis][0]
    if len(steps) == 1 and len(xs) > 2 and xs[0] < at < xs[-1]:
        (step,) = steps
        first = xs[0] + (at - xs[0]) % step
        first -= step * (first - step >= 1 and 2 * (first - xs[0]) > step)
        moved = range(first, first + step * len(xs), step)
        if all(_allowed(x, runs, axis) for x in (moved[0], at, moved[-1])):
            return f"{key}=range({moved.start},{moved.stop},{moved.step})"
    around = sorted({max(1, round(factor * threshold)) for factor in AROUND})
    taken = [x for x in around if _allowed(x, runs, axis)]
    return f"{key}={','.join(map(str, taken))}" if at in taken else ""


def _allowed(x: int, runs: Sequence[Run], axis: str) -> bool:
    """Whether a width is one that the model takes (``linear`` has no more than inputs), a number one of the data."""
    for run in runs[:1]:
        changed = run.replace(**{axis: x})
        try:
            if axis == "width":
                changed.model.check(changed, lambda key: "")
            else:
                changed.data.check(changed, lambda key: "")
        except ConfigError:
            return False
        if axis == "n_train" and run.batch_size is not None and run.batch_size != run.n_train:
            return x >= run.batch_size
    return True


def _cure(
    summary: Summary, flat: Sequence[Line], runs: Sequence[Run], settings: Settings, command: str, better: str
) -> list[str]:
    """Why nothing rises, and the command of a sweep that has a rise."""
    trained = [run for run in runs if not run.optimizer.closed_form]
    of_limit = [line for line in summary.limits if line.rises]
    if not trained:
        if all(run.optimizer.name == "min_norm" for run in runs):
            return _noise(runs, command, better)
        return _try("the closed form is damped; without damping:", ["optimizer=min_norm"], command, better)
    lowest = min((line.lowest[0] for line in flat if line.lowest), default=math.nan)
    if summary.axis == "n_train":  # test loss falls with the samples: a rise is over the valley before the threshold
        lowest = min((line.valley for line in flat if not math.isnan(line.valley)), default=lowest)
    at = next((line.threshold for line in flat if line.threshold is not None), None)
    found = by_steps(trained, settings, lowest, round(at) if at is not None and summary.axis == "n_train" else None)
    key = NAMES[summary.axis][0]
    if found:
        text = (
            f"gradient descent on full batches for {number(found.steps)} steps reaches train loss "
            f"{number(found.train, 2)} at {key} {found.x}, test loss {number(found.test)}:"
        )
        overrides = ["optimizer=gd", "batch_size=full", f"steps={number(found.steps)}"]
        return _try(text, overrides, command, better)
    if of_limit:
        top = max(of_limit, key=lambda line: line.ratio)
        text = f"the min-norm limit, which more steps approach, rises x{top.ratio:.3g} at {key} {top.x}:"
        return _try(text, ["optimizer=min_norm"], command, better)
    if all(line.train > FITTED for line in flat if not math.isnan(line.train)):
        epochs = max(run.epochs or 0 for run in trained)
        return _try("the training set is not fitted; more training may bring a rise:", [f"epochs={10 * epochs:.0f}"],
                    command, better)  # fmt: skip
    return _noise(runs, command, better)


def _noise(runs: Sequence[Run], command: str, better: str) -> list[str]:
    """Label noise, which makes what is fitted exactly err."""
    if not all(run.classification and run.label_noise == 0 for run in runs):
        return []
    return _try("label noise makes a rise likelier:", ["data.label_noise=0.2"], command, better)


def _try(text: str, overrides: Sequence[str], command: str, better: str) -> list[str]:
    """A sentence, and the command of the same sweep with some overrides."""
    added = [better] * bool(better) + [*overrides]
    typed = shlex.split(command)[len(shlex.split(command_of([]))) :]
    if not typed or any(argument.lstrip("+").startswith("experiment=") for argument in typed):
        return [text, f"  {' '.join(added)}"]  # what a preset sweeps may be any key
    changed = {argument.partition("=")[0] for argument in added}
    dropped = OF_TRAINING if "optimizer" in changed else ("epochs", "steps") if "epochs" in changed else ()
    kept = [one for one in typed if _root(one) not in (*dropped, *changed) and one.partition("=")[0] not in changed]
    return [text, f"  {command_of([*kept, *added])}"]


def _root(argument: str) -> str:
    """The first part of an override's key, if it is one of how a run is trained."""
    root = argument.partition("=")[0].lstrip("+~").partition(".")[0]
    return root if root in OF_TRAINING else ""


@dataclass(frozen=True)
class Found:
    """What gradient descent reaches at the threshold.

    Attributes:
        x: width there, or number of training samples.
        steps: of gradient descent.
        train: train loss.
        test: test loss.
    """

    x: int
    steps: int
    train: float
    test: float


@neutral()
def by_steps(runs: Iterable[Run], settings: Settings, lowest: float, samples: int | None = None) -> Found | None:
    """Gradient descent at the threshold of a sweep, exactly and in a moment; None where it takes more, or helps not.

    Args:
        runs: of a sweep, trained by steps.
        settings: of the sweep.
        lowest: its lowest test loss, or that of a valley.
        samples: threshold of a sweep along the number of training samples; None: of one along the width.

    Returns:
        The shortest budget whose test loss is :data:`CLEAR` times as high; else the highest that rises at all.
    """
    for run in runs:
        if not (run.linear and run.loss == "mse") or run.n_validation:
            continue
        tried = descents(run, samples)
        settings = replace(settings, measure_name="none", measure_predictions=False, trainer="auto", device="cpu")
        axis = "width" if samples is None else "n_train"
        at = tried[0].width if samples is None else samples
        if not _allowed(at, tried, axis):
            return None
        packs = plan(tried, place_of(settings))
        if sum(pack.seconds for pack in packs) > PATIENCE:
            return None
        solved = Solved()
        try:
            for pack in packs:
                solve(pack, settings, solved)
        except (DDError, MemoryError):
            return None  # the sweep is done, whatever happens here
        rows = sorted((row for row in solved.rows if row["status"] == "ok"), key=lambda row: _loss(row, "steps"))
        clear = [row for row in rows if _loss(row, "test_loss") >= CLEAR * lowest]
        best = clear[0] if clear else max(rows, key=lambda row: _loss(row, "test_loss"), default=None)
        if best is None or not _loss(best, "test_loss") > 1.1 * lowest:
            return None
        return Found(at, int(_loss(best, "steps")), _loss(best, "train_loss"), _loss(best, "test_loss"))
    return None


def _loss(row: Row, column: str) -> float:
    value = row[column]
    return float(value) if isinstance(value, int | float) else math.nan


def descents(run: Run, samples: int | None = None) -> list[Run]:
    """Gradient descent on the problem of a run at its threshold, for each budget, as ``optimizer=gd`` has it.

    Args:
        run: whose width, or number of training samples, is replaced.
        samples: at the threshold of its width; None: its width becomes the one at the threshold.
    """
    content = content_of(conf_dir() / "optimizer" / "gd.yaml")
    lr, unit = content["lr"], content["lr_unit"]
    if samples is None:
        run = run.replace(width=max(1, round(run.model.interpolation_width(run, run.data.input_count, run.outputs))))
    else:
        run = run.replace(n_train=max(1, samples))
    return [
        run.replace(
            optimizer=GD(), schedule=Constant(), lr=lr, lr_unit=unit, batch_size=run.n_train, steps=steps,
            stop_loss=None, solver="exact", dtype="float64",
        )
        for steps in STEPS
    ]  # fmt: skip
