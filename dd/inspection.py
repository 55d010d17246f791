"""One run laid open: its samples, weights and batches, so that its row can be computed again by other means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from dd.errors import ConfigError, StoreError
from dd.measure.solution import Solution
from dd.numerics import neutral, reproducible
from dd.packs.prepare import Job, prepare
from dd.packs.schedule import train_jobs
from dd.packs.shared import Shared
from dd.results import Store
from dd.results.rebuilt import run_of
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.trainers.batches import Moves, Orders, moved


@dataclass(frozen=True, repr=False, eq=False)
class Inspected:
    """What a run is made of; all tensors are on the CPU, float64 unless said otherwise.

    Attributes:
        run: its axes.
        row: its row of the table.
        x: training inputs as the model gets them, standardised, [n_train, inputs].
        y: training targets, [n_train, outputs]: one-hot for classes, noisy labels included.
        noisy: whether a training label is another than the given one, [n_train], bool; None without label noise.
        test_x: test inputs, [n_test, inputs].
        test_y: test targets, [n_test, outputs].
        design: the matrix that the read-out sees, where training does not change it: frozen features, normalised, with
            the column of ones if ``model.bias``; [n_train, columns]. None where features are trained.
        test_design: the same of the test samples, [n_test, columns].
        frozen: frozen weights by name, [inputs, features]; phases are [1, features].
        initial: trained tensors before the first step, as torch's layers hold them: ``readout`` [outputs, features],
            ``hidden``, their ``..._bias``; of a module by its own names and shapes. In the precision of training.
        lr: absolute step size, which the run's schedule multiplies; None where there is none.
    """

    run: Run
    row: Mapping[str, object]
    x: Tensor
    y: Tensor
    noisy: Tensor | None
    test_x: Tensor
    test_y: Tensor
    design: Tensor | None
    test_design: Tensor | None
    frozen: dict[str, Tensor]
    initial: dict[str, Tensor]
    lr: float | None
    _job: Job

    def __repr__(self) -> str:
        run = self.run
        return (
            f"Inspected({run.run_id}: model={run.model.name}, width={run.width}, data={run.data.name}, "
            f"optimizer={run.optimizer.name}, seed={run.seed})"
        )

    def batch(self, step: int) -> Tensor:
        """Training samples of a step, in the order in which they are added up, [samples], int64.

        Args:
            step: from 1 to ``run.steps``.

        Raises:
            ConfigError: the run takes no such step.
        """
        run = self.run
        if run.steps is None or run.batch_size is None or not 1 <= step <= run.steps:
            allowed = "the run takes no steps" if run.steps is None else f"must be from 1 to {run.steps}"
            raise ConfigError("step", step, allowed)
        orders = Orders(run)
        epoch, place = divmod(step - 1, orders.per_epoch)
        order = torch.from_numpy(orders.epoch(epoch))
        return order[place * run.batch_size :][: run.batch_size].clone()

    def inputs(self, step: int) -> Tensor:
        """Inputs of a step as training sees them, by ``data.augment``, [samples, inputs]; see :meth:`batch`."""
        batch, run = self.batch(step), self.run
        if run.augment == "none":
            return self.x[batch]
        assert run.data.image is not None
        moves = torch.from_numpy(Moves(run).epoch((step - 1) // Orders(run).per_epoch))[batch]
        black = torch.tensor([self._job.network.problem.black], dtype=torch.float64)
        return moved(self.x[batch][None], run.data.image, moves[None], black)[0]

    def step_size(self, step: int) -> float | None:
        """Absolute step size of a step, from 1, by the run's schedule; None where there is none."""
        return None if self.lr is None else self.lr * float(self.run.schedule.factors(self.run, step - 1, step)[0])

    @property
    def final(self) -> dict[str, Tensor]:
        """Trained tensors at the end, as :attr:`initial`; the run is trained again when they are first asked for.

        Raises:
            RuntimeError: training fails.
        """
        return self._job.network.as_layers(self._solution.theta)

    @property
    def statistics(self) -> dict[str, Tensor]:
        """Running statistics at the end by name, [features]; empty without batch norm."""
        return {name: value.flatten().clone() for name, value in self._solution.buffers.items()}

    @cached_property
    def _solution(self) -> Solution:
        with neutral(), reproducible(torch.device("cpu")):
            (job,) = train_jobs([self._job])
        if not isinstance(job.result, Solution):
            raise RuntimeError(f"the run failed: {job.result}") from job.result
        return job.result


def inspect(
    run: str | Mapping[str, object],
    name: str = "default",
    results_dir: str | Path = "results",
    data_root: str | Path | None = None,
) -> Inspected:
    """Lay a run of a table open.

    Args:
        run: its ``run_id``, or its row (of ``dd.load``, or of ``pandas.read_parquet``).
        name: the table that has the run; not asked where a row is given.
        results_dir: folder of all tables.
        data_root: folder searched first for the data set's files.

    Raises:
        StoreError: the table has no such run.
        ConfigError: its samples are gone, or others than they were.
    """
    row = _row(run, name, results_dir) if isinstance(run, str) else {str(k): _plain(v) for k, v in dict(run).items()}
    found = run_of(row)
    settings = Settings(device="cpu", measure_name="none", data_root=None if data_root is None else str(data_root))
    with neutral(), reproducible(torch.device("cpu")):
        shared = Shared(settings, [found])
        job = prepare(found, shared)
    network, problem = job.network, job.network.problem
    linear = network.linear
    return Inspected(
        run=found,
        row=row,
        x=problem.train_x,
        y=problem.train_y,
        noisy=problem.noisy,
        test_x=problem.test_x,
        test_y=problem.test_y,
        design=network.exact_train.inputs[0] if linear else None,
        test_design=network.exact_test.inputs[0] if linear else None,
        frozen={k: torch.from_numpy(v) for k, v in found.model.draw_frozen(found, problem.inputs).items()},
        initial=network.as_layers(network.theta[0]),
        lr=job.task.lr,
        _job=job,
    )


def _row(run_id: str, name: str, results_dir: str | Path) -> Mapping[str, object]:
    store = Store(results_dir, name)
    rows: list[dict[str, object]] = store.rows([run_id]).to_pylist() if store.parts() else []
    if not rows:
        raise StoreError(f"{store.runs} has no run {run_id}; name=<another table> or results_dir=<another folder>?")
    return rows[0]


def _plain(value: object) -> object:
    """A cell of a frame as Python has it: null for what is missing."""
    item = value.item() if hasattr(value, "item") else value
    return None if item is None or item != item or str(item) in ("<NA>", "NaT") else item
