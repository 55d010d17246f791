"""The report: one HTML page with the verdict, every experiment's figures and peaks, and where the numbers come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import experiments, page, rival_plot
from analysis.claim import Verdict
from analysis.curves import SEEDS, axis_columns
from analysis.labels import OWN_SETTINGS, axis_text, family_of, levels_text, plain, sentence, value_text
from analysis.rival_plot import draw_rivals
from analysis.scatter import Cell, cells_of, draw_steps, draw_summary
from analysis.style import Drawing, save, sheet

PAGE_LIMIT = 24_000_000
"""Bytes of the page at most: figures beyond it are named, not shown."""

LONG = 30
"""Tables of more rows are folded."""

PEAK_COLUMNS = {
    "condition": "condition",
    "metric": "of",
    "decision": "decision",
    "location": "location [95 % interval]",
    "prominence": "height, ln [95 % interval]",
    "train_loss_at_threshold": "train loss at threshold",
    "diverged": "diverged",
}

VIOLATOR_COLUMNS = {
    "table": "experiment",
    "condition": "condition",
    "label_noise": "label noise",
    "train_loss": "train loss at threshold",
    "height": "height, ln",
    "side": "side",
}

FACTOR_COLUMNS = {
    "factor": "factor",
    "levels": "levels",
    "explained": "share of what is left",
    "p_value": "p (permutation, Holm)",
    "l50_spread": "decades between L50 of its levels",
}

RIVAL_COLUMNS = {
    "quantity": "quantity at the threshold",
    "conditions": "conditions",
    "auc": "AUC [95 % interval]",
    "auc_alike": "AUC, methods weighted alike",
    "loss_auc": "AUC of the train loss on these",
    "partial": "rank correlation with the height, given all others",
    "auc_given_loss": "AUC given the train loss",
    "p_given_loss": "p",
    "loss_auc_given": "AUC of the train loss given it",
    "loss_p_given": "p",
    "gain_given_loss": "gain given the train loss, nats",
    "loss_gain_given": "gain of the train loss given it, nats",
    "added": "what adds to it",
    "sufficient": "sufficient",
}

RIVAL_ESTIMATES = (
    "auc", "loss_auc", "partial", "auc_given_loss", "loss_auc_given", "gain_given_loss", "loss_gain_given",
)  # fmt: skip

ASKED = (
    "Liu and Flanigan (Understanding the Role of Optimization in Double Descent, arXiv 2312.03951) state that the test "
    "loss peaks as a model's width grows if and only if the optimizer brings the train loss down far enough, and that "
    "initialization, normalization, batch size, learning rate and optimizer act through how well conditioned the "
    "problem is. This page tests that claim. The settings of every experiment are dd's own, not those of that paper."
)

READING = (
    "The height of a peak is its prominence: the natural logarithm of the test loss at the peak over the higher one of "
    "the two lowest points beside it, so that 0.7 is a factor of two. Curves are medians over seeds; the mean does not "
    "exist at the threshold, where the model can just fit its training set."
)


@dataclass(frozen=True)
class Section:
    """One experiment.

    Attributes:
        name: the table.
        rows: its runs.
        drawings: its figures.
        peaks: one row a curve (``analysis.peaks.table``); None if none was judged.
        environments: what it was computed with (``analysis.tables.environments``).
    """

    name: str
    rows: pd.DataFrame
    drawings: Sequence[Drawing] = ()
    peaks: pd.DataFrame | None = None
    environments: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Findings:
    """What was found over all experiments of the study.

    Attributes:
        verdicts: one a model family.
        conditions: one row a condition (``analysis.conditions.conditions``).
        half: train loss at which half of the conditions of a family, with clean or noisy labels, have a peak.
        needed: ``analysis.scatter.steps_needed`` of the study's tables.
        level: train loss that ``needed`` is about.
    """

    verdicts: Sequence[Verdict] = ()
    conditions: pd.DataFrame = field(default_factory=pd.DataFrame)
    half: Mapping[Cell, float] = field(default_factory=dict)
    needed: pd.DataFrame = field(default_factory=pd.DataFrame)
    level: float = 1e-3


def write(folder: Path, sections: Sequence[Section], findings: Findings) -> Path:
    """Write ``index.html`` and the figures over all experiments into a folder; returns the page's path."""
    path = folder / "index.html"
    text = page.document("Double descent: what decides the peak?", _body(folder, sections, findings))
    path.write_text(text, encoding="utf-8")
    return path


class _Images:
    """Figures as HTML, as long as the page stays small enough."""

    def __init__(self) -> None:
        self.bytes = 0

    def show(self, drawing: Drawing, alt: str) -> str:
        size = drawing.png.stat().st_size * 4 // 3
        if self.bytes + size > PAGE_LIMIT:
            return page.paragraph(f"Left out to keep this page small: {drawing.png.name}. {drawing.caption}", "quiet")
        self.bytes += size
        return page.figure(drawing.png, drawing.caption, alt)


def _body(folder: Path, sections: Sequence[Section], findings: Findings) -> Iterator[str]:
    found = {s.name: s for s in sections}
    parts = experiments.parts(found)
    listed = [name for titles in parts.values() for name in titles]
    titled = page.anchors([*parts, "The verdict", "Where the numbers come from"])
    links = page.anchors(listed, titled.values())  # a table may be called like a part of the page
    images = _Images()

    yield page.heading(1, "Double descent: what decides the peak?")
    yield page.paragraph(ASKED)
    yield page.paragraph(READING)
    toc: list[tuple[str, str, list[tuple[str, str]]]] = [("The verdict", titled["The verdict"], [])]
    toc += [
        (part, titled[part], [(title, links[name]) for name, title in titles.items() if name in found])
        for part, titles in parts.items()
    ]
    yield page.contents([*toc, ("Where the numbers come from", titled["Where the numbers come from"], [])])

    yield page.heading(2, "The verdict", titled["The verdict"])
    yield from _verdict(folder, findings, images)
    for part, titles in parts.items():
        yield page.heading(2, part, titled[part])
        for name, title in titles.items():
            if name in found:
                yield page.heading(3, title, links[name])
                yield from _experiment(found[name], images)
        yield from _missing([name for name in titles if name not in found])
    yield page.heading(2, "Where the numbers come from", titled["Where the numbers come from"])
    yield from _provenance(sections)


def _verdict(folder: Path, findings: Findings, images: _Images) -> Iterator[str]:
    if not findings.verdicts:
        yield page.paragraph("No verdict yet: the experiments of the study are not there, or hold too few conditions.")
    for verdict in findings.verdicts:
        yield '<div class="verdict">'
        yield page.heading(3, sentence(family_of(verdict.family)))
        yield page.paragraph(verdict.text)
        if len(verdict.statistics):
            yield page.table(_with_intervals(verdict.statistics, ["value"]),
                             {"name": "statistic", "value": "value [95 % interval]"})  # fmt: skip
        if len(verdict.rivals):
            yield page.paragraph("The train loss beside what it goes with:")
            yield page.table(_with_intervals(verdict.rivals, RIVAL_ESTIMATES), RIVAL_COLUMNS)
        if len(verdict.factors):
            yield page.paragraph("What each factor adds once the train loss is given:")
            yield page.table(verdict.factors, FACTOR_COLUMNS)
        yield "</div>"
        if len(verdict.violators):
            words = f"Violations of the claim by {family_of(verdict.family)}: {len(verdict.violators)}"
            yield page.folded(words, page.table(verdict.violators, VIOLATOR_COLUMNS))
    compared = [(v.family, v.rivals) for v in findings.verdicts if len(v.rivals)]
    if compared:
        with sheet():
            png = save(draw_rivals(compared), folder / "rivals")
        yield images.show(Drawing(png, rival_plot.CAPTION), "AUC of each quantity for a peak, alone and given others")
    if len(findings.conditions) and cells_of(findings.conditions):
        violators = pd.concat([v.violators for v in findings.verdicts]) if findings.verdicts else None
        with sheet():
            png = save(draw_summary(findings.conditions, findings.half, violators), folder / "summary")
        drawn = len(findings.conditions.dropna(subset=["train_loss", "height"]))
        caption = (
            "Height of the peak in test loss against train loss at the threshold, a mark for each of "
            f"{drawn} conditions; colour and marker are the factor that its experiment varies. "
            f"{OWN_SETTINGS}"
        )
        yield images.show(Drawing(png, caption), "Scatter of peak height against train loss at the threshold")
    else:
        yield page.paragraph("No condition has been judged, so that there is no summary figure.", "quiet")
    if len(findings.needed):
        with sheet():
            png = save(draw_steps(findings.needed, findings.level), folder / "steps")
        caption = (
            f"Steps until the train loss is down to {plain(findings.level)}, for runs at the threshold, against the "
            "condition number of the Hessian and of the problem as the optimizer sees it; of several step sizes the "
            f"fastest. The lines are slopes through the median point, not fits. {OWN_SETTINGS}"
        )
        yield images.show(Drawing(png, caption), "Scatter of steps needed against condition number")


def _experiment(section: Section, images: _Images) -> Iterator[str]:
    rows = section.rows
    varied = [a for a in axis_columns(rows) if rows[a].nunique() > 1 and a not in ("solver", "dtype")]
    # what an optimizer brings with it, and a full batch, differ without being swept
    within = rows.groupby(["optimizer", "n_train"], dropna=False)
    own = [a for a in varied if a in ("optimizer", "n_train") or within[a].nunique().max() > 1]
    words = [f"{axis_text(a)} ({levels_text(rows[a])})" for a in own]
    seeds = len(rows[list(SEEDS)].drop_duplicates())
    yield page.paragraph(f"Varies: {'; '.join(words) or 'nothing'}. {seeds} {'seeds' if seeds > 1 else 'seed'}.")
    yield page.paragraph(f"Held fixed: {_fixed(rows)}.")
    line = experiments.command(section.name)
    if line is not None:
        yield f"<pre><code>{page.text(line)}</code></pre>"
    counts = rows["status"].value_counts()
    lost = [f"{counts[s]} {s}" for s in ("diverged", "failed") if s in counts]
    yield page.paragraph(f"{len(rows)} runs in results/{section.name}" + (f", {', '.join(lost)}" if lost else "") + ".",
                         "quiet")  # fmt: skip
    if not section.drawings:
        yield page.paragraph("No finished run to draw.", "quiet")
    for drawing in section.drawings:
        yield images.show(drawing, f"{section.name}: {drawing.caption.split(':')[0].split('.')[0]}")
    yield from _peaks(section.peaks)


def _fixed(rows: pd.DataFrame) -> str:
    """Axes that all runs share, as name and value; what applies to no run is left out."""
    shared = [axis for axis in axis_columns(rows) if rows[axis].nunique() == 1]
    names = Counter(axis_text(axis) for axis in shared)
    parts = []
    for axis in shared:
        # normalizations and optimizers both have a momentum
        name = axis_text(axis) if names[axis_text(axis)] == 1 else axis.replace("_", " ")
        parts.append(f"{name} {value_text(rows[axis].dropna().iloc[0])}")
    return ", ".join(parts) or "nothing"


def _peaks(peaks: pd.DataFrame | None) -> Iterator[str]:
    if peaks is None or peaks.empty:
        yield page.paragraph("No peaks were judged here.", "quiet")
        return
    counts = peaks["decision"].value_counts()
    words = ", ".join(f"{counts[d]} {d}" for d in ("peak", "undecided", "no peak") if d in counts)
    told = {"metric": peaks["metric"].nunique() > 1, "diverged": (peaks["diverged"] > 0).any()}
    names = {k: v for k, v in PEAK_COLUMNS.items() if told.get(k, True)}
    shown = page.table(_with_intervals(peaks, ["location", "prominence"]), names)
    yield (
        page.folded(f"Peaks of {len(peaks)} curves: {words}", shown)
        if len(peaks) > LONG
        else (page.paragraph(f"Peaks: {words}.") + shown)
    )


def _with_intervals(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Columns with ``…_low`` and ``…_high`` (``low`` and ``high`` for ``value``) as text with their interval."""
    out = frame.copy()
    for column in columns:
        low, high = (column + end if column + end in frame else end[1:] for end in ("_low", "_high"))
        if low not in frame or high not in frame:
            continue
        out[column] = [
            f"{page.plain_text(v)} [{page.plain_text(a)}, {page.plain_text(b)}]" if pd.notna(a) and pd.notna(b) else v
            for v, a, b in zip(frame[column], frame[low], frame[high], strict=True)
        ]
    return out


def _missing(names: Sequence[str]) -> Iterator[str]:
    """Experiments that are not there, with their commands."""
    lines = [line for name in names if (line := experiments.command(name)) is not None]
    if lines:
        yield page.paragraph("Not there yet; these commands make them:")
        yield "<pre><code>" + "\n".join(page.text(line) for line in lines) + "</code></pre>"


def _provenance(sections: Sequence[Section]) -> Iterator[str]:
    if not sections:
        yield page.paragraph("There are no tables.")
        return
    rows = pd.concat([s.rows[["status", "seconds", "finished_at", "git_commit", "device"]] for s in sections])
    first, last = rows["finished_at"].min(), rows["finished_at"].max()
    yield page.paragraph(
        f"{len(rows)} runs in {len(sections)} tables, computed in {_duration(rows['seconds'].sum())} of processor time "
        f"between {_time(first)} and {_time(last)} (UTC)."
    )
    each = pd.DataFrame(
        {
            "table": s.name,
            "runs": len(s.rows),
            "diverged": int((s.rows["status"] == "diverged").sum()),
            "failed": int((s.rows["status"] == "failed").sum()),
            "time": _duration(s.rows["seconds"].sum()),
            "device": ", ".join(sorted(s.rows["device"].dropna().unique())),
            "commit": ", ".join(sorted({_short(c) for c in s.rows["git_commit"].dropna()})),
            "last run": _time(s.rows["finished_at"].max()),
        }
        for s in sections
    )
    yield page.table(each, {c: c for c in each})
    made: dict[str, set[str]] = {}
    for environment in (e for s in sections for e in s.environments):
        for key, value in environment.items():
            for name, version in value.items() if isinstance(value, dict) else [(key, value)]:
                if version is not None:
                    made.setdefault(name.replace("_", " "), set()).add(str(version))
    if made:
        versions = pd.DataFrame({"what": name, "value": ", ".join(sorted(v))} for name, v in sorted(made.items()))
        yield page.table(versions, {"what": "computed with", "value": ""})


def _time(at: pd.Timestamp) -> str:
    """A date and time to the minute, in words where it is not known."""
    return "an unknown day" if pd.isna(at) else f"{at:%Y-%m-%d %H:%M}"


def _short(commit: str) -> str:
    """First digits of a commit, with the mark of changed files."""
    digits, dash, mark = commit.partition("-")
    return digits[:10] + dash + mark


def _duration(seconds: float) -> str:
    """Seconds in a unit that reads well."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
