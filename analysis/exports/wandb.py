"""Weights & Biases, offline: one folder a track, which ``wandb sync`` uploads."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from analysis.exports.tracks import Track

PROJECT = "dd"


def write(table: str, tracks: Sequence[Track], out: Path) -> str:
    """Write ``out/wandb/offline-run-<time>-<id>/``; what was exported there before is replaced."""
    os.environ["WANDB_ERROR_REPORTING"] = "false"  # reports of wandb's own faults go over the network
    import wandb

    out.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(
        console="off", silent=True, disable_git=True, x_disable_meta=True, x_disable_stats=True,
        x_disable_machine_info=True,
    )  # fmt: skip
    for track in tracks:
        for former in (out / "wandb").glob(f"offline-run-*-{track.id}"):
            shutil.rmtree(former)
        with wandb.init(
            project=PROJECT, group=table, name=f"{table}: {track.name}", id=track.id, config=track.settings, dir=out,
            mode="offline", settings=settings,
        ) as run:  # fmt: skip
            run.define_metric("*", step_metric=track.x)
            for step, values in track.logged():
                run.log(values | {track.x: step}, step=step)
    return f"wandb sync {shlex.quote(str(out / 'wandb'))}/offline-run-*"
