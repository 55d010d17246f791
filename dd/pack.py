"""Packs: the runs that are solved together and written as one file, planned deterministically."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from dd.config import RunConfig

MAX_RUNS = 64
"""Runs of one pack at most."""

TARGET_SECONDS = 1.0
"""Small packs are merged up to about this much work: one file each would make the table slow to read."""


@dataclass(frozen=True)
class Pack:
    """Runs solved together and written as one file.

    Attributes:
        runs: in the order of the sweep.
    """

    runs: tuple[RunConfig, ...]

    @property
    def pack_id(self) -> str:
        """Hash of the runs' ids; names the pack's parquet files."""
        text = ",".join(sorted(run.run_id for run in self.runs))
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @property
    def seconds(self) -> float:
        """Estimated seconds on one core of 2024, for planning: decompositions and training steps."""
        return sum(estimated_seconds(run) for run in self.runs)


def estimated_seconds(run: RunConfig) -> float:
    """Cost model of one run: a decomposition at 10 GFLOP/s, and steps of 60 µs plus their arithmetic at 30 GFLOP/s."""
    n, p = run.n_train, run.width
    decomposition = 10 * n * p * min(n, p) / 1e10
    if run.steps is None or run.batch_size is None:
        return decomposition
    return decomposition + run.steps * (6e-5 + 40 * run.batch_size * p / 3e10)


def plan(runs: Iterable[RunConfig]) -> list[Pack]:
    """Group runs into packs, most work first.

    Runs with the same features come one after the other, so that features and their decomposition are computed once;
    runs on the same data share a pack until it holds ``TARGET_SECONDS`` of work or ``MAX_RUNS`` runs. A run's numbers
    do not depend on the grouping.
    """
    groups: dict[object, dict[object, list[RunConfig]]] = {}
    for run in runs:
        groups.setdefault(run.data_key, {}).setdefault(run.feature_key, []).append(run)
    packs: list[Pack] = []
    for same_data in groups.values():
        filling: list[RunConfig] = []
        seconds = 0.0
        for members in sorted(same_data.values(), key=lambda m: -Pack(tuple(m)).seconds):
            for run in members:
                filling.append(run)
                seconds += estimated_seconds(run)
                if len(filling) == MAX_RUNS:
                    packs.append(Pack(tuple(filling)))
                    filling, seconds = [], 0.0
            if seconds >= TARGET_SECONDS:
                packs.append(Pack(tuple(filling)))
                filling, seconds = [], 0.0
        if filling:
            packs.append(Pack(tuple(filling)))
    return sorted(packs, key=lambda pack: -pack.seconds)
