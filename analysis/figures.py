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
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from analysis import claim, conditions, decomposition, experiments, explorer, peaks, report
from analysis.cards import Section
from analysis.curves import x_axis
from analysis.decomposition import NotCrossed, decompose
from analysis.labels import QUANTITIES
from analysis.layout import layout_of
from analysis.names import file_stem
from analysis.processes import processes
from analysis.scatter import steps_needed
from analysis.setups import FEW_X, draw_card, draw_paper, draw_table
from analysis.style import Look
from analysis.tables import UnreadableTable, curve_rows, environments, load_curves, load_runs, table_names
from analysis.tex import FormatError

STEPS_LEVEL = 1e-3
"""Train loss that the figure of steps needed is about."""

MOST = 8
"""Processes at most, unless more are asked for: each may take a gigabyte."""

NO_RESULTS = """\
no tables in {folder}/. These commands make some:
    make sweep                                                         the main job, with its figure
    python -m dd.run -m 'width=range(10,2000,50)' optimizer=sgd,adam   the same by hand; then: make figures"""

COLUMN, NARROWEST, WIDEST = 3.25, 2.5, 12.0
"""Widths of a figure for print, inches: by default, at least, at most."""

FORMATS = ("pdf", "svg", "pgf")

Result = TypeVar("Result")


def draw_one(results: Path, name: str, folder: Path) -> tuple[Section, float]:
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
    card = draw_card(rows, name, folder, curves)
    if (results / name / "predictions").is_dir():
        with suppress(NotCrossed):
            drawings += decomposition.draw_table(decompose(results, name), name, folder)
    found = judged(rows, curves)
    csv = folder / f"{file_stem(name, {'peaks': ''})}.csv"
    found.to_csv(csv, index=False)
    explored = explorer.packed(name, rows, curves)
    section = Section(name, rows, drawings, found, environments(results, name), card, explored, csv)
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
    paper = parser.add_argument_group("for print", "the panels of every table, and nothing else")
    paper.add_argument("--for", dest="purpose", choices=("screen", "paper"), default="screen", help="default: screen")
    paper.add_argument("--width", type=_inches, help="of a figure, inches; default: 3.25, a column of most journals")
    paper.add_argument("--panels", type=_panels, help=f"with commas between them, of {', '.join(QUANTITIES)}")
    paper.add_argument("--no-title", action="store_true", help="nothing above the panels")
    paper.add_argument("--format", choices=FORMATS, help="default: pdf")
    options = parser.parse_args(arguments)
    results, folder = options.results, options.out
    of_paper = [o for o in ("width", "panels", "no_title", "format") if getattr(options, o)]
    if of_paper and options.purpose != "paper":
        parser.error(f"--{of_paper[0].replace('_', '-')} belongs to --for paper")
    names = [n for n in table_names(results) if not options.name or n in options.name]
    if not names:
        print(NO_RESULTS.format(folder=results), file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    if options.purpose == "paper":
        look = Look(options.width or COLUMN, options.panels, not options.no_title)
        return _for_paper(results, names, folder, look, options.format or FORMATS[0])
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


def _for_paper(results: Path, names: Sequence[str], folder: Path, look: Look, suffix: str) -> int:
    """Draw tables for print; returns 0, or 1 where one has nothing to draw or cannot be read."""
    status = 0
    for name in names:
        try:
            rows = load_runs(results, name)
            curves = None if layout_of(rows).crowded else curve_rows(results, name, rows)
            written = draw_paper(rows, name, folder, look, suffix, curves)
        except (UnreadableTable, FormatError) as error:
            print(f"figures: {error}", file=sys.stderr)
            return 1
        for path, caption in written:
            print(f"{path}\n  {caption}")
        if not written:
            wanted = f"with {' or '.join(look.panels)}" if look.panels else "to draw"
            print(f"figures: {name} has no finished run {wanted}", file=sys.stderr)
            status = 1
    return status


def _inches(text: str) -> float:
    width = float(text)
    if not NARROWEST <= width <= WIDEST:
        raise argparse.ArgumentTypeError(f"{text} is no width from {NARROWEST} to {WIDEST} inches")
    return width


def _panels(text: str) -> tuple[str, ...]:
    panels = tuple(text.split(","))
    for name in panels:
        if name not in QUANTITIES:
            raise argparse.ArgumentTypeError(f"{name!r} is no panel; there are {', '.join(QUANTITIES)}")
    return panels


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


def _print(section: Section, seconds: float) -> None:
    """Say which figures a table has."""
    count = len(section.drawings)
    words = f"{count} figure{'s' if count > 1 else ''}" if count else "no finished run to draw"
    print(f"{section.name}: {words}, {seconds:.1f} s", flush=True)
    for path in (path for drawing in section.drawings for path in drawing.files):
        print(f"  {path}")


def _write_report(folder: Path, sections: Sequence[Section], findings: report.Findings) -> None:
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
