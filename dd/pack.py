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


def estimated_bytes(run: RunConfig) -> int:
    """Estimated peak memory of one run.

    Features of train and test in float64 and in the training precision, and the factors of their decomposition.
    """
    columns = run.width if run.component("model").frozen_features else run.component("data").inputs(run) + run.width
    features = (run.n_train + run.n_test) * columns * 12
    return features + 3 * 8 * run.n_train * run.width


def describe(packs: list[Pack]) -> str:
    """The plan as a table: packs, runs, widths, estimated seconds on one core and memory."""
    lines = ["pack                  runs  widths        seconds  MB"]
    for pack in packs:
        widths = [run.width for run in pack.runs]
        span = f"{min(widths)}-{max(widths)}" if len(set(widths)) > 1 else str(widths[0])
        megabytes = max(estimated_bytes(run) for run in pack.runs) / 1e6
        lines.append(f"{pack.pack_id}  {len(pack.runs):4d}  {span:12s}  {pack.seconds:7.1f}  {megabytes:.0f}")
    total = sum(pack.seconds for pack in packs)
    runs = sum(len(pack.runs) for pack in packs)
    return "\n".join([*lines, f"{len(packs)} packs, {runs} runs, about {total:.0f} s on one core"])


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
