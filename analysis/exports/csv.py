"""CSV: one tidy file, one line a step of a track."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.exports.tracks import Track


def frame(tracks: Sequence[Track]) -> pd.DataFrame:
    """``id``, ``name``, the settings, the step under its own name, then the metrics (``test_loss_median``)."""
    fixed = pd.DataFrame([{"id": track.id, "name": track.name, **track.settings} for track in tracks])
    points = pd.concat([track.points for track in tracks]).rename(columns=lambda name: name.replace("/", "_"))
    of_point = np.repeat(np.arange(len(tracks)), [len(track.points) for track in tracks])
    return pd.concat(
        [fixed.iloc[of_point].reset_index(drop=True), points.rename_axis(tracks[0].x).reset_index()], axis="columns"
    )


def write(table: str, tracks: Sequence[Track], out: Path) -> str:
    """Write ``out/<table>.csv``, or ``out`` itself where it ends in ``.csv``."""
    path = out if out.suffix == ".csv" else out / f"{table}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame(tracks).to_csv(path, index=False)
    return f"pandas.read_csv({str(path)!r})"
