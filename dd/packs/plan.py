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
from typing import NamedTuple, TypeVar

from dd.components.optimizer import UpdateRule
from dd.garbage import uncollected
from dd.measure.conditioning import CHEAP_WORK, COPIES, Measure, ntk_samples
from dd.measure.full_pass import piece_size
from dd.measure.hessian import FIRST_SAMPLES
from dd.packs.overview import axes_of_sweep, lasting, listed, swept
from dd.packs.place import Place
from dd.problems.problem import LARGE
from dd.runs.run import Run
from dd.trainers.table import trainer_for

T = TypeVar("T", int, float)

DECOMPOSITION, PRODUCTS = 1.2e10, 5e10
FIXED = 0.004
PROCESS = 350_000_000
"""Bytes of a process without any run: Python, PyTorch, the table."""

PIECES = 6
"""Copies of a piece of the matrix that the last layer sees, while it is measured."""

EXACT = 4e10
"""Floating-point operations a second of a pass over all samples in float64."""

FIRST_PRODUCTS, SHARPNESS_PRODUCTS = 25, 10
"""Products with the Hessian that a sharpness takes: on its first samples, and on all."""

PRODUCT, KEEPING, PRODUCT_ADD = 3e-4, 8e-8, 1.2e-10
"""Seconds of such a product: of its calls, for each parameter, and for each multiply-add of a forward pass."""

LANCZOS_PRODUCTS = 1200
DEEP_EXACT, DEEP_EAGER, DEEP_PRODUCTS, DEEP_PRODUCT = 5e9, 1e9, 250, 25
"""Of deep networks: multiply-adds a second in float64 by compiled code and by PyTorch's, and forward passes that a
Lanczos run is worth, and one product with the Hessian."""


@dataclass(frozen=True)
class Pack:
    """Runs solved together and written as one file.

    Attributes:
        runs: in the order in which they are solved.
        place: where, for the estimates.
    """

    runs: tuple[Run, ...]
    place: Place = Place()

    def __getstate__(self) -> dict[str, object]:
        """What is sent to a worker: no estimates."""
        return {"runs": self.runs, "place": self.place}

    @property
    def pack_id(self) -> str:
        """Hash of the runs' ids; names the pack's parquet files."""
        text = ",".join(sorted(run.run_id for run in self.runs))
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @cached_property
    def demand(self) -> Demand:
        """What its runs need together; :func:`plan` has added it up already."""
        return Demand(weighed(self.runs, self.place))

    @property
    def seconds(self) -> float:
        """Estimated seconds on one core."""
        return self.demand.seconds

    @property
    def bytes(self) -> int:
        """Estimated peak memory."""
        return self.demand.bytes

    @property
    def trainers(self) -> list[str]:
        """Names of what trains its runs, each once."""
        return list(self.demand.trainers)


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


def start_seconds(run: Run, measure: Measure | None) -> float:
    """Cost of what runs with the same start share: its spectrum, and its sharpness where step sizes come in its units.

    Frozen features have both from their decomposition.
    """
    if run.model.frozen_features:
        return 0.0
    seconds, adds = 0.0, run.model.multiply_adds(run)
    if measure is not None and not measure.outcome_alone:
        seconds += _spectrum_seconds(run) + run.n_train * adds / (DEEP_EXACT if run.model.deep else EXACT / 2)
    if run.lr_unit != "sharpness":
        return seconds
    if run.model.deep:
        return seconds + FIRST_PRODUCTS * DEEP_PRODUCT * run.n_train * adds / DEEP_EAGER
    by_hand = not run.model.batch_dependent(run)
    each = PRODUCT_ADD if by_hand else 10 * PRODUCT_ADD  # autograd goes there and back twice
    samples = FIRST_PRODUCTS * min(run.n_train, FIRST_SAMPLES) + SHARPNESS_PRODUCTS * run.n_train
    return seconds + (FIRST_PRODUCTS + SHARPNESS_PRODUCTS) * (PRODUCT + KEEPING * adds) + samples * adds * each


def _jacobian_bytes(run: Run, measure: Measure | None) -> int:
    """Memory of a run's Jacobian and its decomposition; 0 where none is formed."""
    if measure is None or run.model.frozen_features:
        return 0
    count = run.model.parameter_count(run)
    if run.model.deep:
        return COPIES * 8 * ntk_samples(run) * run.outputs * count * measure.full
    rows = run.n_train * run.outputs
    return COPIES * 8 * rows * count if measure.takes_jacobian(rows, count) else 0


def measuring_seconds(run: Run, measure: Measure | None) -> float:
    """Cost of measuring a trained run: a pass over all samples with a gradient, and its curvature.

    Random features have most of it from the decomposition that they share.
    """
    if measure is None:
        return 0.0
    n, outputs = run.n_train, run.outputs
    whole = 2.0 * (run.n_drawn + run.n_test + 2 * n) * run.model.multiply_adds(run) / EXACT
    if run.model.frozen_features:
        scaled = outputs * _spectrum_seconds(run)  # of the design matrix as the optimizer sees it
        taken = _has_diagonal(run) and (measure.full or scaled * DECOMPOSITION <= CHEAP_WORK)
        return whole + 2 * scaled * taken
    if run.model.deep:
        eager = DEEP_PRODUCTS * n + 6 * outputs * ntk_samples(run)
        passes = (6 * n + run.n_test) / DEEP_EXACT + measure.full * eager / DEEP_EAGER
        return passes * run.model.multiply_adds(run)
    count, rows = run.model.parameter_count(run), n * outputs
    times = (3 if measure.full else 1) + run.optimizer.adaptive
    if _jacobian_bytes(run, measure):
        less, more = min(count, rows), max(count, rows)
        return whole + times * less * less * (2.0 * more / PRODUCTS + 4.0 * less / DECOMPOSITION)
    return whole + (times * LANCZOS_PRODUCTS * 8.0 * n * count / DECOMPOSITION if measure.full else 0.0)


def _has_diagonal(run: Run) -> bool:
    """Whether the run's rule has a diagonal preconditioner."""
    rule = run.optimizer
    return isinstance(rule, UpdateRule) and type(rule).preconditioner is not UpdateRule.preconditioner


def families(runs: Iterable[Run]) -> list[list[Run]]:
    """Deep networks that differ in their budgets alone, trained once: the longest first. Other runs are alone."""
    found: dict[Hashable, list[Run]] = {}
    for run in runs:
        found.setdefault(run.trajectory_key if run.model.deep else run, []).append(run)
    return [sorted(family, key=lambda run: -(run.steps or 0)) for family in found.values()]


def _measuring_bytes(run: Run) -> int:
    """Memory of the matrix that the last layer sees, its copies and factors."""
    if run.model.frozen_features or run.model.deep or run.model.batch_dependent(run):
        return 8 * run.columns * (2 * (run.n_train + run.n_test) + 3 * run.n_train)
    sharp = 5 * 8 * run.columns * run.n_train if run.lr_unit == "sharpness" else 0  # what the Hessian's products hold
    return max(PIECES * 8 * run.columns * min(piece_size(run), run.n_train + run.n_test), sharp)


UNWEIGHED = ("seed", "data_seed", "test_seed", "data_content", "lr")
"""Axes that no estimate depends on."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one run needs; runs that differ in :data:`UNWEIGHED` alone need the same.

    Attributes:
        trainer: name of what trains it.
        seconds: what it shares with no other run.
        decomposition: seconds that runs on its design matrix share.
        start: seconds that runs with its start share.
        training: seconds that its family shares.
        held: bytes that its trainer keeps of it.
        factors: bytes that its trainer keeps for all runs on its design matrix.
        data: bytes of its data in float64, which runs on them share.
        inputs: bytes of what enters training, in float64 and in its precision; runs of one kind share the widest.
        alone: bytes of what is there for one run after the other: what it needs to be measured.
    """

    trainer: str
    seconds: float
    decomposition: float
    start: float
    training: float
    held: int
    factors: int
    data: int
    inputs: int
    alone: int

    @property
    def bytes(self) -> int:
        """Peak memory of the run by itself."""
        return self.held + self.factors + self.data + self.inputs + self.alone

    @classmethod
    def of(cls, run: Run, place: Place) -> Need:
        """Ask the trainer and the model."""
        trainer = trainer_for(run, place.device, place.trainer)
        own = 0.0 if run.model.frozen_features else _spectrum_seconds(run)
        samples, inputs, entry = run.n_drawn + run.n_test, run.data.input_count, 8 if run.dtype == "float64" else 4
        copied = run.model.frozen_features or 8 * run.n_train * inputs < LARGE  # large inputs are not
        return cls(
            trainer=trainer.name,
            seconds=FIXED + own + measuring_seconds(run, place.measure),
            decomposition=shared_seconds(run),
            start=start_seconds(run, place.measure),
            training=trainer.seconds(run),
            held=trainer.bytes(run),
            factors=trainer.shared_bytes(run),
            data=8 * samples * (inputs + run.outputs),
            inputs=samples * _columns(run) * (entry + 8 * copied),
            alone=_measuring_bytes(run)
            + _jacobian_bytes(run, place.measure)
            + run.model.deep * int(run.model.activation_bytes(run) * (run.batch_size or 0)),
        )


class Weighed(NamedTuple):
    """A run with what it needs; what it shares has a number, which runs weighed together have in common.

    Attributes:
        run: the run.
        need: what it needs.
        data: its data.
        inputs: its inputs, the width of nested features apart.
        alike: runs that are solved one after the other: on one design matrix, or nets of one width and seed.
        family: networks that are trained once.
        seconds: what it needs of the seconds that it shares, by the number.
        bytes: what it needs of the bytes that it shares, by the number.
    """

    run: Run
    need: Need
    data: int
    inputs: int
    alike: int
    family: int
    seconds: tuple[tuple[int, float], ...]
    bytes: tuple[tuple[int, int], ...]


def weighed(runs: Iterable[Run], place: Place) -> list[Weighed]:
    """Ask what runs need and share; each kind of run is asked once, and each key is hashed once."""
    needs: dict[Hashable, Need] = {}
    numbers: dict[Hashable, int] = {}

    def number(*key: Hashable) -> int:
        return numbers.setdefault(key, len(numbers))

    found = []
    for i, run in enumerate(runs):
        kind, frozen, scaled = run.but(*UNWEIGHED), run.model.frozen_features, run.normalization.fitted
        need = needs.get(kind) or needs.setdefault(kind, Need.of(run, place))
        data, inputs = number("data", run.data_key), number("inputs", run.inputs_key)
        family = number("family", run.trajectory_key) if run.model.deep else ~i  # alone: no number
        design = number("design", run.design_key) if frozen or need.factors else number("none")
        alike = design if frozen else number("nets", run.width, run.normalization, run.seed)
        entering = number("scaled", inputs, run.width, run.normalization) if scaled else inputs
        start = number("start", run.start_key, run.dtype, run.loss) if need.start else number("none")
        shared_seconds = (design, need.decomposition), (start, need.start), (family, need.training)
        shared_bytes = (design, need.factors), (data, need.data), (entering, need.inputs)
        found.append(Weighed(run, need, data, inputs, alike, family, shared_seconds, shared_bytes))
    return found


class Demand:
    """What some runs need together, added up run by run.

    Attributes:
        seconds: on one core.
        trainers: names of what trains them, each once.
    """

    def __init__(self, runs: Iterable[Weighed] = ()) -> None:
        self.seconds = 0.0
        self.trainers: dict[str, None] = {}
        self._held = self._alone = 0
        self._shared_seconds: dict[int, float] = {}
        self._shared_bytes: dict[int, int] = {}
        for run in runs:
            self.add(run)

    @property
    def bytes(self) -> int:
        """Peak memory."""
        return self._held + self._alone

    def bytes_with(self, other: Demand) -> int:
        """Peak memory of both together."""
        ours = self._shared_bytes
        twice = sum(min(size, ours[key]) for key, size in other._shared_bytes.items() if key in ours)
        return self._held + other._held - twice + max(self._alone, other._alone)

    def add(self, one: Weighed) -> None:
        """One run more."""
        need = one.need
        self.seconds += need.seconds + _growth(self._shared_seconds, one.seconds)
        self._held += need.held + _growth(self._shared_bytes, one.bytes)
        self._alone = max(self._alone, need.alone)
        self.trainers[need.trainer] = None


def _growth(shared: dict[int, T], amounts: Iterable[tuple[int, T]]) -> T | int:
    """Note amounts that runs share, of each the largest; how much they add."""
    more: T | int = 0
    for key, amount in amounts:
        known = shared.get(key, 0)
        if amount > known:
            shared[key] = amount
            more += amount - known
    return more


def describe(packs: list[Pack]) -> str:
    """The plan: time and axes; below them a table of packs with runs, widths, seconds on one core, memory, trainers."""
    runs = [run for pack in packs for run in pack.runs]
    total = lasting(sum(pack.seconds for pack in packs))
    counts = [f"{n} {what}{'s' * (n != 1)}" for n, what in ((len(runs), "run"), (len(packs), "pack"))]
    lines = [f"{' in '.join(counts)}, about {total} on one core"]
    lines += axes_of_sweep({key: listed(values) for key, values in swept(runs).items()})
    if packs:
        lines += ["", "seconds   runs  widths            MB  pack                  trainer"]
    for pack in packs:
        widths = [run.width for run in pack.runs]
        span = f"{min(widths)}-{max(widths)}" if len(set(widths)) > 1 else str(widths[0])
        megabytes = (pack.bytes + PROCESS) / 1e6
        lines.append(
            f"{pack.seconds:7.1f}  {len(pack.runs):5d}  {span:12s}  {megabytes:6.0f}  {pack.pack_id}  "
            + ", ".join(pack.trainers)
        )
    return "\n".join(lines)


def plan(runs: Iterable[Run], place: Place = Place()) -> list[Pack]:
    """Group runs into packs, most work first.

    Runs on the same data share a pack within the limits of ``place``: first those that read the same features (same
    model and seed), widest first, those with the same design matrix one after the other, so that its decomposition is
    computed once. Data whose runs fit in whole join the pack of the data before them: a sweep over thousands of
    training sets would else write thousands of files. A run's numbers do not depend on the grouping.
    """
    with uncollected():
        return packed(weighed(runs, place), place)


def packed(runs: Iterable[Weighed], place: Place) -> list[Pack]:
    """:func:`plan` of runs that are weighed already."""
    groups: dict[int, dict[int, dict[int, list[Weighed]]]] = {}
    for one in runs:
        groups.setdefault(one.data, {}).setdefault(one.inputs, {}).setdefault(one.alike, []).append(one)
    packs: list[Pack] = []
    filling, limits = _Filling(place), place.limits
    for same_data in groups.values():
        whole = [one for same_inputs in same_data.values() for members in same_inputs.values() for one in members]
        if filling.runs and not filling.has_room_for_all(whole):
            packs.append(filling.close())
        for same_inputs in same_data.values():
            for members in sorted(same_inputs.values(), key=lambda m: -Demand(m).seconds):
                # a decomposition that runs share is worth a longer pack
                longest = limits.seconds * (4 if members[0].run.model.frozen_features else 1)
                if filling.runs and len(filling.runs) + len(members) > limits.runs >= len(members):
                    packs.append(filling.close())
                trained: dict[int, list[Weighed]] = {}
                for one in members:
                    trained.setdefault(one.family, []).append(one)
                for family in trained.values():
                    family.sort(key=lambda one: -(one.run.steps or 0))
                    full = len(filling.runs) + len(family) > limits.runs
                    if filling.runs and (full or not filling.has_room(family[0]) or filling.demand.seconds >= longest):
                        packs.append(filling.close())
                    for one in family:
                        filling.add(one)
                if filling.demand.seconds >= limits.seconds:
                    packs.append(filling.close())
    if filling.runs:
        packs.append(filling.close())
    return sorted(packs, key=lambda pack: -pack.seconds)


class _Filling:
    """A pack on its way.

    Args:
        place: where it will be solved.
    """

    def __init__(self, place: Place) -> None:
        self.place, self.limits = place, place.limits
        self.runs: list[Run] = []
        self.demand = Demand()

    def has_room(self, one: Weighed) -> bool:
        """Whether a run fits in; the first one always does."""
        if not self.runs:
            return True
        if len(self.runs) >= self.limits.runs:
            return False
        if self.demand.bytes + one.need.bytes <= self.limits.bytes:
            return True  # even if it shared nothing
        return self.demand.bytes_with(Demand([one])) <= self.limits.bytes

    def has_room_for_all(self, runs: Sequence[Weighed]) -> bool:
        """Whether all of some runs fit in, by number, seconds and memory."""
        if len(self.runs) + len(runs) > self.limits.runs:
            return False
        more = Demand(runs)
        in_time = self.demand.seconds + more.seconds <= self.limits.seconds
        return in_time and self.demand.bytes_with(more) <= self.limits.bytes

    def add(self, one: Weighed) -> None:
        self.runs.append(one.run)
        self.demand.add(one)

    def close(self) -> Pack:
        """The pack; the next one starts empty."""
        pack = Pack(tuple(self.runs), self.place)
        vars(pack)["demand"] = self.demand  # it is added up already
        self.runs, self.demand = [], Demand()
        return pack
