"""Packs: the runs that are solved together and written as one file; planned as a pure function of their axes.

The cost model, in seconds on one core of 2024 (constants measured, ``docs/benchmarks.md``): a design matrix costs
decompositions at ``DECOMPOSITION`` flop/s, once for all runs of a pack that share it; a run costs a fixed overhead,
measurements, and what its trainer says. A pack grows up to :class:`dd.packs.place.Limits`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from dd.measure.conditioning import COPIES, Measure, ntk_samples
from dd.measure.full_pass import piece_size
from dd.packs.place import Place
from dd.problems.problem import LARGE
from dd.runs.run import Run
from dd.trainers.base import Trainer
from dd.trainers.table import trainer_for

DECOMPOSITION, PRODUCTS = 1.2e10, 5e10
FIXED = 0.004
PROCESS = 350_000_000
"""Bytes of a process without any run: Python, PyTorch, the table."""

PIECES = 6
"""Copies of a piece of the matrix that the last layer sees, while it is measured."""

LANCZOS_PRODUCTS = 1200
DEEP_EXACT, DEEP_EAGER, DEEP_PRODUCTS = 5e9, 1e9, 250
"""Of deep networks: multiply-adds a second in float64 by compiled code and by PyTorch's, and forward passes that a
Lanczos run is worth."""


@dataclass(frozen=True)
class Pack:
    """Runs solved together and written as one file.

    Attributes:
        runs: in the order in which they are solved.
        place: where, for the estimates.
    """

    runs: tuple[Run, ...]
    place: Place = Place()

    @property
    def pack_id(self) -> str:
        """Hash of the runs' ids; names the pack's parquet files."""
        text = ",".join(sorted(run.run_id for run in self.runs))
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @cached_property
    def seconds(self) -> float:
        """Estimated seconds on one core."""
        shared = {run.design_key: shared_seconds(run) for run in self.runs}
        seconds = sum(shared.values()) + sum(estimated_seconds(run, self.place) for run in self.runs)
        return seconds - sum(training_seconds(run, self.place) for family in families(self.runs) for run in family[1:])

    @property
    def bytes(self) -> int:
        """Estimated peak memory."""
        return estimated_bytes(self.runs, self.place)

    @property
    def trainers(self) -> list[str]:
        """Names of what trains its runs, each once."""
        return list(dict.fromkeys(_trainer(run, self.place).name for run in self.runs))


def _trainer(run: Run, place: Place) -> type[Trainer]:
    return trainer_for(run, place.device, place.trainer)


def _columns(run: Run) -> int:
    """Columns of what enters training: features where they are frozen, else inputs."""
    return run.model.feature_count(run) if run.model.frozen_features else run.data.input_count + 1


def _spectrum_seconds(run: Run) -> float:
    """Singular values of the matrix that the read-out sees."""
    columns = run.model.feature_count(run)
    return run.n_train * columns * min(run.n_train, columns) / DECOMPOSITION


def shared_seconds(run: Run) -> float:
    """Cost of what runs with the same design matrix share: its features, decomposition and least-squares solution."""
    return 10 * _spectrum_seconds(run) if run.model.frozen_features else 0.0


def training_seconds(run: Run, place: Place) -> float:
    """Cost of a run's training; deep networks of one trajectory share it."""
    return _trainer(run, place).seconds(run)


def _jacobian_bytes(run: Run, measure: Measure | None) -> int:
    """Memory of a run's Jacobian and its decomposition; 0 where none is formed."""
    if measure is None or run.model.frozen_features:
        return 0
    count = run.model.parameter_count(run)
    if run.model.deep:
        return COPIES * 8 * ntk_samples(run) * run.data.outputs * count * measure.full
    rows = run.n_train * run.data.outputs
    return COPIES * 8 * rows * count if measure.takes_jacobian(rows, count) else 0


def measuring_seconds(run: Run, measure: Measure | None) -> float:
    """Cost of measuring a trained run's curvature; random features have most from the decomposition that they share."""
    if measure is None:
        return 0.0
    n, outputs = run.n_train, run.data.outputs
    if run.model.frozen_features:
        return 2 * outputs * _spectrum_seconds(run) if run.optimizer.adaptive else 0.0
    if run.model.deep:
        eager = DEEP_PRODUCTS * n + 6 * outputs * ntk_samples(run)
        passes = (6 * n + run.n_test) / DEEP_EXACT + measure.full * eager / DEEP_EAGER
        return passes * run.model.multiply_adds(run)
    count, rows = run.model.parameter_count(run), n * outputs
    times = (3 if measure.full else 1) + run.optimizer.adaptive
    if _jacobian_bytes(run, measure):
        less, more = min(count, rows), max(count, rows)
        return times * less * less * (2.0 * more / PRODUCTS + 4.0 * less / DECOMPOSITION)
    return times * LANCZOS_PRODUCTS * 8.0 * n * count / DECOMPOSITION if measure.full else 0.0


def families(runs: Iterable[Run]) -> list[list[Run]]:
    """Deep networks that differ in their budgets alone, trained once: the longest first. Other runs are alone."""
    found: dict[Hashable, list[Run]] = {}
    for run in runs:
        found.setdefault(run.trajectory_key if run.model.deep else run, []).append(run)
    return [sorted(family, key=lambda run: -(run.steps or 0)) for family in found.values()]


def estimated_seconds(run: Run, place: Place) -> float:
    """Cost of one run by the model above, without what it shares."""
    own = 0.0 if run.model.frozen_features else _spectrum_seconds(run)
    return FIXED + own + measuring_seconds(run, place.measure) + training_seconds(run, place)


def estimated_bytes(runs: Sequence[Run], place: Place) -> int:
    """Peak memory of some runs solved together, beside what a process takes without any.

    The two largest data, for two stay in memory; what enters training, in float64 and in its precision, once for
    the widest run of each kind; what trainers keep of every run and for each design matrix; what the largest run needs
    to be measured.
    """
    data: dict[Hashable, int] = {}
    widest: dict[Hashable, int] = {}
    shared: dict[Hashable, int] = {}
    own = 0
    for run in runs:
        samples, entry = run.n_train + run.n_test, 8 if run.dtype == "float64" else 4
        inputs = run.data.input_count
        data[run.data_key] = 8 * samples * (inputs + run.data.outputs)
        key = run.inputs_key if not run.normalization.fitted else (run.inputs_key, run.width, run.normalization)
        held = run.model.frozen_features or 8 * run.n_train * inputs < LARGE  # large inputs are not copied
        each = entry + 8 * held
        widest[key] = max(widest.get(key, 0), samples * _columns(run) * each)
        trainer = _trainer(run, place)
        own += trainer.bytes(run)
        if needed := trainer.shared_bytes(run):
            shared[run.design_key] = needed
    alone = max(
        _measuring_bytes(run)
        + _jacobian_bytes(run, place.measure)
        + run.model.deep * int(run.model.activation_bytes(run) * (run.batch_size or 0))
        for run in runs
    )
    return sum(sorted(data.values())[-2:]) + sum(widest.values()) + sum(shared.values()) + own + alone


def _measuring_bytes(run: Run) -> int:
    """Memory of the matrix that the last layer sees, its copies and factors."""
    if run.model.frozen_features or run.model.deep or run.model.batch_dependent(run):
        return 8 * run.columns * (2 * (run.n_train + run.n_test) + 3 * run.n_train)
    sharp = 5 * 8 * run.columns * run.n_train if run.lr_unit == "sharpness" else 0  # what the Hessian's products hold
    return max(PIECES * 8 * run.columns * min(piece_size(run), run.n_train + run.n_test), sharp)


def describe(packs: list[Pack]) -> str:
    """The plan as a table: packs, runs, widths, estimated seconds on one core, memory and trainers."""
    lines = ["pack                  runs  widths        seconds      MB  trainer"]
    for pack in packs:
        widths = [run.width for run in pack.runs]
        span = f"{min(widths)}-{max(widths)}" if len(set(widths)) > 1 else str(widths[0])
        megabytes = (pack.bytes + PROCESS) / 1e6
        lines.append(
            f"{pack.pack_id}  {len(pack.runs):4d}  {span:12s}  {pack.seconds:7.1f}  {megabytes:6.0f}  "
            + ", ".join(pack.trainers)
        )
    total = sum(pack.seconds for pack in packs)
    runs = sum(len(pack.runs) for pack in packs)
    return "\n".join([*lines, f"{len(packs)} packs, {runs} runs, about {total:.0f} s on one core"])


def plan(runs: Iterable[Run], place: Place = Place()) -> list[Pack]:
    """Group runs into packs, most work first.

    Runs on the same data share a pack within the limits of ``place``: first those that read the same features (same
    model and seed), widest first, those with the same design matrix one after the other, so that its decomposition is
    computed once. Data whose runs fit in whole join the pack of the data before them: a sweep over thousands of
    training sets would else write thousands of files. A run's numbers do not depend on the grouping.
    """
    groups: dict[Hashable, dict[Hashable, dict[Hashable, list[Run]]]] = {}
    for run in runs:
        same_data = groups.setdefault(run.data_key, {})
        same_data.setdefault(run.inputs_key, {}).setdefault(_alike(run), []).append(run)
    packs: list[Pack] = []
    filling, limits = _Filling(place), place.limits
    for same_data in groups.values():
        whole = [run for same_inputs in same_data.values() for members in same_inputs.values() for run in members]
        if filling.runs and not filling.has_room_for_all(whole):
            packs.append(filling.close())
        for same_inputs in same_data.values():
            for members in sorted(same_inputs.values(), key=lambda m: -Pack(tuple(m), place).seconds):
                # a decomposition that runs share is worth a longer pack
                longest = limits.seconds * (4 if members[0].model.frozen_features else 1)
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


def _alike(run: Run) -> Hashable:
    """Runs that are solved one after the other: on one design matrix, or nets of one width and seed."""
    return run.design_key if run.model.frozen_features else (run.width, run.normalization, run.seed)


class _Filling:
    """A pack on its way."""

    def __init__(self, place: Place) -> None:
        self.place, self.limits = place, place.limits
        self.runs: list[Run] = []
        self.seconds = 0.0
        self._bytes = 0
        self._shared: set[Hashable] = set()

    def has_room(self, run: Run) -> bool:
        """Whether a run fits in; the sum of the memory of runs alone bounds that of a pack from above."""
        if not self.runs:
            return True
        if len(self.runs) == self.limits.runs:
            return False
        own = estimated_bytes([run], self.place)
        if self._bytes + own > self.limits.bytes:
            self._bytes = estimated_bytes(self.runs, self.place)  # the bound is loose where inputs are shared
        return self._bytes + own <= self.limits.bytes

    def has_room_for_all(self, runs: Sequence[Run]) -> bool:
        """Whether all of some runs fit in, by number, seconds and memory."""
        if len(self.runs) + len(runs) > self.limits.runs:
            return False
        if self.seconds + Pack(tuple(runs), self.place).seconds > self.limits.seconds:
            return False
        return estimated_bytes([*self.runs, *runs], self.place) <= self.limits.bytes

    def add(self, run: Run, *, trained: bool) -> None:
        if run.design_key not in self._shared:
            self._shared.add(run.design_key)
            self.seconds += shared_seconds(run)
        self.runs.append(run)
        self.seconds += estimated_seconds(run, self.place) - (0 if trained else training_seconds(run, self.place))
        self._bytes += estimated_bytes([run], self.place)

    def close(self) -> Pack:
        """The pack; the next one starts empty."""
        pack = Pack(tuple(self.runs), self.place)
        self.runs, self.seconds, self._bytes, self._shared = [], 0.0, 0, set()
        return pack
