"""Where the numbers of the report come from: runs, time, devices, versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis import page


def provenance(tables: Mapping[str, pd.DataFrame], environments: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Pieces of the page.

    Args:
        tables: runs by the table's name.
        environments: what they were computed with (``analysis.tables.environments``).
    """
    if not tables:
        yield page.paragraph("There are no tables.")
        return
    rows = pd.concat([t[["status", "seconds", "finished_at", "git_commit", "device"]] for t in tables.values()])
    first, last = rows["finished_at"].min(), rows["finished_at"].max()
    yield page.paragraph(
        f"{len(rows)} runs in {len(tables)} tables, computed in {_duration(rows['seconds'].sum())} of processor time "
        f"between {_time(first)} and {_time(last)} (UTC)."
    )
    each = pd.DataFrame(
        {
            "table": name,
            "runs": len(own),
            "diverged": int((own["status"] == "diverged").sum()),
            "failed": int((own["status"] == "failed").sum()),
            "time": _duration(own["seconds"].sum()),
            "device": ", ".join(sorted(own["device"].dropna().unique())),
            "commit": ", ".join(sorted({_short(c) for c in own["git_commit"].dropna()})),
            "last run": _time(own["finished_at"].max()),
        }
        for name, own in tables.items()
    )
    yield page.table(each, {c: c for c in each}, "Every table")
    made: dict[str, set[str]] = {}
    for environment in environments:
        for key, value in environment.items():
            for name, version in value.items() if isinstance(value, dict) else [(key, value)]:
                if version is not None:
                    made.setdefault(name.replace("_", " "), set()).add(str(version))
    if made:
        versions = pd.DataFrame({"what": name, "value": ", ".join(sorted(v))} for name, v in sorted(made.items()))
        yield page.table(versions, {"what": "package", "value": "version"}, "Computed with")


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
