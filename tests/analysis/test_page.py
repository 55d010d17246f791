"""Pieces of the page: markup in names stays text, tables and figures are whole."""

from __future__ import annotations

import base64
from pathlib import Path

import pandas as pd
from PIL import Image

from analysis import page


def test_markup_in_cells_titles_and_anchors_is_escaped() -> None:
    frame = pd.DataFrame({"a<b>": ["<script>", 'x "y" & z']})
    html = page.table(frame, {"a<b>": "<i>"}, "c < d")
    assert "<script>" not in html
    assert "<i>" not in html
    assert "&lt;script&gt;" in html
    assert "x &quot;y&quot; &amp; z" in html
    assert page.heading(3, "<x>", '"') == '<h3 id="&quot;">&lt;x&gt;</h3>'
    assert page.anchors(['"><', "<"]) == {'"><': "table", "<": "table-2"}


def test_a_table_shows_the_asked_columns_in_order_and_numbers_short() -> None:
    frame = pd.DataFrame({"x": [0.123456, None], "name": ["one", "two"], "hidden": [1, 2]})
    html = page.table(frame, {"name": "Name", "absent": "Absent", "x": "X"}, "t")
    assert html.index("Name") < html.index("X</th>")
    assert "Absent" not in html
    assert "hidden" not in html
    assert '<td>one</td><td class="number">0.123</td>' in html
    assert '<td>two</td><td class="number"></td>' in html


def test_a_figure_carries_its_image(tmp_path: Path) -> None:
    png = tmp_path / "f.png"
    Image.new("RGB", (1000, 10)).save(png, dpi=(200, 200))
    html = page.figure(png, "a & b", 'alt "text"', [tmp_path / "a b.pdf"])
    data = html.split("base64,")[1].split('"')[0]
    assert base64.b64decode(data) == png.read_bytes()
    assert 'width="1000" height="10"' in html
    assert 'alt="alt &quot;text&quot;"' in html
    assert '<figcaption>a &amp; b <span class="files"><a href="a%20b.pdf">PDF</a></span></figcaption>' in html
    assert 'class="narrow"' in html, "five inches are not blown up to the page's width"
