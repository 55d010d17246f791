"""Pieces of one self-contained HTML page: escaped text, tables, inlined figures, the document."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from urllib.parse import quote

import pandas as pd
from PIL import Image

from analysis.labels import is_null, value_text

TEMPLATE = Path(__file__).parent / "page.html"

CSS_PIXELS_PER_INCH = 96


def plain_text(value: object) -> str:
    """A cell's value: numbers in short form, nothing for null.

    >>> plain_text("two_layer"), plain_text(3.14159), plain_text(float("nan"))
    ('two_layer', '3.14', '')
    """
    if is_null(value):
        return ""
    return value if isinstance(value, str) else value_text(value)


def text(value: object) -> str:
    """A cell's value with markup escaped.

    >>> text("a < b")
    'a &lt; b'
    """
    return html.escape(plain_text(value))


def paragraph(words: str, kind: str | None = None) -> str:
    """A paragraph of plain words."""
    opening = f'<p class="{html.escape(kind)}">' if kind else "<p>"
    return f"{opening}{html.escape(words)}</p>"


def heading(level: int, words: str, anchor: str | None = None) -> str:
    """A heading, with an id that links can go to."""
    place = f' id="{html.escape(anchor)}"' if anchor else ""
    return f"<h{level}{place}>{html.escape(words)}</h{level}>"


def anchors(names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """An id for each name, all different.

    Args:
        names: what is linked to.
        taken: ids that others have.

    >>> anchors(["ridge", "a b", "a-b"], ["ridge"])
    {'ridge': 'ridge-2', 'a b': 'a-b', 'a-b': 'a-b-2'}
    """
    found: dict[str, str] = {}
    others = set(taken)
    for name in names:
        slug = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-") or "table"
        used, number = slug, 1
        while used in found.values() or used in others:
            number += 1
            used = f"{slug}-{number}"
        found[name] = used
    return found


def link(words: str, target: str, table: str | None = None) -> str:
    """A link; ``table`` is the anchor of a table that the explorer shows first."""
    shown = f' data-table="{html.escape(table)}"' if table else ""
    return f'<a href="{html.escape(target)}"{shown}>{html.escape(words)}</a>'


def file_link(path: Path) -> str:
    """A link to a file beside the page, named by its kind."""
    return link(path.suffix[1:].upper(), quote(path.name))


def code(lines: Iterable[str], name: str) -> str:
    """Commands, in a box of its own that scrolls."""
    shown = "\n".join(html.escape(line) for line in lines)
    return f'<pre tabindex="0" role="group" aria-label="{html.escape(name)}"><code>{shown}</code></pre>'


def table(frame: pd.DataFrame, names: Mapping[str, str], caption: str) -> str:
    """A table that scrolls in a box of its own where it is wider than the page.

    Args:
        frame: the rows.
        names: columns to show, in order, with their titles.
        caption: what the table holds.
    """
    shown = [c for c in names if c in frame]
    numeric = {c: "number" for c in shown if pd.api.types.is_numeric_dtype(frame[c]) and frame[c].dtype != bool}
    kinds = {c: f' class="{numeric[c]}"' if c in numeric else "" for c in shown}
    head = "".join(f'<th scope="col"{kinds[c]}>{html.escape(names[c])}</th>' for c in shown)
    lines = [
        "<tr>" + "".join(f"<td{kinds[c]}>{text(v)}</td>" for c, v in zip(shown, values, strict=True)) + "</tr>"
        for values in frame[shown].itertuples(index=False, name=None)
    ]
    body = "\n".join(lines)
    return (
        f'<div class="wide" tabindex="0" role="group" aria-label="{html.escape(caption)}">'
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n"
        "</tbody></table></div>"
    )


def folded(summary: str, body: str) -> str:
    """Something long that opens on demand."""
    return f"<details><summary>{html.escape(summary)}</summary>\n{body}\n</details>"


def figure(png: Path, caption: str, alt: str, files: Iterable[Path] = ()) -> str:
    """A figure with its image inside the page, and links to its files beside the page."""
    with Image.open(png) as image:
        width, height = image.size
        inches = width / image.info.get("dpi", (CSS_PIXELS_PER_INCH, 0))[0]
    kind = ' class="narrow"' if inches < 6 else ""
    data = base64.b64encode(png.read_bytes()).decode("ascii")
    links = " ".join(file_link(path) for path in files)
    box = f'<div class="wide" tabindex="0" role="group" aria-label="{html.escape(f"Figure {png.stem}")}">'
    return (
        f'<figure>{box}<img{kind} src="data:image/png;base64,{data}" alt="{html.escape(alt)}" '
        f'width="{width}" height="{height}" loading="lazy"></div>\n'
        f'<figcaption>{html.escape(caption)} <span class="files">{links}</span></figcaption></figure>'
    )


def contents(parts: Sequence[tuple[str, str, Sequence[tuple[str, str]]]]) -> str:
    """Table of contents: parts (title, anchor), each with entries (title, anchor)."""
    lines = []
    for title, anchor, entries in parts:
        below = "".join(f"<li>{link(name, '#' + place)}</li>" for name, place in entries)
        lines.append(f"<li>{link(title, '#' + anchor)}" + (f"<ul>{below}</ul>" if below else "") + "</li>")
    opened = '<nav aria-label="Contents"><details id="contents"><summary>Contents</summary>'
    return f"{opened}<ul>\n" + "\n".join(lines) + "\n</ul></details></nav>"


def document(title: str, nav: str, body: Iterable[str]) -> str:
    """The page: no fonts, nothing that is fetched."""
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=html.escape(title), nav=nav, body="\n".join(body))
