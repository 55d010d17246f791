"""What the runs of a pack share: inputs, and the decomposition of the last design matrix."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from dd.closed.design import Design
from dd.measure.factors import Factors, least_squares
from dd.measure.full_pass import full_pass
from dd.measure.spectrum import Spectrum
from dd.network import Inputs, Network, common_inputs, weight_dtype
from dd.packs.place import device_of, measure_of
from dd.packs.rows import Row
from dd.problems.problem import Problem, load
from dd.runs.run import Run
from dd.runs.settings import Settings


class SharedDesign(Design):
    """A design matrix, and its solution of least norm for the table."""

    @cached_property
    def min_norm(self) -> Row:
        """The columns ``min_norm_*``."""
        return min_norm_columns(self.network, self.factors, self.network.buffers)


@dataclass
class Start:
    """Measurements at the start that runs with the same one share; each is there once a run has asked for it.

    Attributes:
        features: spectrum of the matrix that the last layer sees, None where it is not finite; in a list of one.
        sharpness: by the loss; None where it cannot be computed.
        kernel: the columns of the tangent kernel.
    """

    features: list[Spectrum | None] = field(default_factory=list)
    sharpness: dict[str, float | None] = field(default_factory=dict)
    kernel: Row = field(default_factory=dict)


class Shared:
    """What the runs of a pack share.

    Args:
        settings: device and data folder.
        runs: the pack.
        problem: their data; loaded where None.
    """

    def __init__(self, settings: Settings, runs: Sequence[Run], problem: Problem | None = None) -> None:
        self.settings, self.runs, self.problem = settings, runs, problem
        self.measure, self.device = measure_of(settings), device_of(settings)
        self._inputs: dict[Hashable, Inputs] = {}
        self._widest: dict[Hashable, Run] = {}
        self._starts: dict[Hashable, Start] = {}
        for run in runs:
            wide = self._widest.setdefault(run.inputs_key, run)
            if run.width > wide.width:
                self._widest[run.inputs_key] = run
        self.forget()

    def forget(self) -> None:
        """Decompose anew, after a failure."""
        self._design: tuple[Hashable, SharedDesign] | None = None

    def network(self, run: Run) -> Network:
        """The run's network; inputs are computed once, for the widest run that shares them."""
        problem = self.problem or load(run, self.settings)
        key = run.inputs_key
        if key not in self._inputs:
            self._inputs[key] = common_inputs(self._widest[key], problem, self.device)
        return Network([run], problem, self.device, weight_dtype(run), self._inputs[key])

    def start(self, run: Run) -> Start:
        """What is known of the run's start; weights are rounded to the precision of training."""
        return self._starts.setdefault((run.start_key, weight_dtype(run)), Start())

    def design(self, run: Run, network: Network) -> SharedDesign:
        """A linear network's design matrix; the last one is kept for the next run with the same."""
        if self._design is None or self._design[0] != run.design_key:
            self._design = run.design_key, SharedDesign(network)
        return self._design[1]


def min_norm_columns(network: Network, factors: Factors, buffers: Mapping[str, Tensor]) -> Row:
    """Losses and error of the least-squares solution of least norm on a design matrix."""
    solved = network.named(network.theta.double().clone())
    solved.named["readout"].copy_(least_squares(factors, network.exact_train.targets).T)
    exact = {k: v.double() for k, v in buffers.items()}
    got = full_pass(network, solved, exact, gradient=False, spectrum=False).outcome
    return {
        "min_norm_train_loss": float(got.train_loss),
        "min_norm_test_loss": float(got.test_loss),
        "min_norm_test_error": None if got.test_error is None else float(got.test_error),
    }
