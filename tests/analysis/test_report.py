"""The report: whole, self-contained, and complete about what is there and what is not."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import experiments, report, rivals, words
from analysis.setups import draw_table
from tests.analysis.synthetic import runs
from tests.analysis.test_rivals import planted

VOID = {"meta", "img", "br", "hr", "link", "input"}
ODD = 'a<b>&"c'


class Reader(HTMLParser):
    """Checks nesting and collects what a browser would show and fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(values)
        self.fetched += [values[k] or "" for k in ("src", "srcset", "data", "poster") if k in values]
        if "id" in values:
            self.ids.append(values["id"] or "")
        if "href" in values:
            self.links.append(values["href"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text())
    reader.close()
    assert reader.open == []
    return reader


@dataclass(frozen=True)
class Found:
    """A verdict as ``analysis.claim`` gives it."""

    family: str
    text: str
    statistics: pd.DataFrame
    factors: pd.DataFrame
    rivals: pd.DataFrame
    violators: pd.DataFrame


FACTORS = pd.DataFrame(
    {"factor": ["optimizer"], "levels": [3], "explained": [0.25], "p_value": [0.01], "l50_spread": [np.nan]}
)


@pytest.fixture(scope="module")
def conditions() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "family": "random_features",
            "table": "iterations",
            "factor": "steps",
            "label_noise": 0.1,
            "noisy": True,
            "condition": ["steps 100", "steps <1000>"],
            "train_loss": [1e-1, 1e-4],
            "height": [0.0, 2.0],
            "decision": ["no peak", "peak"],
        }
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, conditions: pd.DataFrame) -> Reader:
    folder = tmp_path_factory.mktemp("figures")
    rows = runs(steps=(100, 1000))
    peaks = pd.DataFrame(
        {
            "condition": ["steps 100", "steps 1000"],
            "metric": "test_loss",
            "x": "width",
            "decision": ["no peak", "peak"],
            "reason": "",
            "threshold_counted": 50.0,
            "steps": [100, 1000],
            "location": [np.nan, 50.0],
            "location_low": [np.nan, 20.0],
            "location_high": [np.nan, 100.0],
            "prominence": [0.0, 1.23456],
            "prominence_low": [0.0, 1.1],
            "prominence_high": [0.01, 1.3],
            "train_loss_at_threshold": [0.1, 1e-300],
            "diverged": [0, 0],
        }
    )
    of_epochs = peaks.assign(x="epoch", location=[np.nan, 7.0])
    environments = [{"python": "3.12.1", "packages": {"torch": "2.9", "absent": None}}]
    sections = [
        report.Section(
            "iterations", rows, draw_table(rows, "iterations", folder), pd.concat([peaks, of_epochs]), environments
        ),
        report.Section(ODD, rows.assign(status="failed")),
    ]
    statistics = pd.DataFrame({"name": [words.AUC], "value": [0.98765], "low": [0.9], "high": [1.0]})
    beside = planted("loss", np.random.default_rng(0))
    rivalry = rivals.compare(beside, (beside["height"] > 0.2).to_numpy())
    verdict = Found("random_features", "The claim <holds>.", statistics, FACTORS, rivalry.table, conditions.iloc[1:])
    needed = pd.DataFrame({"optimizer": ["gd"], "steps": [1e3], "hessian": [1e4], "preconditioned": [np.nan]})
    half = {("random_features", True): 1e-2}
    return read(report.write(folder, sections, report.Findings([verdict], conditions, half, needed)))


def test_the_page_needs_nothing_but_itself(whole: Reader) -> None:
    assert len(whole.images) == 5, "the verdict's; rivals, summary, steps; the table's figure"
    assert all(source.startswith("data:image/png;base64,") for source in whole.fetched)
    assert not whole.tags & {"link", "iframe", "object", "embed"}


def test_no_two_figures_have_the_same_alternative_text(whole: Reader) -> None:
    texts = [image["alt"] for image in whole.images]
    assert all(texts)
    assert len(set(texts)) == len(texts)


def test_links_go_to_the_page_its_files_the_paper_and_the_docs(whole: Reader) -> None:
    files = {link for link in whole.links if not link.startswith(("#", "https:"))}
    assert {"iterations.png", "iterations.pdf", "verdict.png", "summary.pdf"} <= files
    assert "https://arxiv.org/abs/2312.03951" in whole.links
    docs = [link.removeprefix(report.DOCS + "/") for link in whole.links if link.startswith(report.DOCS)]
    assert docs
    assert all((Path(__file__).parents[2] / "docs" / name).is_file() for name in docs)


def test_the_verdict_comes_first_and_long_things_are_folded(whole: Reader) -> None:
    first, second, third = (whole.text.index(told) for told in (
        "In 1 of 1 problem the train loss", "Does more training bring the peak?", "What each factor adds"))  # fmt: skip
    assert first < second < third
    assert whole.tags >= {"details", "nav", "main"}


def test_an_answer_is_computed_from_the_judged_curves(whole: Reader) -> None:
    assert (
        "The test loss peaks along the width in 1 of 2 curves. The largest height over both valleys is ×3.44, at width "
        "50 (threshold: 50), for steps 1000. Curves with a peak by steps: 100: 0 of 1; 1000: 1 of 1."
    ) in whole.text


def test_widths_and_epochs_are_columns_of_their_own(whole: Reader) -> None:
    assert "width of the peak [95 % interval]" in whole.text
    assert "epoch of the peak [95 % interval]" in whole.text
    assert "Peaks along the epoch" in whole.text


def test_losses_that_are_rounding_are_not_told_as_numbers(whole: Reader) -> None:
    assert "≤ 10⁻¹⁰" in whole.text
    assert "10⁻³⁰⁰" not in whole.text


def test_links_of_the_contents_lead_somewhere(whole: Reader) -> None:
    assert {link[1:] for link in whole.links if link.startswith("#")} <= set(whole.ids)
    assert len(whole.ids) == len(set(whole.ids))


def test_words_of_tables_and_verdicts_are_text(whole: Reader) -> None:
    assert "The claim <holds>." in whole.text
    assert "steps <1000>" in whole.text
    assert f"30 runs in results/{ODD}, 30 failed." in whole.text


def test_the_train_loss_stands_beside_its_rivals(whole: Reader) -> None:
    assert "The train loss beside what it goes with:" in whole.text
    assert rivals.TIME in whole.text


def test_numbers_stand_with_their_intervals(whole: Reader) -> None:
    assert "0.988 [0.9, 1]" in whole.text
    assert "50 [20, 100]" in whole.text
    assert "×3.44 [×3, ×3.67]" in whole.text


def test_it_says_what_varies_what_is_fixed_and_the_command(whole: Reader) -> None:
    assert "Varies: width (10, 20, 50, 100, 200); steps (100, 1000). 3 seeds." in whole.text
    fixed = whole.text.split("Fixed, and not at its default: ")[1].splitlines()[0]
    assert "data.n_train=50" in fixed
    assert "optimizer=gd" in fixed
    assert "lr=0.5" not in fixed, "the default of gd"
    own = next(
        line for line in whole.text.splitlines() if line.startswith("python -m dd.run -m width=10,20,50,100,200")
    )
    assert {"steps=100,1000", "data.n_train=50", "seed=0,1,2"} <= set(own.split()), "of a table that is no preset"
    assert "python -m dd.run -m +experiment=iterations" in whole.text


def test_options_of_one_name_are_told_apart(tmp_path: Path) -> None:
    rows = runs(optimizer_momentum=(0.9,), normalization_momentum=(0.1,), normalization_eps=(1e-5,))
    page = read(report.write(tmp_path, [report.Section("ridge", rows)], report.Findings()))
    assert "normalization.momentum=0.1" in page.text
    assert "optimizer.momentum=0.9" in page.text


def test_every_caption_says_whose_the_settings_are(whole: Reader) -> None:
    assert whole.text.count("All settings are dd's own.") == len(whole.images)


def test_experiments_that_are_not_there_are_named_with_their_commands(whole: Reader) -> None:
    for part, titles in experiments.PARTS.items():
        for name in titles if part != experiments.RMT_PART else ():
            assert f"python -m dd.run -m +experiment={name}\n" in whole.text + "\n"
    assert "experiment=" + ODD not in whole.text


def test_rmt_has_a_part_only_where_one_of_its_tables_is_there(whole: Reader, tmp_path: Path) -> None:
    assert "RMT" not in whole.text
    rows = runs(model=("rmt",))
    page = read(report.write(tmp_path, [report.Section("rmt_batch_size", rows)], report.Findings()))
    assert page.text.count(experiments.RMT_PART) == 3, "in the contents, as a heading, and over what is not there"
    assert "E9: batch size at equal epochs, RMT" in page.text
    assert "model=rmt" in page.text
    assert "python -m dd.run -m +experiment=rmt_width_cifar10" in page.text


def test_a_verdict_begins_with_a_capital_and_keeps_names(tmp_path: Path) -> None:
    empty = pd.DataFrame()
    found = [
        Found(f"{name} on digits, n = 5", "No.", empty, empty, empty, empty) for name in ("RMT", "random features")
    ]
    page = read(report.write(tmp_path, [], report.Findings(found)))  # type: ignore[arg-type]
    assert "RMT on digits, n = 5" in page.text
    assert "Random features on digits" in page.text


def test_it_says_where_the_numbers_come_from(whole: Reader) -> None:
    assert "60 runs in 2 tables" in whole.text
    for told in ("0123456789", "cpu", "2026-01-02", "3.12.1", "2.9"):
        assert told in whole.text


def test_without_anything_it_is_a_page_of_sentences(tmp_path: Path) -> None:
    page = read(report.write(tmp_path, [], report.Findings()))
    assert "No verdict yet" in page.text
    assert "No condition has been judged" in page.text
    assert "There are no tables." in page.text
    assert not page.images


def test_conditions_without_numbers_and_unjudged_curves_are_sentences(tmp_path: Path, conditions: pd.DataFrame) -> None:
    findings = report.Findings(conditions=conditions.assign(height=np.nan))
    page = read(report.write(tmp_path, [report.Section("ridge", runs())], findings))
    assert "No condition has been judged" in page.text
    assert "No peaks were judged here." in page.text
    assert "No finished run to draw." in page.text


def test_a_page_that_would_be_too_large_names_its_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = runs(label_noise=(0.0, 0.1))
    drawings = draw_table(rows, "ridge", tmp_path)
    assert len(drawings) == 2
    monkeypatch.setattr(report, "PAGE_LIMIT", drawings[0].png.stat().st_size * 4 // 3 + 10)
    page = read(report.write(tmp_path, [report.Section("ridge", rows, drawings)], report.Findings()))
    assert len(page.images) == 1
    assert f"Left out to keep this page small: {drawings[1].png.name}" in page.text
