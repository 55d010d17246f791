"""Packs: runs that share data, features and seed, planned deterministically."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from dd.config import RunConfig

MAX_RUNS = 64
"""Runs of one pack at most: what an interruption can cost, and the longest wait between two parts of the table."""


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
    def cost(self) -> float:
        """Relative cost, for planning: multiply-adds of the decompositions and of all steps."""
        total = 0.0
        for run in self.runs:
            n, p = run.n_train, run.width
            total += n * p * min(n, p) * 8
            total += (run.steps or 0) * (run.batch_size or 0) * (p * 40 + 2e4)
        return total


def plan(runs: Iterable[RunConfig]) -> list[Pack]:
    """Group runs into packs, widest work first.

    Runs of one pack agree in data, model, width, normalisation and seed, so that features and their decomposition
    are computed once. Their numbers do not depend on the grouping.
    """
    groups: dict[tuple[object, ...], list[RunConfig]] = {}
    for run in runs:
        shared = tuple(o for o in run.options if o[0].startswith(("data.", "model.", "normalization.")))
        key = (
            run.data, run.n_train, run.n_test, run.label_noise, run.label_noise_over, run.data_seed, run.standardize,
            run.model, run.width, run.normalization, run.seed, shared,
        )  # fmt: skip
        groups.setdefault(key, []).append(run)
    packs = [
        Pack(tuple(members[i : i + MAX_RUNS]))
        for members in groups.values()
        for i in range(0, len(members), MAX_RUNS)
    ]
    return sorted(packs, key=lambda pack: -pack.cost)
