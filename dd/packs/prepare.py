"""Everything before training: network, initial spectrum, step size."""

from __future__ import annotations

from dataclasses import dataclass

from dd.measure import hessian
from dd.measure.conditioning import Probe, ntk_columns, spectrum_columns
from dd.measure.full_pass import feature_spectrum
from dd.measure.solution import Solution
from dd.measure.spectrum import Spectrum, guarded
from dd.network import Network
from dd.packs.rows import Row, axes_row
from dd.packs.shared import Shared, Start
from dd.runs.run import Run
from dd.trainers.base import Task, Trainer
from dd.trainers.table import trainer_for


@dataclass
class Job:
    """A run on its way.

    Attributes:
        task: what its trainer gets.
        trainer: what trains it.
        row: the columns known before training.
        spectrum: of the matrix that the last layer sees, where it is fixed.
        result: its solution or the error in its place, once there is one.
        seconds: spent on it so far.
    """

    task: Task
    trainer: type[Trainer]
    row: Row
    spectrum: Spectrum | None = None
    result: Solution | Exception | None = None
    seconds: float = 0.0

    @property
    def run(self) -> Run:
        """Its axes."""
        return self.task.run

    @property
    def network(self) -> Network:
        """Its model and data."""
        return self.task.network


def prepare(run: Run, shared: Shared) -> Job:
    """Bring a run to its start.

    Raises:
        ValueError: the step size is asked for in units of a sharpness that is not positive.
    """
    network = shared.network(run)
    problem = network.problem
    row = axes_row(run) | {
        "parameters": network.parameters,
        "inputs": problem.inputs,
        "outputs": problem.outputs,
        "interpolation_width": run.model.interpolation_width(run, problem.inputs, problem.outputs),
        "data_source": problem.source,
        "data_sha256": problem.sha256,
        "device": str(shared.device),
        "measure": shared.settings.measure_name,
    }
    trainer, measured = trainer_for(run, shared.device, shared.settings.trainer), not shared.measure.outcome_alone
    job = Job(Task(run, network, curve=measured), trainer, row)
    start = shared.start(run)
    if network.linear and (measured or trainer.decomposes or run.lr_unit == "sharpness"):
        design = shared.design(run, network)
        job.spectrum = design.spectrum
        row |= design.min_norm if measured and run.loss == "mse" else {}
        job.task.design = design if trainer.decomposes else None
    initial = job.spectrum
    if measured and initial is None and not run.optimizer.closed_form:
        start.features = start.features or [feature_spectrum(network, network.theta, network.buffers)]
        initial = start.features[0]
    if not run.optimizer.closed_form:
        sharpness = _sharpness(job, start)
        job.task.lr = None if run.lr is None else _absolute_lr(run, sharpness)
        row |= {"lr_absolute": job.task.lr, "sharpness_init": sharpness}
    if measured:
        if not run.optimizer.closed_form:
            probe = Probe(run, network, network.theta[0].double(), network.buffers, initial)
            start.kernel = start.kernel or ntk_columns(probe, shared.measure)
            row |= {f"ntk_{k}_init": v for k, v in start.kernel.items()}
        row |= {f"feature_{k}_init": v for k, v in spectrum_columns(initial).items()}
    network.release()
    return job


def _sharpness(job: Job, start: Start) -> float | None:
    """Largest eigenvalue of the Hessian at the start; None where it is not known and nobody asks."""
    run = job.run
    if job.spectrum and run.loss == "mse":
        return 2 * job.spectrum.sigma_max**2 / (run.n_train * job.network.problem.outputs)
    if run.lr_unit != "sharpness":
        return None
    if run.loss not in start.sharpness:
        start.sharpness[run.loss] = guarded(lambda: hessian.sharpness(job.network))
    return start.sharpness[run.loss]


def _absolute_lr(run: Run, sharpness: float | None) -> float:
    """Step size in absolute units."""
    assert run.lr is not None
    if run.lr_unit == "absolute":
        return run.lr
    if sharpness is None or not sharpness > 0:
        raise ValueError(
            f"lr_unit=sharpness needs a positive largest Hessian eigenvalue at the start, found {sharpness}; "
            "use lr_unit=absolute or another init"
        )
    return run.lr / sharpness
