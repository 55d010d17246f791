"""What a schedule of step sizes must offer."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dd.errors import ConfigError
from dd.runs.axis import axis
from dd.runs.component import Component
from dd.runs.run import OriginOf, Run

Factors = NDArray[np.float64]
"""Step sizes as shares of ``lr``."""


@dataclass(frozen=True)
class Schedule(Component):
    """Step sizes along the way as shares of ``lr``; a frozen dataclass whose fields are its options.

    A schedule counts units, which are steps or epochs: all steps of a unit have one size. First come W = ``warmup``
    units, of 1/(W + 1), 2/(W + 1), ..., W/(W + 1) of ``lr``; then the schedule's own shape, from its beginning. A share
    follows from the number of a step alone, so that trainers may ask for any steps in any order.

    Claims of a class hold for its own :meth:`shape`; a subclass with another one makes them again.

    Attributes:
        level: whether the shape is 1 throughout. False unless the class says so.
        prefix: whether a shorter budget leaves the steps that it has as they are, so that a run with it is the
            beginning of a longer one. False unless the class says so.
    """

    per: str = axis("step", "unit: the step size changes after each step, or each epoch", choices=("step", "epoch"))
    warmup: int = axis(0, "length of the linear rise at the start", unit="steps or epochs", low=0)

    level: ClassVar[bool] = False
    prefix: ClassVar[bool] = False

    def __init_subclass__(cls, name: str | None = None) -> None:
        super().__init_subclass__(name)
        cls.withdraw({"level": False, "prefix": False}, ("shape", "factors"))

    @property
    def flat(self) -> bool:
        """Whether every step has the full step size."""
        return self.level and not self.warmup

    @abstractmethod
    def shape(self, unit: Factors, units: int) -> Factors:
        """Shares of ``lr`` after the warm-up.

        Args:
            unit: numbers of units after the warm-up, from 0.
            units: how many the budget has after the warm-up, at least 1.

        Returns:
            As many as ``unit``.
        """

    def units(self, run: Run) -> int:
        """Steps, or epochs, of a run's budget; the last epoch may be cut short."""
        assert run.steps is not None
        return -(-run.steps // self._each(run))

    def factors(self, run: Run, first: int, last: int) -> Factors:
        """Shares of ``lr`` that steps ``first`` + 1 ... ``last`` of a run take, [steps]."""
        unit = np.arange(first, last) // self._each(run)
        own = self.shape(np.maximum(unit - self.warmup, 0).astype(np.float64), self.units(run) - self.warmup)
        return np.where(unit < self.warmup, (unit + 1) / (self.warmup + 1), own)

    def _each(self, run: Run) -> int:
        """Steps of a unit."""
        assert run.batches_per_epoch is not None
        return 1 if self.per == "step" else run.batches_per_epoch

    def check(self, run: Run, origin: OriginOf) -> None:
        """Refuse a warm-up that never ends, a shape that is to end with a budget of nothing, and steps of no size."""
        if self.flat:
            return
        units = self.units(run)
        if self.warmup and self.warmup >= units:
            allowed = f"must be < {units}, the {self.per}s of the budget: it would never end"
            raise ConfigError("schedule.warmup", self.warmup, allowed, origin("schedule.warmup"))
        if not self.prefix and not units:
            allowed = "spans the budget, and steps=0 has nothing to span; use schedule=constant"
            raise ConfigError("schedule", self.name, allowed, origin("schedule"))
        if run.steps and not (last := float(self.factors(run, run.steps - 1, run.steps)[0])) > 0:
            allowed = (
                f"must leave the last step a size > 0, but leaves {last:g} of lr; shorten the budget, or fall slower"
            )
            raise ConfigError("schedule", self.name, allowed, origin("schedule"))


@dataclass(frozen=True)
class Falling(Schedule):
    """Base of the schedules that fall to ``final`` over the whole budget."""

    final: float = axis(0.0, "fraction of lr reached after the last step or epoch", low=0, high=1)
