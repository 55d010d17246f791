"""Figures in a LaTeX document: compiled where LaTeX is installed, skipped where it is not."""

from __future__ import annotations

import re
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest

import analysis
from analysis.bundle import draw_bundle
from analysis.panels import draw
from analysis.style import Look, sheet
from analysis.tex import ENGINES, RAISED, SIGNS, FormatError, latex, write_pgf
from tests.analysis.synthetic import peaked, runs

LOOK = Look(3.25, ("test_loss", "train_loss"))

DOCUMENT = r"""
\documentclass[twocolumn]{article}
\usepackage[letterpaper,margin=0.75in,columnsep=0.5in]{geometry}
\usepackage{pgf}
\begin{document}
\noindent\input{elsewhere/panels.pgf}
\newpage
\noindent\input{elsewhere/bundle.pgf}
\end{document}
"""
"""Two columns of 3.25 inches."""


def rounding(row: dict[str, object]) -> dict[str, float]:
    """A train loss that is rounding beyond the threshold, so that an axis has "at most"."""
    return peaked(row) | ({"train_loss": 1e-28} if int(row["width"]) > 50 else {})  # type: ignore[call-overload]


def test_every_sign_that_the_analysis_writes_has_latex() -> None:
    text = "".join(path.read_text("utf-8") for path in Path(analysis.__path__[0]).glob("*.py"))
    signs = {sign for sign in text if not sign.isascii() and "LATIN" not in unicodedata.name(sign)}
    assert "·" in signs
    assert sorted(signs - {*SIGNS, *map(chr, RAISED)}) == []


def test_without_latex_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with sheet(), pytest.raises(FormatError, match=r"needs one of pdflatex, xelatex, lualatex.*none is installed"):
        write_pgf(draw(runs(), "title", ["lr"], look=LOOK), tmp_path / "t.pgf")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def engines() -> list[str]:
    """Programs of a LaTeX that has PGF."""
    found = [name for name in ENGINES if shutil.which(name)]
    if not found or subprocess.run(["kpsewhich", "pgf.sty"], capture_output=True, check=False).returncode:
        pytest.skip("no LaTeX with PGF is installed: whether a document takes the figure is not known")
    return found


def test_a_text_that_latex_refuses_is_one_line(engines: list[str], tmp_path: Path) -> None:
    with sheet(), pytest.raises(FormatError, match=rf"{engines[0]} cannot set a text of t.pgf: .*中"):
        write_pgf(draw(runs(lr=(0.5,)), "中", ["lr"], look=LOOK), tmp_path / "t.pgf")
    assert not list(tmp_path.iterdir())


def test_a_document_of_two_columns_takes_the_figures_with_every_engine(engines: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    signs = "".join(SIGNS) + "10⁻⁸"
    rows = runs(numbers=rounding, lr=(0.1, 0.5))
    with sheet():
        write_pgf(draw(rows, signs, ["lr"], look=LOOK), folder / "panels.pgf")
        write_pgf(draw_bundle(rows, signs, ["lr"], look=LOOK), folder / "bundle.pgf")
    assert {path.name for path in folder.iterdir()} == {"panels.pgf", "bundle.pgf"}, "no image lies beside them"
    for path in folder.iterdir():
        text = path.read_text("utf-8")
        assert r"\pgfpathrectangle{\pgfpointorigin}{\pgfqpoint{3.250000in}" in text
        assert r"\rmfamily" in text
        assert r"\sffamily" not in text
        assert min(float(size) for size in re.findall(r"\\fontsize{([\d.]+)}", text)) >= 7
        assert rf"{latex('≤ 10⁻¹⁰')}" in text
    (tmp_path / "paper.tex").write_text(DOCUMENT, "utf-8")
    for engine in engines:
        done = subprocess.run(
            [engine, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
            cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        log = (tmp_path / "paper.log").read_text("utf-8", errors="replace")
        assert "Output written on paper.pdf (1 page" in done.stdout
        assert not [line for line in log.splitlines() if line.startswith(("Missing character", "Overfull"))]
