"""CSV: one tidy file, one line a step of a track."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.exports.tracks import Track


def frame(tracks: Sequence[Track]) -> pd.DataFrame:
    """``id``, ``name``, the settings, the step under its own name, then the metrics (``test_loss_median``)."""
    settings = list(dict.fromkeys(key for track in tracks for key in track.settings))
    parts = []
    for track in tracks:
        points = track.points.rename(columns=lambda c: c.replace("/", "_")).reset_index()
        fixed = pd.DataFrame([{"id": track.id, "name": track.name} | track.settings] * len(points), index=points.index)
        parts.append(pd.concat([fixed, points], axis="columns"))
    every = pd.concat(parts, ignore_index=True)
    first = ["id", "name", *settings, tracks[0].x]
    return every[[*first, *(c for c in every if c not in first)]]


def write(table: str, tracks: Sequence[Track], out: Path) -> str:
    """Write ``out/<table>.csv``, or ``out`` itself where it ends in ``.csv``."""
    path = out if out.suffix == ".csv" else out / f"{table}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame(tracks).to_csv(path, index=False)
    return f"pandas.read_csv({str(path)!r})"
