"""The report: one HTML page with the verdict first, a card an experiment, an explorer, and all numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from analysis import answers, experiments, explorer, page, rival_plot
from analysis.cards import Section, card, with_interval
from analysis.claim import Verdict
from analysis.labels import OWN_SETTINGS, family_of, plain, sentence
from analysis.provenance import provenance
from analysis.rival_plot import draw_rivals
from analysis.scatter import Cell, cells_of, draw_steps, draw_summary
from analysis.style import Drawing, save, sheet

PAGE_LIMIT = 24_000_000
"""Bytes of the page's figures at most: those beyond it are named, not shown."""

TITLE = "Double descent: what decides the peak?"

PAPER = "https://arxiv.org/abs/2312.03951"
DOCS = "https://github.com/dd-lab/dd/blob/main/docs"

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

STATISTIC_COLUMNS = {"name": "statistic", "value": "value [95 % interval]"}

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
    "At the threshold the model can just fit its training set. The height of a curve is the ratio of its test loss, at "
    "the threshold or at its peak, to the higher one of the two lowest points beside it. It is given as a factor, or "
    "as the natural logarithm of the factor, which is negative where the curve falls all along. Curves are medians "
    "over seeds: at the threshold the mean does not exist."
)


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
    plan = _Plan(sections)
    text = page.document(TITLE, page.contents(plan.contents()), _body(folder, plan, findings))
    path.write_text(text, encoding="utf-8")
    return path


class _Plan:
    """The parts of the page with their ids."""

    def __init__(self, sections: Sequence[Section]) -> None:
        self.sections = {s.name: s for s in sections}
        self.parts = experiments.parts(self.sections)
        listed = [name for titles in self.parts.values() for name in titles]
        own = ("The verdict", "Explore every run", "In full", "Where the numbers come from")
        self.ids = page.anchors([*self.parts, *own], ("top", "contents"))
        # a table may be called like a part of the page
        self.links = page.anchors(listed, (*self.ids.values(), "top", "contents", "explorer", "explorer-data"))

    def there(self, part: str) -> dict[str, str]:
        """Titles of the experiments of a part that there are, by their names."""
        return {name: title for name, title in self.parts[part].items() if name in self.sections}

    def contents(self) -> list[tuple[str, str, list[tuple[str, str]]]]:
        """Every part in order, with its entries."""
        shown = [part for part in self.parts if self.there(part)]
        cards = [(p, self.ids[p], [(t, self.links[n]) for n, t in self.there(p).items()]) for p in shown]
        before = [(name, self.ids[name], list[tuple[str, str]]()) for name in ("The verdict", "Explore every run")]
        after = [(name, self.ids[name], list[tuple[str, str]]()) for name in ("In full", "Where the numbers come from")]
        return [before[0], *cards, before[1], *after]


class _Images:
    """Figures as HTML, as long as the page stays small enough."""

    def __init__(self) -> None:
        self.bytes = 0

    def show(self, drawing: Drawing, of: str = "") -> str:
        size = drawing.png.stat().st_size * 4 // 3
        if self.bytes + size > PAGE_LIMIT:
            return page.paragraph(f"Left out to keep this page small: {drawing.png.name}. {drawing.caption}", "quiet")
        self.bytes += size
        alt = f"{of}. {drawing.alt}" if of else drawing.alt
        return page.figure(drawing.png, drawing.caption, alt, drawing.files)


def _body(folder: Path, plan: _Plan, findings: Findings) -> Iterator[str]:
    images = _Images()
    yield page.heading(1, TITLE)
    yield page.heading(2, "The verdict", plan.ids["The verdict"])
    yield page.paragraph(answers.headline(findings.verdicts), "headline")
    yield from _headline_figure(folder, findings, images)
    docs = ((name, f"{DOCS}/{name}.md") for name in ("verdict", "experiments", "peaks", "columns", "glossary"))
    links = [page.link("the paper, arXiv 2312.03951", PAPER), *(page.link(f"docs/{n}.md", to) for n, to in docs)]
    about = f"{page.paragraph(ASKED)}{page.paragraph(READING)}<p>{' · '.join(links)}</p>"
    yield page.folded("The claim, and how to read this page", about)
    for part in plan.parts:
        if plan.there(part):
            yield page.heading(2, part, plan.ids[part])
            for name, title in plan.there(part).items():
                yield from card(
                    plan.sections[name], title, plan.links[name], plan.ids["Explore every run"], images.show
                )
    sources = [
        explorer.Source(title + more, plan.links[name], packed)
        for part in plan.parts
        for name, title in plan.there(part).items()
        for more, packed in plan.sections[name].explored.items()
    ]
    yield explorer.section(sources, plan.ids["Explore every run"])
    yield page.heading(2, "In full", plan.ids["In full"])
    yield page.folded(
        "Every problem: statistics, rivals, factors, violations", "\n".join(_verdict(folder, findings, images))
    )
    yield page.folded("Experiments that are not there yet", "\n".join(_missing(plan)))
    yield page.heading(2, "Where the numbers come from", plan.ids["Where the numbers come from"])
    environments = [e for s in plan.sections.values() for e in s.environments]
    tables = {name: s.rows for name, s in plan.sections.items()}
    yield page.folded("Runs, time, versions", "\n".join(provenance(tables, environments)))


def _headline_figure(folder: Path, findings: Findings, images: _Images) -> Iterator[str]:
    """The conditions of the problem family that has most of them: height against train loss."""
    found = findings.conditions
    known = found.dropna(subset=["train_loss", "height"]) if len(found) else found
    if not len(known):
        return
    largest = known["family"].value_counts().index[0]
    members = known[known["family"] == largest]
    yield images.show(_scatter(folder / "verdict", members, findings, sentence(family_of(str(largest)))))


def _scatter(
    stem: Path, found: pd.DataFrame, findings: Findings, of: str, violators: pd.DataFrame | None = None
) -> Drawing:
    with sheet():
        png = save(draw_summary(found, findings.half, violators), stem)
    drawn = len(found.dropna(subset=["train_loss", "height"]))
    return Drawing(
        png,
        f"{of}: height of the test loss over its valleys against train loss at the threshold, {drawn} "
        "conditions. A mark is a condition: full where the test finds a peak, open where it finds none, pale where it "
        f"is undecided. Colour and marker are the factor that its experiment varies. {OWN_SETTINGS}",
    )


def _verdict(folder: Path, findings: Findings, images: _Images) -> Iterator[str]:
    if not findings.verdicts:
        yield page.paragraph(answers.NONE)
    for verdict in findings.verdicts:
        name = sentence(family_of(verdict.family))
        yield '<section class="verdict">'
        yield page.heading(3, name)
        yield page.paragraph(verdict.text)
        if len(verdict.statistics):
            yield page.table(_with_intervals(verdict.statistics, ["value"]), STATISTIC_COLUMNS, f"Statistics: {name}")
        if len(verdict.rivals):
            yield page.table(_with_intervals(verdict.rivals, RIVAL_ESTIMATES), RIVAL_COLUMNS,
                             f"The train loss beside what it goes with: {name}")  # fmt: skip
        if len(verdict.factors):
            yield page.table(verdict.factors, FACTOR_COLUMNS,
                             f"What each factor adds once the train loss is given: {name}")  # fmt: skip
        if len(verdict.violators):
            words = f"Violations of the claim: {name}"
            yield page.folded(
                f"{words}: {len(verdict.violators)}", page.table(verdict.violators, VIOLATOR_COLUMNS, words)
            )
        yield "</section>"
    files = [page.link(f, f) for f in ("peaks.csv", "conditions.csv", "rivals.csv") if (folder / f).is_file()]
    if files:
        yield f"<p>All numbers: {' '.join(files)}</p>"
    compared = [(v.family, v.rivals) for v in findings.verdicts if len(v.rivals)]
    if compared:
        with sheet():
            png = save(draw_rivals(compared), folder / "rivals")
        yield images.show(Drawing(png, rival_plot.CAPTION))
    if len(findings.conditions) and cells_of(findings.conditions):
        violators = pd.concat([v.violators for v in findings.verdicts]) if findings.verdicts else None
        of = "Every problem, with violations of the claim"
        yield images.show(_scatter(folder / "summary", findings.conditions, findings, of, violators))
    else:
        yield page.paragraph("No condition has been judged, so that there is no summary figure.", "quiet")
    if len(findings.needed):
        with sheet():
            png = save(draw_steps(findings.needed, findings.level), folder / "steps")
        caption = (
            f"Steps until the train loss is down to {plain(findings.level)}, for runs at the threshold, against the "
            "condition number of the Hessian and of the problem as the optimizer sees it. Of several step sizes the "
            f"fastest counts. The lines are slopes through the median point, not fits. {OWN_SETTINGS}"
        )
        yield images.show(Drawing(png, caption))


def _with_intervals(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    return frame.assign(**{c: with_interval(frame, c, page.plain_text) for c in columns if c in frame})


def _missing(plan: _Plan) -> Iterator[str]:
    """Experiments that are not there, with their commands."""
    for part, titles in plan.parts.items():
        names = [name for name in titles if name not in plan.sections]
        lines = [line for name in names if (line := experiments.command(name)) is not None]
        if lines:
            yield page.paragraph(f"{part}:")
            yield page.code(lines, f"Commands: {part}")
