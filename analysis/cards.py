"""A card of the report: the question of an experiment, its answer, one panel, and all else folded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import answers, experiments, page
from analysis.commands import Settings, made_by, settings_of
from analysis.curves import FLOOR, SEEDS, axis_columns, x_axis
from analysis.labels import AXIS_TITLES, at_most, axis_text, levels_text, plain
from analysis.style import Drawing

PEAK_COLUMNS = {
    "condition": "condition",
    "metric": "of",
    "decision": "decision",
    "location": "{x} of the peak [95 % interval]",
    "prominence": "height over both valleys [95 % interval]",
    "train_loss_at_threshold": "train loss at threshold",
    "diverged": "diverged",
}

Show = Callable[[Drawing, str], str]
"""A figure as a piece of the page; the words are what its alternative text begins with."""


@dataclass(frozen=True)
class Section:
    """One experiment.

    Attributes:
        name: the table.
        rows: its runs.
        drawings: its figures.
        peaks: one row a curve (``analysis.peaks.table``); None if none was judged.
        environments: what it was computed with (``analysis.tables.environments``).
        card: the panel that stands for it.
        explored: what the explorer shows of it (``analysis.explorer.packed``).
        csv: file beside the page with the rows of ``peaks``.
    """

    name: str
    rows: pd.DataFrame
    drawings: Sequence[Drawing] = ()
    peaks: pd.DataFrame | None = None
    environments: Sequence[Mapping[str, Any]] = ()
    card: Drawing | None = None
    explored: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    csv: Path | None = None


def card(section: Section, title: str, anchor: str, explorer: str, show: Show) -> Iterator[str]:
    """The card of one experiment.

    Args:
        section: the experiment.
        title: its heading.
        anchor: its id.
        explorer: id of the explorer.
        show: gives a figure.
    """
    found = settings_of(section.rows)
    varied = varied_axes(section.rows)
    asked = experiments.question(section.name) or answers.question(section.rows, x_axis(section.rows), varied)
    yield '<section class="card">'
    yield page.heading(3, title, anchor)
    yield page.paragraph(asked, "question")
    yield page.paragraph(answers.answer(section.peaks), "answer")
    if section.card is not None:
        yield show(section.card, title)
    elif not section.drawings:
        yield page.paragraph("No finished run to draw.", "quiet")
    if section.explored:
        yield f"<p>{page.link('Explore these runs', '#' + explorer, anchor)}</p>"
    if section.drawings:
        count = len(section.drawings)
        words = f"{count} figure{'s' if count > 1 else ''}: all panels"
        yield page.folded(words, "\n".join(show(drawing, title) for drawing in section.drawings))
    yield page.folded("Settings and command", "\n".join(_settings(section, found, varied)))
    yield from _peaks(section, title)
    yield "</section>"


def varied_axes(rows: pd.DataFrame) -> list[str]:
    """Axes that a table sweeps; what an optimizer brings with it, and a full batch, differ without being swept."""
    varied = [a for a in axis_columns(rows) if rows[a].nunique() > 1 and a not in ("solver", "dtype")]
    varied = [a for a in varied if a == "width" or not (rows[a] == rows["width"]).all()]
    within = rows.groupby(["optimizer", "n_train"], dropna=False)
    return [a for a in varied if a in ("optimizer", "n_train") or within[a].nunique().max() > 1]


def _settings(section: Section, found: Settings, varied: Sequence[str]) -> Iterator[str]:
    rows = section.rows
    words = [f"{axis_text(a)} ({levels_text(rows[a])})" for a in varied]
    seeds = len(rows[list(SEEDS)].drop_duplicates())
    yield page.paragraph(f"Varies: {'; '.join(words) or 'nothing'}. {seeds} {'seeds' if seeds > 1 else 'seed'}.")
    fixed = [f"{key}={found.typed[key].iloc[0]}" for key in found.changed() if found.typed[key].nunique() == 1]
    yield page.paragraph(f"Fixed, and not at its default: {', '.join(fixed) or 'nothing'}.")
    yield from _commands(section)
    counts = rows["status"].value_counts()
    lost = [f"{counts[s]} {s}" for s in ("diverged", "failed") if s in counts]
    yield page.paragraph(f"{len(rows)} runs in results/{section.name}{''.join(f', {part}' for part in lost)}.", "quiet")


def _commands(section: Section) -> Iterator[str]:
    lines, total = made_by(section.rows, section.name)
    yield page.code(lines, f"Command{'s' * (total > 1)} of {section.name}")
    if total > len(lines):
        yield page.paragraph(f"These are {len(lines)} of {total} sweeps.", "quiet")


def _peaks(section: Section, title: str) -> Iterator[str]:
    peaks = section.peaks
    if peaks is None or peaks.empty:
        return
    counts = peaks["decision"].value_counts()
    words = ", ".join(f"{counts[d]} {d}" for d in ("peak", "undecided", "no peak") if d in counts)
    pieces = [_peak_table(members, str(x), title) for x, members in peaks.groupby("x", sort=False)]
    if section.csv is not None:
        pieces.append(f"<p>All columns: {page.file_link(section.csv)}</p>")
    yield page.folded(f"Peaks of {len(peaks)} curves: {words}", "\n".join(pieces))


def _peak_table(peaks: pd.DataFrame, x: str, title: str) -> str:
    """Judged curves along one axis: widths and epochs are no column together."""
    name = AXIS_TITLES.get(x, x)
    told = {"metric": peaks["metric"].nunique() > 1, "diverged": (peaks["diverged"] > 0).any()}
    names = {k: v.format(x=name) for k, v in PEAK_COLUMNS.items() if told.get(k, True)}
    shown = peaks.assign(
        metric=peaks["metric"].str.replace("_", " "),
        train_loss_at_threshold=peaks["train_loss_at_threshold"].map(loss_text),
        prominence=with_interval(peaks, "prominence", factor_text),
        location=with_interval(peaks, "location", page.plain_text),
    )
    return page.table(shown, names, f"Peaks along the {name}, {title}")


def loss_text(value: float) -> str:
    """A loss; what is below the floor is rounding.

    >>> loss_text(0.25), loss_text(1e-300), loss_text(float("nan"))
    ('0.25', '≤ 10⁻¹⁰', '')
    """
    return "" if np.isnan(value) else at_most(FLOOR)(value)


def factor_text(height: float) -> str:
    """A height in natural logarithms, as the factor that it is.

    >>> factor_text(0.0), factor_text(float("nan"))
    ('×1', '')
    """
    return "" if np.isnan(height) else f"×{plain(float(np.exp(height)))}"


def with_interval(frame: pd.DataFrame, column: str, text: Callable[[float], str]) -> list[str]:
    """Values of a column with ``…_low`` and ``…_high`` (``low`` and ``high`` for ``value``), as text."""
    low, high = (column + end if column + end in frame else end[1:] for end in ("_low", "_high"))
    if low not in frame or high not in frame:
        return [text(v) for v in frame[column]]
    return [
        f"{text(v)} [{text(a)}, {text(b)}]" if pd.notna(a) and pd.notna(b) else text(v)
        for v, a, b in zip(frame[column], frame[low], frame[high], strict=True)
    ]
