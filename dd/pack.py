"""Packs: the runs that are solved together and written as one file; planned as a pure function of their axes.

The cost model, in seconds on one core of 2024 (constants measured, ``docs/benchmarks.md``): a run costs decompositions
at ``DECOMPOSITION`` flop/s, and steps of a fixed overhead plus their products at ``PRODUCTS`` flop/s. A pack
grows up to :class:`Limits`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from dd.config import RunConfig
from dd.kernels.rules import RULES


@dataclass(frozen=True)
class Limits:
    """How large a pack may grow.

    Attributes:
        runs: runs at most.
        seconds: merged up to about this much work; smaller packs would make the table slow to read.
        bytes: memory at most; a run that needs more is a pack by itself.
    """

    runs: int
    seconds: float
    bytes: int


ON_CPU = Limits(256, 1.5, 1 << 30)
"""Several packs for each process, so that processes end together."""

ON_GPU = Limits(4096, 600.0, 16 << 30)
"""Few packs: a GPU wants many runs at once."""

DECOMPOSITION, PRODUCTS = 1.2e10, 5e10
COMPILED_STEP, EAGER_STEP = 1.5e-6, 2e-4
FIXED = 0.01


@dataclass(frozen=True)
class Pack:
    """Runs solved together and written as one file.

    Attributes:
        runs: in the order in which they are solved.
    """

    runs: tuple[RunConfig, ...]

    @property
    def pack_id(self) -> str:
        """Hash of the runs' ids; names the pack's parquet files."""
        text = ",".join(sorted(run.run_id for run in self.runs))
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @property
    def seconds(self) -> float:
        """Estimated seconds on one core."""
        return sum(estimated_seconds(run) for run in self.runs)

    @property
    def bytes(self) -> int:
        """Estimated peak memory."""
        return estimated_bytes(self.runs)


def _columns(run: RunConfig) -> int:
    """Columns of what enters training: features where they are frozen, else inputs."""
    return run.width if run.component("model").frozen_features else run.component("data").inputs(run) + 1


def parameters(run: RunConfig) -> int:
    """Trained parameters of a run, give or take biases."""
    readout = run.component("data").outputs * run.width
    return readout if run.component("model").frozen_features else readout + _columns(run) * run.width


def estimated_seconds(run: RunConfig) -> float:
    """Cost of one run by the model above."""
    n, p, outputs = run.n_train, run.width, run.component("data").outputs
    frozen = run.component("model").frozen_features
    spectra = 4.0 * n * p * min(n, p)
    seconds = FIXED + (10 if frozen else 1) * spectra / 4 / DECOMPOSITION
    if run.steps is None or run.batch_size is None:
        return seconds
    if frozen and run.component("optimizer").adaptive:
        seconds += outputs * spectra / 2 / DECOMPOSITION
    compiled = run.optimizer in RULES and (run.normalization == "none" or frozen)
    flops = 4.0 * parameters(run) * run.batch_size
    logged = 30 * 2.0 * parameters(run) * (n + run.n_test)
    step = (COMPILED_STEP if compiled else EAGER_STEP) + flops / PRODUCTS
    return seconds + run.steps * step + logged / PRODUCTS


def estimated_bytes(runs: Sequence[RunConfig]) -> int:
    """Peak memory of some runs solved together.

    Shared inputs in float64 and in the training precision, once for the widest run of each kind; parameters, optimizer
    state and copies of every run; copies and factors of the largest design matrix, which is measured alone.
    """
    widest: dict[Hashable, int] = {}
    own = 0
    for run in runs:
        key = run.inputs_key if run.normalization == "none" else (run.inputs_key, run.width, run.normalization)
        widest[key] = max(widest.get(key, 0), (run.n_train + run.n_test) * _columns(run) * 24)
        own += parameters(run) * (8 if run.dtype == "float64" else 4) * 6
    alone = max(8 * run.width * (2 * (run.n_train + run.n_test) + 3 * run.n_train) for run in runs)
    return sum(widest.values()) + own + alone


def describe(packs: list[Pack]) -> str:
    """The plan as a table: packs, runs, widths, estimated seconds on one core and memory."""
    lines = ["pack                  runs  widths        seconds      MB"]
    for pack in packs:
        widths = [run.width for run in pack.runs]
        span = f"{min(widths)}-{max(widths)}" if len(set(widths)) > 1 else str(widths[0])
        lines.append(f"{pack.pack_id}  {len(pack.runs):4d}  {span:12s}  {pack.seconds:7.1f}  {pack.bytes / 1e6:6.0f}")
    total = sum(pack.seconds for pack in packs)
    runs = sum(len(pack.runs) for pack in packs)
    return "\n".join([*lines, f"{len(packs)} packs, {runs} runs, about {total:.0f} s on one core"])


def plan(runs: Iterable[RunConfig], limits: Limits = ON_CPU) -> list[Pack]:
    """Group runs into packs, most work first.

    Runs on the same data share a pack within ``limits``: first those that read the same features (same model and
    seed), widest first, those with the same design matrix one after the other, so that its decomposition is computed
    once. A run's numbers do not depend on the grouping.
    """
    groups: dict[Hashable, dict[Hashable, dict[Hashable, list[RunConfig]]]] = {}
    for run in runs:
        same_data = groups.setdefault(run.data_key, {})
        same_data.setdefault(run.inputs_key, {}).setdefault(run.feature_key, []).append(run)
    packs: list[Pack] = []
    for same_data in groups.values():
        filling = _Filling(limits)
        for same_inputs in same_data.values():
            for members in sorted(same_inputs.values(), key=lambda m: -sum(map(estimated_seconds, m))):
                # a decomposition that runs share is worth a longer pack
                longest = limits.seconds * (4 if members[0].component("model").frozen_features else 1)
                for run in members:
                    if not filling.has_room(run) or filling.seconds >= longest:
                        packs.append(filling.close())
                    filling.add(run)
                if filling.seconds >= limits.seconds:
                    packs.append(filling.close())
        if filling.runs:
            packs.append(filling.close())
    return sorted(packs, key=lambda pack: -pack.seconds)


class _Filling:
    """A pack on its way."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.runs: list[RunConfig] = []
        self.seconds = 0.0
        self._bytes = 0

    def has_room(self, run: RunConfig) -> bool:
        """Whether a run fits in; the sum of the memory of runs alone bounds that of a pack from above."""
        if not self.runs:
            return True
        if len(self.runs) == self.limits.runs:
            return False
        if self._bytes + estimated_bytes([run]) > self.limits.bytes:
            self._bytes = estimated_bytes(self.runs)  # the bound is loose where inputs are shared
        return self._bytes + estimated_bytes([run]) <= self.limits.bytes

    def add(self, run: RunConfig) -> None:
        self.runs.append(run)
        self.seconds += estimated_seconds(run)
        self._bytes += estimated_bytes([run])

    def close(self) -> Pack:
        """The pack; the next one starts empty."""
        pack = Pack(tuple(self.runs))
        self.runs, self.seconds, self._bytes = [], 0.0, 0
        return pack
