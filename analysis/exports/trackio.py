"""Trackio, local: one run a track, in the project ``dd`` of its SQLite folder."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from analysis.exports.tracks import Track

PROJECT, ID = "dd", "dd_id"
"""The project, and the setting that names the track. Trackio chooses run ids by itself."""


def write(table: str, tracks: Sequence[Track], out: Path) -> str:
    """Write ``out/dd.db``; what was exported there before is replaced."""
    os.environ["TRACKIO_DIR"] = str(out.resolve())
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    for elsewhere in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        os.environ.pop(elsewhere, None)
    import trackio

    out.mkdir(parents=True, exist_ok=True)
    exported = {track.id for track in tracks}
    with contextlib.suppress(ValueError):  # there is no such project yet
        for former in trackio.Api().runs(PROJECT):
            if (former.config or {}).get(ID) in exported:
                former.delete()
    with contextlib.redirect_stdout(io.StringIO()):
        for track in tracks:
            trackio.init(
                PROJECT, name=f"{table}: {track.name}", group=table, config=track.settings | {ID: track.id},
                embed=False, auto_log_gpu=False, auto_log_cpu=False,
            )  # fmt: skip
            for step, values in track.logged():
                trackio.log(values, step=step)
            trackio.finish()
    return f"TRACKIO_DIR={shlex.quote(str(out.resolve()))} trackio show --project {PROJECT}"
