"""File names of figures: readable, and one for each figure, however tables and settings are called."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

KINDS = (
    "effective", "conditioning", "map", "epochs", "budgets", "decomposition", "stopping", "tuning", "card", "peaks",
)  # fmt: skip
"""Words that end the names of a table's further files."""

TAKEN = ("summary", "steps", "rivals", "verdict", "index")
"""Figures of the report, which belong to no table."""

LONGEST = 200
"""Bytes of a file name without its ending; file systems hold 255."""


def file_stem(name: str, values: Mapping[str, object]) -> str:
    """Name of a figure's files, without their ending.

    It is made of the table's name and of what the figure fixes. A hash of the true text follows where that text loses
    something (a space becomes ``_``), could be read in another way (a table called ``a-map``) or is too long: two
    figures never share a file.

    Args:
        name: the table.
        values: settings that the figure fixes; a kind of figure is a key without a value. NaN: not set.

    >>> file_stem("ridge", {"label_noise": 0.1, "map": ""}), file_stem("a b", {}), file_stem("a-map", {})
    ('ridge-label_noise=0.1-map', 'a_b~0fb2f1c640', 'a-map~0f1df3f693')
    """
    fixed = {key: value for key, value in values.items() if value == value}
    text = "-".join([name, *(f"{key}={value}" if value != "" else key for key, value in fixed.items())])
    slug = re.sub(r"[^\w.=+-]+", "_", text)
    doubtful = _looks_split(name) or any(_is_doubtful(key, value) for key, value in fixed.items())
    if slug == text and not doubtful and len(slug.encode()) <= LONGEST and slug.lower() not in TAKEN:
        return slug
    true = json.dumps([name, [[key, str(value)] for key, value in fixed.items()]])
    mark = f"~{hashlib.sha256(true.encode()).hexdigest()[:10]}"
    return slug.encode()[: LONGEST - len(mark)].decode(errors="ignore") + mark


def _looks_split(text: str) -> bool:
    """Whether text ends like a table's name with a setting or a kind of figure."""
    return any("=" in part or part.lower() in KINDS for part in text.split("-")[1:])


def _is_doubtful(key: str, value: object) -> bool:
    return value is None or (value == "" and key not in KINDS) or _looks_split(str(value))
