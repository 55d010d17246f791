"""TensorBoard: one folder of event files a track; of curves the median and its band in one chart, too."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from analysis.exports.tracks import QUANTILES, Track
from analysis.names import file_stem

LONGEST = 80
"""Characters of a track's name in its folder's name."""


def write(table: str, tracks: Sequence[Track], out: Path) -> str:
    """Write ``out/<table>/<name>~<id>/``; what was exported there before is replaced."""
    from torch.utils.tensorboard import SummaryWriter

    folder = out / file_stem(table, {})
    for track in tracks:
        for former in folder.glob(f"*~{track.id}"):
            shutil.rmtree(former)
        name = re.sub(r"[^\w.=+-]+", "_", track.name)[:LONGEST]
        with SummaryWriter(str(folder / f"{name}~{track.id}")) as writer:
            writer.add_text("settings", "\n".join(f"    {key}: {value}" for key, value in track.settings.items()))
            banded = [tag.removesuffix("/median") for tag in track.points if tag.endswith("/median")]
            if banded:
                charts = {metric: ["Margin", [f"{metric}/{q}" for q in QUANTILES]] for metric in banded}
                writer.add_custom_scalars({f"median and 10-90 % quantiles, against {track.x}": charts})
            for step, values in track.logged():
                for tag, value in values.items():
                    writer.add_scalar(tag, value, step)
    return f"tensorboard --logdir {shlex.quote(str(out))}"
