"""Fonts in PDFs: a figure's letters are cut out of a font once in a process.

matplotlib cuts them out for each PDF, which takes as long as to draw the figure. Two of three figures have the letters
of another.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from functools import lru_cache
from typing import Any

PLACING = ("GDEF", "GPOS", "GSUB")
"""Tables for placing and replacing glyphs: most of the work, and no reader of a PDF wants them."""

KEPT = 64
"""Fonts that a process keeps."""

Cut = Callable[[Any, Any], AbstractContextManager[Any]]


def remember() -> None:
    """Have matplotlib keep the fonts that it has cut.

    What this changes is private to matplotlib and fontTools. Where it has gone, nothing happens, and PDFs take longer.
    """
    with suppress(ImportError, AttributeError):
        from fontTools import subset  # type: ignore[import-untyped]
        from matplotlib.backends import _backend_pdf_ps

        dropped = subset.Options._drop_tables_default
        cut, written = _backend_pdf_ps.get_glyphs_subset, _backend_pdf_ps.font_as_file
        subset.Options._drop_tables_default = [*dropped, *PLACING]
        _backend_pdf_ps.get_glyphs_subset = cut_once(cut)  # type: ignore[assignment]
        _backend_pdf_ps.font_as_file = written_once(written)


def cut_once(cut: Cut) -> Cut:
    """``get_glyphs_subset`` of matplotlib: from a font and glyphs to a font, which it closes after use."""

    @lru_cache(maxsize=KEPT)
    def kept(font: Hashable, glyphs: Hashable) -> tuple[Any, ExitStack]:
        opened = ExitStack()
        return opened.enter_context(cut(font, glyphs)), opened

    # one version of matplotlib has a text for the glyphs, another a set
    return lambda font, glyphs: nullcontext(kept(font, glyphs if isinstance(glyphs, str) else frozenset(glyphs))[0])


def written_once(written: Callable[[Any], io.BytesIO]) -> Callable[[Any], io.BytesIO]:
    """``font_as_file`` of matplotlib: from a font to a file in memory, which its readers move through."""
    kept = lru_cache(maxsize=KEPT)(written)
    return lambda font: io.BytesIO(kept(font).getvalue())
