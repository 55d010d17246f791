"""Packs: the runs that are solved together and written as one file; planned as a pure function of their axes.

The cost model, in seconds on one core of 2024 (constants measured, ``docs/benchmarks.md``): a design matrix costs
decompositions at ``DECOMPOSITION`` flop/s, once for all runs of a pack that share it; a run costs a fixed overhead,
measurements of its Jacobian, and steps of an overhead plus their products at ``PRODUCTS`` flop/s. A pack grows up to
:class:`Limits`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from dd.config import RunConfig
from dd.kernels.rules import RULES
from dd.kernels.span import steps_in_span
from dd.measure.conditioning import CHEAP_PARAMETERS, COPIES, Measure, ntk_samples
from dd.solvers.logs import log_steps, logged_steps


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
FIXED = 0.004
LANCZOS_PRODUCTS = 1200
DEEP, DEEP_STEP, DEEP_EXACT, DEEP_EAGER, DEEP_PRODUCTS = 1.4e10, 8e-4, 5e9, 1e9, 250
"""Of deep networks: multiply-adds a second in training, seconds a step beside them; multiply-adds a second in float64
by compiled code and by PyTorch's, and forward passes that a Lanczos run is worth."""


@dataclass(frozen=True)
class Pack:
    """Runs solved together and written as one file.

    Attributes:
        runs: in the order in which they are solved.
        measure: what is measured, for the estimates; None for training alone.
    """

    runs: tuple[RunConfig, ...]
    measure: Measure | None = None

    @property
    def pack_id(self) -> str:
        """Hash of the runs' ids; names the pack's parquet files."""
        text = ",".join(sorted(run.run_id for run in self.runs))
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @cached_property
    def seconds(self) -> float:
        """Estimated seconds on one core."""
        shared = {run.feature_key: shared_seconds(run) for run in self.runs}
        seconds = sum(shared.values()) + sum(estimated_seconds(run, self.measure) for run in self.runs)
        return seconds - sum(training_seconds(run) for family in families(self.runs) for run in family[1:])

    @property
    def bytes(self) -> int:
        """Estimated peak memory."""
        return estimated_bytes(self.runs, self.measure)


def _columns(run: RunConfig) -> int:
    """Columns of what enters training: features where they are frozen, else inputs."""
    return run.width if run.component("model").frozen_features else run.component("data").inputs(run) + 1


def parameters(run: RunConfig) -> int:
    """Trained parameters of a run, give or take biases."""
    count: int = run.component("model").parameter_count(run)
    return count


def _spectrum_seconds(run: RunConfig) -> float:
    """Singular values of the matrix that the read-out sees."""
    columns = run.component("model").feature_count(run)
    seconds: float = run.n_train * columns * min(run.n_train, columns) / DECOMPOSITION
    return seconds


def shared_seconds(run: RunConfig) -> float:
    """Cost of what runs with the same design matrix share: its features, decomposition and least-squares solution."""
    return 10 * _spectrum_seconds(run) if run.component("model").frozen_features else 0.0


def _jacobian_bytes(run: RunConfig, measure: Measure | None) -> int:
    """Memory of a run's Jacobian and its decomposition; 0 where none is formed."""
    model = run.component("model")
    if measure is None or model.frozen_features:
        return 0
    if model.deep:
        return int(COPIES * 8 * ntk_samples(run) * run.component("data").outputs * parameters(run)) * measure.full
    count = parameters(run)
    size = COPIES * 8 * run.n_train * run.component("data").outputs * count
    return size if (measure.full or count <= CHEAP_PARAMETERS) and size <= measure.memory else 0


def measuring_seconds(run: RunConfig, measure: Measure | None) -> float:
    """Cost of measuring a trained net's curvature; random features have it from the decomposition that they share."""
    if measure is None or run.component("model").frozen_features:
        return 0.0
    if run.component("model").deep:
        eager = DEEP_PRODUCTS * run.n_train + 6 * run.component("data").outputs * ntk_samples(run)
        passes = (6 * run.n_train + run.n_test) / DEEP_EXACT + measure.full * eager / DEEP_EAGER
        return float(passes * run.component("model").multiply_adds(run))
    count, rows = parameters(run), run.n_train * run.component("data").outputs
    times = (3 if measure.full else 1) + run.component("optimizer").adaptive
    if _jacobian_bytes(run, measure):
        less, more = min(count, rows), max(count, rows)
        return times * less * less * (2.0 * more / PRODUCTS + 4.0 * less / DECOMPOSITION)
    return times * LANCZOS_PRODUCTS * 8.0 * run.n_train * count / DECOMPOSITION if measure.full else 0.0


def training_seconds(run: RunConfig) -> float:
    """Cost of a deep network's training, which runs of one trajectory share."""
    if run.steps is None or run.batch_size is None:
        return 0.0
    passes = 3.0 * run.steps * run.batch_size + len(logged_steps(run)) * (run.n_train + run.n_test)
    return float(run.steps * DEEP_STEP + passes * run.component("model").multiply_adds(run) / DEEP)


def families(runs: Iterable[RunConfig]) -> list[list[RunConfig]]:
    """Deep networks that differ in their budgets alone, trained once: the longest first. Other runs are alone."""
    found: dict[Hashable, list[RunConfig]] = {}
    for run in runs:
        found.setdefault(run.trajectory_key if run.component("model").deep else run, []).append(run)
    return [sorted(family, key=lambda run: -(run.steps or 0)) for family in found.values()]


def estimated_seconds(run: RunConfig, measure: Measure | None = None) -> float:
    """Cost of one run by the model above, without what it shares."""
    n, outputs = run.n_train, run.component("data").outputs
    frozen = run.component("model").frozen_features
    seconds = FIXED + (0 if frozen else _spectrum_seconds(run)) + measuring_seconds(run, measure)
    if run.steps is None or run.batch_size is None:
        return seconds
    samples = n + run.n_test
    if run.component("model").deep:
        return seconds + training_seconds(run)
    if run.solver == "exact":
        return seconds + 2.0 * len(log_steps(run.steps)) * outputs * samples * min(n, run.columns) / PRODUCTS
    if frozen and run.component("optimizer").adaptive:
        seconds += 2 * outputs * _spectrum_seconds(run)
    compiled = run.optimizer in RULES and (run.normalization == "none" or frozen)
    logged = 30 * 2.0 * parameters(run) * samples
    flops = 4.0 * parameters(run) * run.batch_size
    if steps_in_span(run):
        logged += 2.0 * run.width * samples * (30 * (n - _columns(run)) + 4 * _columns(run))
        flops += 2.0 * run.width * (n - 2 * _columns(run)) * run.batch_size
    if run.solver == "dual":
        logged = 30 * 2.0 * outputs * n * samples + 2.0 * n * samples * run.columns
        flops = 2.0 * outputs * n * run.batch_size
    step = (COMPILED_STEP if compiled else EAGER_STEP) + flops / PRODUCTS
    return seconds + run.steps * step + logged / PRODUCTS


def _activations(run: RunConfig) -> int:
    """What a deep network keeps of a batch between the forward and the backward pass."""
    model = run.component("model")
    return int(model.activation_bytes(run) * (run.batch_size or 0)) if model.deep else 0


def estimated_bytes(runs: Sequence[RunConfig], measure: Measure | None = None) -> int:
    """Peak memory of some runs solved together.

    Shared inputs in float64 and in the training precision, once for the widest run of each kind; parameters, optimizer
    state and copies of every run; copies and factors of the largest design matrix, which is measured alone. Exact
    dynamics keep the factors of each design matrix until its runs are solved.
    """
    widest: dict[Hashable, int] = {}
    factors: dict[Hashable, int] = {}
    own = 0
    for run in runs:
        key = run.inputs_key if run.normalization == "none" else (run.inputs_key, run.width, run.normalization)
        widest[key] = max(widest.get(key, 0), (run.n_train + run.n_test) * _columns(run) * 24)
        # in the span of the inputs: coefficients, and what the weights give on all samples
        span = steps_in_span(run) * run.width * (4 * run.n_train + run.n_test)
        own += (6 * parameters(run) + span) * (8 if run.dtype == "float64" else 4)
        if run.solver == "exact" and run.steps is not None:
            factors[run.feature_key] = 8 * min(run.n_train, run.columns) * (run.n_train + run.columns)
        elif run.solver == "dual":
            factors[run.feature_key] = 2 * 8 * run.n_train * (run.n_train + run.n_test)
    alone = max(
        8 * run.columns * (2 * (run.n_train + run.n_test) + 3 * run.n_train)
        + _jacobian_bytes(run, measure)
        + _activations(run)
        for run in runs
    )
    return sum(widest.values()) + sum(factors.values()) + own + alone


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


def plan(runs: Iterable[RunConfig], limits: Limits = ON_CPU, measure: Measure | None = None) -> list[Pack]:
    """Group runs into packs, most work first.

    Runs on the same data share a pack within ``limits``: first those that read the same features (same model and
    seed), widest first, those with the same design matrix one after the other, so that its decomposition is computed
    once. Data whose runs fit in whole join the pack of the data before them: a sweep over thousands of training sets
    would else write thousands of files. A run's numbers do not depend on the grouping.
    """
    groups: dict[Hashable, dict[Hashable, dict[Hashable, list[RunConfig]]]] = {}
    for run in runs:
        same_data = groups.setdefault(run.data_key, {})
        same_data.setdefault(run.inputs_key, {}).setdefault(run.feature_key, []).append(run)
    packs: list[Pack] = []
    filling = _Filling(limits, measure)
    for same_data in groups.values():
        whole = [run for same_inputs in same_data.values() for members in same_inputs.values() for run in members]
        if filling.runs and not filling.has_room_for_all(whole):
            packs.append(filling.close())
        for same_inputs in same_data.values():
            for members in sorted(same_inputs.values(), key=lambda m: -Pack(tuple(m), measure).seconds):
                # a decomposition that runs share is worth a longer pack
                longest = limits.seconds * (4 if members[0].component("model").frozen_features else 1)
                if filling.runs and len(filling.runs) + len(members) > limits.runs >= len(members):
                    packs.append(filling.close())
                for family in families(members):
                    full = len(filling.runs) + len(family) > limits.runs
                    if filling.runs and (full or not filling.has_room(family[0]) or filling.seconds >= longest):
                        packs.append(filling.close())
                    for run in family:
                        filling.add(run, trained=run is family[0])
                if filling.seconds >= limits.seconds:
                    packs.append(filling.close())
    if filling.runs:
        packs.append(filling.close())
    return sorted(packs, key=lambda pack: -pack.seconds)


class _Filling:
    """A pack on its way."""

    def __init__(self, limits: Limits, measure: Measure | None) -> None:
        self.limits, self.measure = limits, measure
        self.runs: list[RunConfig] = []
        self.seconds = 0.0
        self._bytes = 0
        self._shared: set[Hashable] = set()

    def has_room(self, run: RunConfig) -> bool:
        """Whether a run fits in; the sum of the memory of runs alone bounds that of a pack from above."""
        if not self.runs:
            return True
        if len(self.runs) == self.limits.runs:
            return False
        own = estimated_bytes([run], self.measure)
        if self._bytes + own > self.limits.bytes:
            self._bytes = estimated_bytes(self.runs, self.measure)  # the bound is loose where inputs are shared
        return self._bytes + own <= self.limits.bytes

    def has_room_for_all(self, runs: Sequence[RunConfig]) -> bool:
        """Whether all of some runs fit in, by number, seconds and memory."""
        if len(self.runs) + len(runs) > self.limits.runs:
            return False
        if self.seconds + Pack(tuple(runs), self.measure).seconds > self.limits.seconds:
            return False
        return estimated_bytes([*self.runs, *runs], self.measure) <= self.limits.bytes

    def add(self, run: RunConfig, *, trained: bool) -> None:
        if run.feature_key not in self._shared:
            self._shared.add(run.feature_key)
            self.seconds += shared_seconds(run)
        self.runs.append(run)
        self.seconds += estimated_seconds(run, self.measure) - (0 if trained else training_seconds(run))
        self._bytes += estimated_bytes([run], self.measure)

    def close(self) -> Pack:
        """The pack; the next one starts empty."""
        pack = Pack(tuple(self.runs), self.measure)
        self.runs, self.seconds, self._bytes, self._shared = [], 0.0, 0, set()
        return pack
