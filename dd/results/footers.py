"""What the footer of a part of ``runs`` says about its runs: JSON under the key ``dd``.

A part of one pack has ``environment``, ``settings`` and ``runs``, the axes of each. Where packs have been merged,
``environments`` lists every distinct one beside the newest ``environment``; ``settings`` are the newest; ``runs`` is
left out above :data:`MOST`, since the columns have the axes too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pyarrow as pa

FOOTER = b"dd"
MOST = 256
"""Runs whose axes a footer lists at most: every reader of a part reads all of its footer."""


def with_footer(table: pa.Table, metadata: Mapping[str, object]) -> pa.Table:
    """The table with this footer."""
    return table.replace_schema_metadata({FOOTER: json.dumps(metadata, sort_keys=True, default=str).encode()})


def footer_of(table: pa.Table) -> dict[str, object]:
    """The footer of a part that has been read; empty where another program has written it."""
    try:
        found = json.loads((table.schema.metadata or {}).get(FOOTER, b"{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def merged(footers: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """One footer of several, oldest first."""
    result: dict[str, object] = {}
    environments: list[object] = []
    runs: list[object] = []
    for footer in (json.loads(json.dumps(f, default=str)) for f in footers):
        result |= footer
        found = [*footer.get("environments", []), footer.get("environment")]
        environments += [e for e in found if e and e not in environments]
        runs += footer.get("runs", [])
    result.pop("runs", None)
    result.pop("environments", None)
    if len(environments) > 1:
        result["environments"] = environments
    if 0 < len(runs) <= MOST:
        result["runs"] = runs
    return result
