"""What a trainer must offer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from dd.closed.design import Design
from dd.measure.solution import Solution
from dd.network import Network
from dd.runs.run import Run


@dataclass
class Task:
    """A run that is to be trained.

    Attributes:
        run: its axes.
        network: its model and data.
        lr: absolute step size; None where there is none.
        design: the design matrix, where the trainer asks for it (:attr:`Trainer.decomposes`).
        shorter: runs that differ from it in a smaller budget alone; they are solved on its way.
        curve: whether losses are logged on the way; else at the last step alone.
    """

    run: Run
    network: Network
    lr: float | None = None
    design: Design | None = None
    shorter: tuple[Run, ...] = ()
    curve: bool = True


class Trainer(ABC):
    """A method of taking runs from their start to their end; ``dd.trainers.table`` chooses one for each run.

    Attributes:
        name: what ``trainer=...`` and the column ``trainer`` call it.
        decomposes: whether it starts from the decomposition of the design matrix.
        augments: whether it trains on what ``data.augment`` makes of images; without it images stay as they are.
        follows_schedules: whether step sizes are those of ``run.schedule``; without it runs have one step size.
        validates: whether it ends runs where the loss on the samples held out was lowest; else it gets no such runs.
    """

    name: ClassVar[str]
    decomposes: ClassVar[bool] = False
    follows_schedules: ClassVar[bool] = False
    augments: ClassVar[bool] = False
    validates: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def objection(cls, run: Run, device: torch.device) -> str | None:
        """Why it cannot train a run there; None if it can. By the run's own axes alone, but for seeds and step size.

        Estimates do not depend on them either: a plan asks once.
        """

    @classmethod
    def group_key(cls, run: Run, device: torch.device) -> Hashable:
        """Runs with the same key are trained together; here each run is alone."""
        return run

    @classmethod
    def parts(cls, tasks: Sequence[Task]) -> list[list[Task]]:
        """Parts of a group that are trained one after the other, so that each fits in memory; here the group."""
        return [list(tasks)]

    @classmethod
    @abstractmethod
    def seconds(cls, run: Run) -> float:
        """Estimated cost of training a run and logging its curve, seconds on one core."""

    @classmethod
    def bytes(cls, run: Run) -> int:
        """Estimated memory that it keeps of a run: here copies of the parameters and of the optimizer's state."""
        return (8 if run.n_validation else 6) * run.model.parameter_count(run) * (8 if run.dtype == "float64" else 4)

    @classmethod
    def shared_bytes(cls, run: Run) -> int:
        """Estimated memory that it keeps for all runs on a run's design matrix together: here its factors, if any."""
        return 8 * min(run.n_train, run.columns) * (run.n_train + run.columns) if cls.decomposes else 0

    @classmethod
    @abstractmethod
    def train(cls, tasks: Sequence[Task]) -> list[list[Solution]]:
        """Solve the runs of one group.

        Returns:
            Of each task its solution and then those of its shorter runs.
        """
