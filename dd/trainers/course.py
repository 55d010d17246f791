"""The course of iterative training: when runs are looked at, logged and ended, whatever takes their steps."""

from __future__ import annotations

import heapq
import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import torch

from dd.measure.solution import CurvePoint, Snapshot, Solution
from dd.network import weight_dtype
from dd.runs.logs import Log, log_of, watched_steps
from dd.runs.run import Run
from dd.trainers.base import Task, Trainer

CHECK_STEPS = 250
"""Divergence is looked for at watched steps and after whole epochs of at least so many steps."""

GROWN = 1e6
"""Once a squared norm has grown by this factor, losses are looked at wherever norms are: they overflow first."""


def check_steps(run: Run) -> range:
    """Steps besides the watched ones at which a run is looked at: every epoch if it may stop early, else rarely."""
    assert run.steps is not None
    assert run.batches_per_epoch is not None
    wanted = 1 if run.stop_loss is not None else CHECK_STEPS
    interval = run.batches_per_epoch * math.ceil(wanted / run.batches_per_epoch)
    return range(0, run.steps, interval)


def logged_passes(run: Run) -> int:
    """Forward passes of single samples that a run's curve costs."""
    return log_of(run).passes


def ascending(*steps: Iterable[int]) -> Iterator[int]:
    """Steps of several ascending sequences, each once; no list of them is made, for budgets have no limit.

    >>> list(ascending([0, 3, 4], range(0, 9, 4)))
    [0, 3, 4, 8]
    """
    return (step for step, _ in groupby(heapq.merge(*steps)))


class Stepper(Trainer):
    """Base of the trainers that take steps. Positions count the runs still training.

    Attributes:
        runs: all runs, those that left included.
    """

    runs: Sequence[Run]

    @abstractmethod
    def __init__(self, tasks: Sequence[Task]) -> None: ...

    @classmethod
    def begun(cls, tasks: Sequence[Task]) -> Stepper:
        """The runs of one group before their first step."""
        return cls(tasks)

    @classmethod
    def train(cls, tasks: Sequence[Task]) -> list[list[Solution]]:
        """See :meth:`Trainer.train`."""
        return train_families(cls.begun(tasks), [task.shorter for task in tasks], curve=tasks[0].curve)

    @abstractmethod
    def advance(self, first: int, last: int) -> None:
        """Take steps ``first`` + 1 ... ``last``."""

    @abstractmethod
    def norms(self) -> list[float]:
        """Squared norm of every run's parameters."""

    @abstractmethod
    def evaluate(self, samples: int | None = None) -> list[CurvePoint]:
        """Losses and errors of every run, on all or on the first ``samples`` training and test samples.

        Those of samples held out are always on all, and are given if :attr:`validates`.
        """

    @abstractmethod
    def save(self) -> None:
        """Remember the present parameters as the last finite ones."""

    @abstractmethod
    def state(self, position: int, step: int, *, saved: bool) -> Snapshot:
        """State of a run after ``step`` steps, or as it was saved."""

    @abstractmethod
    def drop(self, gone: Sequence[int]) -> None:
        """Let runs go without disturbing the others."""


@dataclass(frozen=True)
class _Best:
    """State of a run at the step with the lowest loss on samples held out."""

    loss: float
    step: int
    state: Snapshot


@dataclass
class _Course:
    """A run on its way.

    Attributes:
        run: its axes.
        log: steps at which it is logged.
        watched: steps at which it is looked at.
        checked: more of them.
        curve: logged so far.
        best: with samples held out, the logged state with the lowest loss on them so far.
        solution: once it has ended.
    """

    run: Run
    log: Log
    watched: frozenset[int]
    checked: range
    curve: list[CurvePoint] = field(default_factory=list)
    best: _Best | None = None
    solution: Solution | None = None

    @classmethod
    def of(cls, run: Run, *, curve: bool) -> _Course:
        """At its start; without ``curve`` the last step alone is logged, unless logged steps decide where it ends."""
        log = log_of(run)
        log = log if curve or run.n_validation else replace(log, steps=frozenset({run.steps or 0}))
        return cls(run, log, watched_steps(run), check_steps(run))

    def looked_at(self, step: int) -> bool:
        """Whether its turn is at a step."""
        return step in self.watched or step in self.checked

    def samples(self, step: int) -> int | None:
        """On how many samples of each set it is logged at a step; None: on all."""
        return self.log.samples if step in self.log.steps else None


def train(trainer: Stepper, *, curve: bool = True) -> list[Solution]:
    """Train runs to the end of their budget, which they share.

    Args:
        trainer: the runs.
        curve: whether losses are logged on the way; without, the last step alone is.

    Returns:
        One solution a run. A run whose squared parameter norm or loss overflows ends as ``diverged`` with its last
        finite state; a run at ``stop_loss`` ends there. Both leave without disturbing the others. A run with samples
        held out has, however it ends, the state of its logged step with the lowest loss on them, the first of equal
        ones.
    """
    return [solutions[0] for solutions in train_families(trainer, [[]] * len(trainer.runs), curve=curve)]


@torch.no_grad()
def train_families(trainer: Stepper, shorter: Sequence[Sequence[Run]], *, curve: bool = True) -> list[list[Solution]]:
    """:func:`train`, and on the way of each run those that differ from it in a smaller budget alone.

    Args:
        trainer: the runs.
        shorter: of each run those of its :attr:`Run.trajectory_key` that stop earlier; each ends with the numbers
            that it would have alone.
        curve: see :func:`train`.

    Returns:
        Of each run its solution and then those of its shorter runs.
    """
    families = [
        [_Course.of(run, curve=curve) for run in (first, *others)]
        for first, others in zip(trainer.runs, shorter, strict=True)
    ]
    courses = [course for family in families for course in family]
    watched = frozenset[int]().union(*{course.watched for course in courses})
    index = list(range(len(families)))
    limit = torch.finfo(weight_dtype(trainer.runs[0])).max ** 0.9
    last_finite = 0
    usual = max(1.0, *trainer.norms()) * GROWN
    stops = any(course.run.stop_loss is not None for course in courses)

    def finish(position: int, course: _Course, status: str, step: int) -> None:
        """Take the best state of a run by samples held out, else the present one, or its last finite one."""
        diverged = status == "diverged"
        at = course.best.step if course.best else last_finite if diverged else step
        got = course.best.state if course.best else trainer.state(position, at, saved=diverged)
        course.solution = Solution(got.theta, got.buffers, trainer.name, status, at, got.preconditioner, course.curve)

    def validate(position: int, course: _Course, point: CurvePoint) -> None:
        """Keep the state of a logged step if it is the best by samples held out."""
        if course.run.n_validation:
            if point.validation_loss is None:
                raise TypeError(f"trainer={trainer.name} gives no losses of samples held out")
            if course.best is None or point.validation_loss < course.best.loss:
                state = trainer.state(position, point.step, saved=False)
                course.best = _Best(point.validation_loss, point.step, state)

    def look_at(position: int, course: _Course, step: int, norm: float, point: CurvePoint | None) -> None:
        """Log a run, and end it where it has diverged, is good enough, or has used up a shorter budget."""
        log, stop_loss = step in course.log.steps, course.run.stop_loss
        bad, done = not norm <= limit, False
        if point is not None:
            bad |= not all(map(math.isfinite, (point.train_loss, point.test_loss, point.validation_loss or 0.0)))
            done = not bad and stop_loss is not None and point.train_loss <= stop_loss
            if not bad and (log or done):
                course.curve.append(point)
                validate(position, course, point)
        if bad:
            finish(position, course, "diverged", step)
        elif done or (course.run.steps == step and course is not families[index[position]][0]):
            finish(position, course, "ok", step)

    def look(step: int) -> None:
        """Look at all runs whose turn it is, and let those go that have ended."""
        nonlocal index, last_finite
        norms = trainer.norms()
        always = stops or not all(norm <= usual for norm in norms)
        points: dict[int | None, list[CurvePoint]] = {}
        for position, norm in enumerate(norms):
            for course in families[index[position]]:
                if course.solution is None and course.looked_at(step):
                    point, samples = None, course.samples(step)
                    if always or step in course.log.steps:
                        if samples not in points:
                            points[samples] = trainer.evaluate(samples)
                        point = replace(
                            points[samples][position], step=step, curve_samples=samples or course.run.n_train
                        )
                    look_at(position, course, step, norm, point)
        if not families[0][0].looked_at(step):  # only shorter runs looked: no trace may be left on the others
            return
        gone = [position for position, i in enumerate(index) if families[i][0].solution]
        if gone:
            trainer.drop(gone)
            index = [i for position, i in enumerate(index) if position not in gone]
        if index:
            trainer.save()
            last_finite = step

    look(0)
    step = 0
    for stop in ascending(sorted(watched), *{course.checked for course in courses}):
        if not index:
            break
        if stop:
            trainer.advance(step, stop)
            step = stop
            look(step)
    for position, i in enumerate(index):
        finish(position, families[i][0], "ok", step)
    return [[course.solution for course in family if course.solution] for family in families]
