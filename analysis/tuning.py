"""Tuning on samples held out: what they choose of learning rates, weight decays and steps, and the peak that is left.

``python -m analysis.tuning`` prints the numbers behind the figure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import peaks
from analysis.curves import LINE_AXES, PANEL_AXES, SEEDS, band, split, thresholds, varying_axes, x_axis
from analysis.labels import QUANTITIES, over_seeds, title_of, x_title
from analysis.panels import draw_band, x_limits
from analysis.style import MARKERS, below_handles, colours, log_ticks, mark_below, mark_thresholds, set_limits, subplots
from analysis.tables import UnreadableTable, curve_rows, load_runs, table_names

LR, DECAY, STEP = "lr", "optimizer_weight_decay", "step"

METRICS = ("test_loss", "test_error")

OPTIONS = ("optimizer_", "schedule_", "normalization_", "init_")
"""What options of lines begin with."""

JUDGED = ("decision", "location", "prominence", "prominence_bound", "p_value", "seeds")
"""What is printed of a peak."""

TUNING_CAPTION = (
    "A line for each thing that samples held out choose for each width and seed: nothing (the learning rate that fits "
    "best, no weight decay, the end of training), one of learning rate, weight decay and number of steps, or all "
    "three. The last line has the test loss itself choose all three, which no held-out sample can beat."
)


@dataclass(frozen=True)
class Choice:
    """What is chosen for each width and seed, and by which loss.

    Attributes:
        name: in legends and tables.
        free: what is chosen among all that was tried, of ``LR``, ``DECAY`` and ``STEP``. The others stay untuned.
        by: the column whose lowest value decides.
    """

    name: str
    free: tuple[str, ...]
    by: str = "validation_loss"


CHOICES = (
    Choice("untuned", ()),
    Choice("learning rate", (LR,)),
    Choice("weight decay", (DECAY,)),
    Choice("early stopping", (STEP,)),
    Choice("all three", (LR, DECAY, STEP)),
    Choice("all three, by the test loss", (LR, DECAY, STEP), "test_loss"),
)


def has_tuning(logged: pd.DataFrame, line_axes: Collection[str]) -> bool:
    """Whether learning rates are crossed with weight decays and nothing else, all with samples held out.

    Args:
        logged: logged steps of the runs, as :func:`chosen` takes them.
        line_axes: axes that the runs differ in beside width and seeds.
    """
    held = "validation_loss" in logged and len(logged) and logged["validation_loss"].notna().all()
    return bool(held) and set(line_axes) == {LR, DECAY}


def chosen(logged: pd.DataFrame, choice: Choice, x: str = "width") -> pd.DataFrame:
    """The logged state that is chosen for each x and seed.

    What is not free stays untuned: the learning rate of the lowest median train loss at the end among runs of the
    smallest weight decay, that weight decay, and the end of training. Runs that diverged are never chosen, and their
    train loss counts as infinite; where all have diverged, there is no row.

    Args:
        logged: logged steps that differ in x, seeds, learning rate, weight decay and step only, a row for each run and
            step, as ``tables.curve_rows`` gives them.
        choice: what is chosen.
        x: column that the curves run over.

    Returns:
        Rows of ``logged``, at most one for each x and seed; of equal losses the earliest step. Test losses are those
        of the curves, which may be of fewer samples than the test set has (docs/columns.md).
    """
    good, least = logged["status"] == "ok", logged[DECAY] == logged[DECAY].min()
    last = logged[STEP] == logged.groupby("run_id")[STEP].transform("max")
    allowed = good.copy()
    if LR not in choice.free:
        fit = logged["train_loss"].where(good, np.inf)[last & least]
        allowed &= logged[LR] == fit.groupby(logged[LR]).median().idxmin()
    if DECAY not in choice.free:
        allowed &= least
    if STEP not in choice.free:
        allowed &= last
    seeds = [c for c in (*SEEDS, "test_seed") if c in logged]  # nulls are equal to each other here
    ordered = logged[allowed].sort_values([choice.by, STEP], kind="stable")
    return ordered.drop_duplicates([x, *seeds]).sort_values([x, *seeds])


def judged(logged: pd.DataFrame, x: str = "width") -> pd.DataFrame:
    """Peaks of the curves that each choice leaves.

    Args:
        logged: see :func:`chosen`.
        x: column that the curves run over.

    Returns:
        The rows of ``peaks.table``, one a choice and metric, with the column ``choice``.
    """
    metrics = [c for c in METRICS if logged[c].notna().any()]
    # a curve has one condition: what was chosen along it is none of its axes
    rows = {c.name: chosen(logged, c, x).assign(**{LR: np.nan, DECAY: np.nan}) for c in CHOICES}
    return pd.concat([peaks.table(r, x, metrics).assign(choice=name) for name, r in rows.items()], ignore_index=True)


def medians(logged: pd.DataFrame, x: str = "width") -> pd.DataFrame:
    """Medians over seeds of what each choice gives and takes.

    Args:
        logged: see :func:`chosen`.
        x: column that the curves run over.

    Returns:
        A row for each choice and x, in this order, with ``test_loss``, ``test_error``, and the ``lr``,
        ``optimizer_weight_decay`` and ``step`` that were chosen.
    """
    columns = [*METRICS, LR, DECAY, STEP]
    parts = {c.name: chosen(logged, c, x).groupby(x)[columns].median() for c in CHOICES}
    return pd.concat(parts, names=["choice"]).reset_index()


def draw_tuning(logged: pd.DataFrame, title: str, x: str = "width") -> Figure:
    """Draw test loss and test error along x, a line a choice.

    Args:
        logged: see :func:`chosen`.
        title: what is fixed.
        x: column that the curves run over.
    """
    columns = [c for c in METRICS if logged[c].notna().any()]
    tones = colours([{"choice": c.name} for c in CHOICES])
    rows = [chosen(logged, c, x) for c in CHOICES]
    figure, grid = subplots(1, len(columns), figsize=(3.5 * len(columns), 3.4))
    low, high = x_limits(logged[x])
    seeds = 0
    for ax, column in zip(grid[0], columns, strict=True):
        seen = []
        bands = [band(members, column, x) for members in rows]
        for tone, marker, data in zip(tones, MARKERS, bands, strict=False):
            draw_band(ax, data, tone, marker)
            seen += [data.low, data.high]
            seeds = max(seeds, data.seeds)
        ax.set(xscale="log", yscale="log", xlabel=x_title(logged, x), ylabel=QUANTITIES[column], xlim=(low, high))
        set_limits(ax, seen)
        for data, tone in zip(bands, tones, strict=True):
            mark_below(ax, data.x, data.median, tone)
        mark_thresholds(ax, thresholds(logged, x), named=True)
        log_ticks(ax.xaxis, low, high)
        log_ticks(ax.yaxis, *ax.get_ylim())
    names = [c.name for c in CHOICES]
    handles = [
        Line2D([], [], color=tone, marker=marker, label=name)
        for tone, marker, name in zip(tones, MARKERS, names, strict=False)
    ]
    handles += below_handles(figure)
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    figure.suptitle(f"{title}\n{over_seeds(seeds)}", fontsize=8)
    return figure


def settings(results: Path, name: str) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Set-ups of a table in which :func:`has_tuning` holds: what is fixed, in words; x; logged steps.

    Raises:
        UnreadableTable: naming the file.
    """
    runs = load_runs(results, name)
    x = x_axis(runs)
    lines = [a for a in varying_axes(runs, LINE_AXES, OPTIONS) if a != x]
    if set(lines) != {LR, DECAY}:  # without a look at the logged steps
        return
    logged = curve_rows(results, name, runs)
    panels = [a for a in varying_axes(runs, PANEL_AXES, ("model_", "data_")) if a != x]
    if has_tuning(logged, lines):
        for _, part in split(logged, panels):
            yield title_of(part, x), x, part


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what tuning leaves of each peak, and the medians behind it; returns 0, or 1 where no table has it."""
    parser = argparse.ArgumentParser(prog="python -m analysis.tuning", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the tables")
    parser.add_argument("--name", nargs="*", help="tables; by default all that cross learning rates with weight decays")
    options = parser.parse_args(arguments)
    found = 0
    try:
        for name in table_names(options.results) if options.name is None else options.name:
            for title, x, logged in settings(options.results, name):
                found += 1
                told = judged(logged, x)[["choice", "metric", *JUDGED]]
                print(f"{name}: {title}\n{_text(told)}\n\n{_text(medians(logged, x))}\n")
    except UnreadableTable as error:
        print(f"tuning: {error}", file=sys.stderr)
        return 1
    if not found:
        print(f"tuning: no table in {options.results}/ crosses learning rates with weight decays alone, with samples "
              "held out; python -m dd.run -m +experiment=tuned_nets makes one", file=sys.stderr)  # fmt: skip
    return 0 if found else 1


def _text(frame: pd.DataFrame) -> str:
    return frame.to_string(index=False, float_format=lambda number: f"{number:.3g}")


if __name__ == "__main__":
    sys.exit(main())
