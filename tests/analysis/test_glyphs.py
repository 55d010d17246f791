"""Fonts in PDFs: cut once, and with the outlines of the font that they are cut from."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fontTools.ttLib import TTFont
from matplotlib import font_manager
from matplotlib import pyplot as plt

from analysis.glyphs import PLACING, cut_once, written_once
from analysis.style import SHEET, save


def embedded(pdf: Path) -> list[TTFont]:
    """Fonts in a PDF of matplotlib."""
    data = pdf.read_bytes()
    places = re.finditer(rb"/Length1 \d+ /Length (\d+) /Filter /FlateDecode >>\nstream\n", data)
    streams = [zlib.decompress(data[m.end() : m.end() + int(m[1])]) for m in places]
    return [TTFont(io.BytesIO(stream)) for stream in streams]


def test_letters_in_a_pdf_have_the_outlines_of_the_font(tmp_path: Path) -> None:
    with plt.style.context(SHEET):
        for name in ("a", "b"):  # the second has the font of the first
            figure, ax = plt.subplots(figsize=(2, 1))
            ax.set(xticks=[], yticks=[], title="AV 17")
            save(figure, tmp_path / name)
    assert (tmp_path / "a.pdf").read_bytes() == (tmp_path / "b.pdf").read_bytes()
    (font,) = embedded(tmp_path / "b.pdf")
    whole = TTFont(font_manager.findfont("DejaVu Sans"))
    names = {whole.getBestCmap()[ord(letter)] for letter in "AV 17"}
    assert names <= set(font.getGlyphOrder())
    for name in names:
        got, expected = (list(f["glyf"][name].getCoordinates(f["glyf"])[0]) for f in (font, whole))
        assert got == expected
        assert font["hmtx"][name] == whole["hmtx"][name]
    assert not set(PLACING) & set(font.keys())
    assert font.reader.file.getbuffer().nbytes < 20_000


def test_a_font_is_cut_once_for_the_same_glyphs_and_stays_open() -> None:
    opened: list[object] = []
    closed: list[object] = []

    @contextmanager
    def cut(font: str, glyphs: object) -> Iterator[str]:
        opened.append(glyphs)
        yield f"{font} {len(opened)}"
        closed.append(glyphs)

    once = cut_once(cut)
    given = ("f", {1, 2}), ("f", {2: 0, 1: 0}.keys()), ("f", {1}), ("g", {1}), ("f", "ab"), ("f", "ab")
    got = []
    for arguments in given:
        with once(*arguments) as font:
            got.append(font)
    assert got == ["f 1", "f 1", "f 2", "g 3", "f 4", "f 4"]
    assert not closed


def test_each_reader_of_a_written_font_begins_at_its_start() -> None:
    calls: list[object] = []

    def written(font: object) -> io.BytesIO:
        calls.append(font)
        return io.BytesIO(b"font")

    once, font = written_once(written), object()
    assert [once(font).read(), once(font).read()] == [b"font", b"font"]
    assert len(calls) == 1
