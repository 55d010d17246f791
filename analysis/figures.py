"""``make figures``: every table of results/ drawn, and the report ``index.html`` over all of them.

Reads parquet only, and for the theory beside random features the data sets that are at hand.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from analysis import claim, conditions, decomposition, experiments, peaks, report, stopping
from analysis.budgets import draw_budgets
from analysis.bundle import draw_bundle
from analysis.conditioning import draw_conditioning, has_conditioning
from analysis.curves import LINE_AXES, PANEL_AXES, split, varying_axes, x_axis
from analysis.decomposition import NotCrossed, decompose
from analysis.effective import draw_effective, has_effective
from analysis.labels import OWN_SETTINGS, legend_of, plain, title_of, x_title
from analysis.maps import LEVEL, draw_maps, longest, map_of
from analysis.names import file_stem
from analysis.panels import draw, has_theory
from analysis.peaks import BUDGETS
from analysis.processes import processes
from analysis.scatter import steps_needed
from analysis.style import SHEET, Drawing, save
from analysis.tables import UnreadableTable, curve_rows, environments, load_curves, load_runs, table_names
from analysis.tuning import TUNING_CAPTION, draw_tuning, has_tuning

MAX_LINES = 8
"""More lines than this are spread over several figures."""

CROWD = 24
"""More lines of one set-up than this, or as many set-ups, are drawn as a bundle."""

MAX_COLUMNS = 4
"""More settings than this are spread over several figures of budgets."""

FEW_BUDGETS = 3
"""From so many budgets on, a crossing with a few settings has figures whose lines are budgets."""

MAX_MAPS = 6
"""More heat maps of one set-up than this are not drawn."""

PRIMARY_AXES = ("model", "data", "n_train", "label_noise", "loss")
"""Axes that divide the figures of a crowded table; all others are curves of its bundles."""

FEW_X = 6
"""Up to so many widths have a figure against epochs; as many as this have a heat map."""

EFFECTIVE_CAPTION = (
    "The same against effective parameters, n times the mean squared norm of the weights that a prediction gives to "
    "the training targets (Curth, Jeffares & van der Schaar 2023): medians over seeds, a point a width."
)

CONDITIONING_CAPTION = (
    "Test loss, condition numbers of the features and of the tangent kernel, and the largest eigenvalue of the Hessian "
    "(its Gauss-Newton part): medians and 10-90 % bands over seeds. Solid: at the end of training. Dashed: at its "
    "start."
)

STEPS_LEVEL = 1e-3
"""Train loss that the figure of steps needed is about."""

MOST = 8
"""Processes at most, unless more are asked for: each may take a gigabyte."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

NO_RESULTS = """\
no tables in {folder}/. These commands make some:
    make sweep                                                         the main job, with its figure
    python -m dd.run -m 'width=range(10,2000,50)' optimizer=sgd,adam   the same by hand; then: make figures"""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Layout:
    """How the rows of a table become figures.

    Attributes:
        x: column that the curves run over.
        panel_axes: axes whose values have figures of their own.
        line_axes: axes whose combinations are lines.
        crowded: whether there are too many lines for a legend.
    """

    x: str
    panel_axes: list[str]
    line_axes: list[str]
    crowded: bool


def layout_of(rows: pd.DataFrame) -> Layout:
    """Decide what is x, what a figure, what a line."""
    x = x_axis(rows)
    panel_axes = [a for a in varying_axes(rows, PANEL_AXES, ("model_", "data_")) if a != x]
    line_axes = _line_axes(rows, x)
    parts = [members for _, members in split(rows, panel_axes)]
    lines = max(len(p[line_axes].drop_duplicates()) if line_axes else 1 for p in parts)
    if lines > CROWD or len(parts) > CROWD:
        primary = [a for a in panel_axes if a in PRIMARY_AXES]
        return Layout(x, primary, [a for a in panel_axes if a not in primary] + line_axes, True)
    if rows["optimizer"].nunique() == 1 and not line_axes:
        line_axes = ["optimizer"]
    return Layout(x, panel_axes, line_axes, False)


def _line_axes(rows: pd.DataFrame, x: str) -> list[str]:
    """Axes whose combinations are lines; a budget that is named in epochs is counted in them."""
    within = rows.groupby("optimizer", dropna=False)
    steps, epochs = (within[c].nunique(dropna=False).max() for c in ("steps", "epochs"))
    core = tuple("epochs" if a == "steps" and epochs < steps else a for a in LINE_AXES)
    found = [a for a in varying_axes(rows, core, ("optimizer_", "schedule_", "normalization_", "init_")) if a != x]
    if x == "n_train" or "validation" in found:
        # a full batch grows along the curve, and is smaller where samples are held out
        same = [a for a in ("optimizer", "n_train", "validation") if a in rows]
        sizes = rows.groupby(same, dropna=False)["batch_size"].nunique(dropna=False)
        found = [a for a in found if a != "batch_size" or sizes.max() > 1]
    return found


def draw_table(rows: pd.DataFrame, name: str, folder: Path, curves: pd.DataFrame | None = None) -> list[Drawing]:
    """Draw every set-up of one table, PNG and PDF of each figure.

    Args:
        rows: the table's runs.
        name: the table, which the files' names begin with.
        folder: where the files go.
        curves: logged steps with their runs' columns; they give heat maps and figures against epochs.
    """
    layout = layout_of(rows)
    drawn: list[Drawing] = []
    with plt.style.context(SHEET):
        for fixed, members in split(rows, layout.panel_axes):
            if not (members["status"] == "ok").any():
                continue
            for kind, figure, caption in _figures(members, layout, _within(curves, fixed)):
                stem = folder / file_stem(name, fixed | kind)
                drawn.append(Drawing(save(figure, stem), f"{caption} {OWN_SETTINGS}"))
    return drawn


def _within(curves: pd.DataFrame | None, values: Mapping[str, object]) -> pd.DataFrame:
    """Logged steps of the runs that have these values."""
    if curves is None or curves.empty:
        return pd.DataFrame()
    chosen = curves
    for key, value in values.items():
        if key in curves:  # a column without any value is not carried
            chosen = chosen[chosen[key].isna() if pd.isna(value) else chosen[key] == value]
    return chosen


Piece = tuple[dict[str, object], Figure, str]


def _figures(rows: pd.DataFrame, layout: Layout, curves: pd.DataFrame) -> Iterator[Piece]:
    """All figures of one set-up: what their file names say, the figure, its caption."""
    title = title_of(rows, layout.x)
    if layout.crowded:
        yield (
            {},
            draw_bundle(rows, title, layout.line_axes, layout.x),
            (
                f"Every curve of this crossing against {x_title(rows, layout.x)}, medians over seeds, coloured by its "
                "train loss at the threshold; grey where that is not known."
            ),
        )
        yield from _budget_figures(rows, title, layout)
        return
    own = [a for a in layout.line_axes if a == "optimizer" or rows[a].nunique(dropna=False) > 1]
    if len(rows[own].drop_duplicates()) > MAX_LINES:
        yield from _budget_figures(rows, title, layout)
    for more, part in _within_limit(rows, own):
        if (part["status"] == "ok").any():
            left = [a for a in own if a not in more] or ["optimizer"]
            fixed = f"{title}, {legend_of(more)}" if more else title
            figure = draw(part, fixed, left, layout.x)
            yield more, figure, _panel_caption(part, layout.x, more, theory=has_theory(figure))
            if layout.x == "width" and has_effective(part):
                yield more | {"effective": ""}, draw_effective(part, fixed, left), EFFECTIVE_CAPTION
            if stopping.has_stopping(part, left):
                yield more | {"stopping": ""}, stopping.draw_stopping(part, fixed, left, layout.x), stopping.CAPTION
            if has_conditioning(part):
                yield more | {"conditioning": ""}, draw_conditioning(part, fixed, left, layout.x), CONDITIONING_CAPTION
    if layout.x == "width" and "optimizer_penalty" in own and rows["width"].nunique() > 1:
        yield from _penalty_maps(rows, title, [a for a in own if a != "optimizer_penalty"])
    if has_tuning(curves, own):
        yield {"tuning": ""}, draw_tuning(curves, title, layout.x), TUNING_CAPTION
    if len(curves) and layout.x == "width":
        yield from _epoch_figures(curves, title, own)


def _budget_figures(rows: pd.DataFrame, title: str, layout: Layout) -> Iterator[Piece]:
    """Lines are budgets, columns all else, where that is a few settings at several budgets."""
    varying = [a for a in layout.line_axes if rows[a].nunique(dropna=False) > 1]
    budget = next((a for a in varying if a in BUDGETS), None)
    settings = [a for a in varying if a != budget]
    if budget is None or rows[budget].isna().any() or rows[budget].nunique() < FEW_BUDGETS:
        return
    if not settings or len(rows[settings].drop_duplicates()) > MAX_LINES:
        return
    for more, part in _within_limit(rows, settings, MAX_COLUMNS):
        if (part["status"] == "ok").any():
            left = [a for a in settings if a not in more] or settings
            fixed = f"{title}, {legend_of(more)}" if more else title
            yield (
                more | {"budgets": ""},
                draw_budgets(part, fixed, budget, left, layout.x),
                (
                    f"Test error, test loss and train loss against {x_title(part, layout.x)}, a line a budget: medians "
                    "and 10-90 % bands over seeds. Dotted: where the model can just fit the training set."
                ),
            )


def _panel_caption(rows: pd.DataFrame, x: str, more: Mapping[str, object], *, theory: bool) -> str:
    text = f"Test error, test loss, train loss and condition number of the features against {x_title(rows, x)}"
    text += f" ({legend_of(more)}): " if more else ": "
    text += "medians and 10-90 % bands over seeds. Dotted: where the model can just fit the training set."
    if set(rows["optimizer"]) != {"min_norm"} and rows["min_norm_test_loss"].notna().any():
        text += " Dashed: the minimum-norm solution on the same features."
    if theory:
        text += " Dash-dotted: random-matrix theory, with nothing fitted."
    return text


def _penalty_maps(rows: pd.DataFrame, title: str, others: list[str]) -> Iterator[Piece]:
    swept = rows[rows["optimizer_penalty"] > 0]
    column = "test_error" if swept["test_error"].notna().any() else "test_loss"
    maps = [
        map_of(part, column, "optimizer_penalty", legend_of(values) if values else "")
        for values, part in split(swept, [a for a in others if swept[a].nunique(dropna=False) > 1])
        if (part["status"] == "ok").any() and part["optimizer_penalty"].nunique() > 1
    ]
    if 0 < len(maps) <= MAX_MAPS:
        yield (
            {"map": ""},
            draw_maps(maps, title, column, "optimizer_penalty"),
            (
                f"Median {column.replace('_', ' ')} over width and ridge penalty. "
                f"White: where the median train loss is {plain(LEVEL)}."
            ),
        )


def _epoch_figures(curves: pd.DataFrame, title: str, own: list[str]) -> Iterator[Piece]:
    """Against epochs where there are few widths, heat maps where there are several."""
    axes = [a for a in own if a not in ("steps", "epochs") and a in curves]
    finished = longest(curves[curves["status"] == "ok"], axes)
    finished = finished[finished["epoch"] > 0]
    if finished.empty or finished.groupby([*axes, "width"], dropna=False)["epoch"].nunique().min() < 5:
        return
    widths = finished["width"].nunique()
    lines = [*axes, "width"] if widths > 1 else axes or ["optimizer"]
    if widths <= FEW_X and len(finished[lines].drop_duplicates()) <= MAX_LINES:
        shown = [a for a in lines if finished[a].nunique(dropna=False) > 1] or ["width"]
        yield (
            {"epochs": ""},
            draw(finished, title, shown, "epoch"),
            (
                "Along training: test error, test loss, train loss and train error against epochs, medians and 10-90 % "
                "bands over seeds."
            ),
        )
    parts = [(v, p) for v, p in split(finished, axes) if p["width"].nunique() >= min(FEW_X, 5)]
    if 0 < len(parts) <= MAX_MAPS:
        column = "test_error" if finished["test_error"].notna().any() else "test_loss"
        maps = [map_of(part, column, "epoch", legend_of(values) if values else "") for values, part in parts]
        yield (
            {"map": ""},
            draw_maps(maps, title, column, "epoch"),
            (
                f"Median {column.replace('_', ' ')} over width and epoch, from the logged steps of the longest runs. "
                f"White: where the median train loss is {plain(LEVEL)}."
            ),
        )


def _within_limit(
    rows: pd.DataFrame, axes: list[str], most: int = MAX_LINES
) -> list[tuple[dict[str, object], pd.DataFrame]]:
    """Split rows, by budgets first, until each figure has at most so many lines."""
    order = sorted(axes, key=lambda axis: axis not in BUDGETS)  # optimizers are compared at equal budgets
    for count in range(len(order) + 1):
        parts = list(split(rows, order[:count]))
        rest = order[count:]
        if not rest or all(part[rest].drop_duplicates().shape[0] <= most for _, part in parts):
            return parts
    raise AssertionError("unreachable: no axis is left")


def draw_one(results: Path, name: str, folder: Path) -> tuple[report.Section, float]:
    """Load one table, draw it and judge its peaks in test loss and, with classes, test error.

    Returns:
        What the report says of it, and the seconds that this took.

    Raises:
        UnreadableTable: naming the file.
    """
    start = time.perf_counter()
    rows = load_runs(results, name)
    # logged steps of a large crossing would fill the memory, and no figure shows them
    curves = None if layout_of(rows).crowded else curve_rows(results, name, rows)
    drawings = draw_table(rows, name, folder, curves)
    if (results / name / "predictions").is_dir():
        with suppress(NotCrossed):
            drawings += decomposition.draw_table(decompose(results, name), name, folder)
    section = report.Section(name, rows, drawings, judged(rows, curves), environments(results, name))
    return section, time.perf_counter() - start


def judged(rows: pd.DataFrame, curves: pd.DataFrame | None) -> pd.DataFrame:
    """Peaks of a table along its x; along epochs too, where it has few widths."""
    metrics = ["test_loss", *(["test_error"] if rows["test_error"].notna().any() else [])]
    found = [peaks.table(rows, x_axis(rows), metrics)]
    if curves is not None and len(curves) and rows["width"].nunique() <= FEW_X:
        found.append(peaks.table(curves, "epoch", metrics))
    return pd.concat([f for f in found if len(f)] or found[:1], ignore_index=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw every table; returns 0, or 1 with a message where there is nothing to draw or a table cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m analysis.figures", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the tables")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder for the figures and the report")
    parser.add_argument("--name", nargs="*", help="tables to draw; all by default, and then the report is written")
    parser.add_argument("--jobs", type=int, default=min(MOST, os.cpu_count() or 1), help="processes that draw")
    options = parser.parse_args(arguments)
    results, folder = options.results, options.out
    names = [n for n in table_names(results) if not options.name or n in options.name]
    if not names:
        print(NO_RESULTS.format(folder=results), file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    sections = []
    with processes(min(options.jobs, len(names))) as begin:
        # over all tables, and so the longest: it comes first
        findings = None if options.name else begin(partial(findings_of, results, names))
        for name, drawn in [(name, begin(partial(draw_one, results, name, folder))) for name in names]:
            if (found := _told(name, drawn)) is not None:
                sections.append(found[0])
                _print(*found)
        if len(sections) < len(names):
            return 1
        if findings is not None:
            if (over_all := _told("the report", findings)) is None:
                return 1
            _write_report(folder, sections, over_all)
    return 0


def _told(name: str, result: Callable[[], Result]) -> Result | None:
    """A result; None, and why on standard error, where there is none: one table must not take the others with it."""
    try:
        return result()
    except UnreadableTable as error:
        print(f"figures: {error}", file=sys.stderr)
    except BrokenExecutor:  # no process is left for the others
        raise
    except Exception:
        print(f"figures: {name} failed", file=sys.stderr)
        traceback.print_exc()
    return None


def _print(section: report.Section, seconds: float) -> None:
    """Say which figures a table has."""
    count = len(section.drawings)
    words = f"{count} figure{'s' if count > 1 else ''}" if count else "no finished run to draw"
    print(f"{section.name}: {words}, {seconds:.1f} s", flush=True)
    for path in (path for drawing in section.drawings for path in drawing.files):
        print(f"  {path}")


def _write_report(folder: Path, sections: Sequence[report.Section], findings: report.Findings) -> None:
    """The page over all tables, and what it says as CSV; the verdict goes to the terminal, too."""
    every = pd.concat([s.peaks.assign(table=s.name) for s in sections if s.peaks is not None], ignore_index=True)
    every.to_csv(folder / "peaks.csv", index=False)
    findings.conditions.to_csv(folder / "conditions.csv", index=False)
    compared = [v.rivals.assign(family=v.family) for v in findings.verdicts if len(v.rivals)]
    if compared:
        pd.concat(compared, ignore_index=True).to_csv(folder / "rivals.csv", index=False)
    for verdict in findings.verdicts:
        print(f"{verdict.family}: {verdict.text}")
    print(report.write(folder, sections, findings))


def findings_of(results: Path, names: Sequence[str]) -> report.Findings:
    """Verdict, conditions and steps needed, from those of the tables that belong to the study.

    Raises:
        UnreadableTable: naming the file.
    """
    tables = {name: load_runs(results, name) for name in names if experiments.of_the_study(name)}
    found = conditions.of_the_study(tables)
    judged = claim.verdicts(found)
    firsts = [(v.conditions.iloc[0], v.l50) for v in judged]
    half = {(first["family"], bool(first["noisy"])): l50 for first, l50 in firsts if np.isfinite(l50)}
    needed = []
    for name, rows in tables.items():
        logged = load_curves(results, name, ["run_id", "step", "train_loss"])
        needed.append(steps_needed(rows, logged, STEPS_LEVEL))
    needed = [frame for frame in needed if len(frame)]
    steps = pd.concat(needed, ignore_index=True).drop_duplicates("run_id") if needed else pd.DataFrame()
    return report.Findings(judged, found, half, steps, STEPS_LEVEL)


if __name__ == "__main__":
    for stream in filter(None, (sys.stdout, sys.stderr)):
        if isinstance(stream, io.TextIOWrapper):  # an encoding that lacks a character of a table's name
            stream.reconfigure(errors="replace")
    sys.exit(main())
