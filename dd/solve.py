"""From a pack of runs to the rows of the results table."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import torch

from dd.config import RunConfig, Settings, core_axes
from dd.data._problem import Problem, load
from dd.errors import ConfigError, in_one_line
from dd.measure import hessian
from dd.measure.conditioning import (
    Measure,
    State,
    feature_samples,
    final_columns,
    guarded,
    ntk_columns,
    spectrum_columns,
)
from dd.measure.outcome import outcome
from dd.measure.smoother import effective_parameters, mode_power
from dd.measure.spectrum import Spectrum, spectrum
from dd.network import Inputs, Network, Parameters, common_inputs, weight_dtype
from dd.numerics import reproducible
from dd.pack import ON_CPU, ON_GPU, Limits, Pack, estimated_seconds, families
from dd.predictions import Prediction
from dd.solvers._solution import CurvePoint, Solution
from dd.solvers.closed_form import Factors, factorize, factorize_batch, least_squares
from dd.solvers.exact import Group
from dd.solvers.train import together, train_families, trainer_of

Row = dict[str, Any]

SMALL_DESIGN = 1 << 18
"""Entries up to which a GPU decomposes design matrices of one shape in one call."""


@dataclass
class Solved:
    """Rows of the ``runs`` and ``curves`` tables of one pack, and test outputs where they are asked for."""

    rows: list[Row] = field(default_factory=list)
    curves: list[Row] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)


def device_of(settings: Settings) -> torch.device:
    """The device that ``device`` stands for."""
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def limits_of(settings: Settings) -> Limits:
    """How large packs may be on the device: on a GPU at most half of the memory that is free, a share a process."""
    device = device_of(settings)
    if device.type == "cpu":
        return ON_CPU
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch keeps it for the next
    processes = 1 if settings.n_jobs == "auto" else int(settings.n_jobs)
    return replace(ON_GPU, bytes=min(ON_GPU.bytes, free // (2 * processes)))


def measure_of(settings: Settings) -> Measure:
    """What ``measure`` and ``measure.memory`` ask for."""
    return Measure(settings.measure_name == "full", int(settings.measure_memory * 1e9))


def check_device(settings: Settings) -> None:
    """Make sure that the device is there.

    Raises:
        ConfigError: it is not.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device", "cuda", "this torch finds no CUDA device; use device=auto or device=cpu")


def solve(pack: Pack, settings: Settings, solved: Solved, on_run: Callable[[Row], None] = lambda row: None) -> None:
    """Train and measure every run of a pack.

    A run that raises is a row with status ``failed`` and takes nobody with it.

    Args:
        pack: runs that share data, features and seed.
        settings: device and data folder.
        solved: filled with one row a run as they finish; an interruption leaves what is done.
        on_run: called with each finished row.
    """
    with reproducible(device_of(settings)):
        context = Context(settings, pack.runs)
        if context.device.type != "cpu":
            context.decompose_ahead()

        def report(run: RunConfig, job: Job | None) -> None:
            row: Row | None = None
            curve: list[CurvePoint] = []
            predictions: list[Prediction] = []
            with _timed(context, run):
                try:
                    if job and run not in context.errors:
                        predictions = [predict(job)] if settings.measure_predictions else []
                        row, curve = _measured(job, context.measure)
                except Exception as error:
                    context.errors[run] = error
                    predictions = []
                row = row or failed_row(run, context.errors[run])
            row["seconds"] = context.seconds[run]
            solved.rows.append(row)
            solved.curves.extend(_curve_rows(run, curve))
            solved.predictions.extend(predictions)
            on_run(row)

        jobs = []
        for run in pack.runs:
            with _timed(context, run):
                try:
                    jobs.append(prepare(run, context))
                    continue
                except Exception as error:
                    context.forget()
                    context.errors[run] = _without_memory(error)
            report(run, None)
        for job in train_jobs(jobs, context):
            report(job.run, job)


def run_axes(run: RunConfig) -> Row:
    """Every axis of a run by its column's name."""
    row: Row = {name: getattr(run, name) for name in core_axes()} | {"epochs": run.epochs}
    return row | {key.replace(".", "_"): value for key, value in run.options}


def axes_row(run: RunConfig) -> Row:
    """Identity and axes of a run, the part of its row that is known before it is computed."""
    return {"run_id": run.run_id} | run_axes(run)


def failed_row(run: RunConfig, error: BaseException) -> Row:
    """The row of a run that raised; ``error`` names exception and place."""
    text = in_one_line(error)
    if _short_of_memory(error):
        text = f"out of memory: {text}"
    return axes_row(run) | {"status": "failed", "error": text}


def _curve_rows(run: RunConfig, curve: list[CurvePoint]) -> list[Row]:
    per_epoch = run.batches_per_epoch or 1
    return [{"run_id": run.run_id, "epoch": p.step / per_epoch, **vars(p)} for p in curve]


@dataclass(frozen=True)
class _Limit:
    """What runs with the same fixed design matrix share.

    Attributes:
        spectrum: of the design matrix.
        row: the columns ``min_norm_*``; empty where the loss is not squared.
    """

    spectrum: Spectrum
    row: Row


class Context:
    """What the runs of a pack share: inputs, and the decomposition of the last design matrix.

    Args:
        settings: device and data folder.
        runs: the pack.
        problem: their data; loaded where None.
    """

    def __init__(self, settings: Settings, runs: Sequence[RunConfig], problem: Problem | None = None) -> None:
        self.settings = settings
        self.measure = measure_of(settings)
        self.problem = problem
        self.device = device_of(settings)
        self.seconds = dict.fromkeys(runs, 0.0)
        self.errors: dict[RunConfig, Exception] = {}
        self._inputs: dict[object, Inputs] = {}
        self._widest: dict[object, RunConfig] = {}
        for run in runs:
            wide = self._widest.setdefault(run.inputs_key, run)
            if run.width > wide.width:
                self._widest[run.inputs_key] = run
        self.forget()

    def forget(self) -> None:
        """Decompose anew, after a failure."""
        self._limits: dict[object, _Limit] = {}
        self._test_power: dict[object, torch.Tensor] = {}
        self._key: object = None
        self._factors: Factors | None = None
        self._ahead: dict[object, Factors] = {}

    def decompose_ahead(self) -> None:
        """Decompose small design matrices of one shape in one call, as a GPU wants them; a failure is left to later."""
        by_shape: dict[object, dict[object, RunConfig]] = {}
        for run in self.seconds:
            if run.linear and run.n_train * run.columns <= SMALL_DESIGN:
                by_shape.setdefault((run.n_train, run.columns), {}).setdefault(run.feature_key, run)
        for members in by_shape.values():
            if len(members) > 1:
                with suppress(Exception):
                    designs = [self.network(run).exact_train.inputs[0] for run in members.values()]
                    self._ahead |= zip(members, factorize_batch(torch.stack(designs)), strict=True)

    def network(self, run: RunConfig) -> Network:
        """The run's network; inputs are computed once, for the widest run that shares them."""
        problem = self.problem or load(run, self.settings)
        key = run.inputs_key
        if key not in self._inputs:
            self._inputs[key] = common_inputs(self._widest[key], problem, self.device)
        return Network([run], problem, self.device, weight_dtype(run), self._inputs[key])

    def factors(self, run: RunConfig, network: Network) -> Factors:
        """Decomposition of a linear network's design matrix, kept for the next run with the same one."""
        if run.feature_key != self._key or self._factors is None:
            self._factors = self._ahead.pop(run.feature_key, None) or factorize(network.exact_train.inputs[0])
            self._key = run.feature_key
        return self._factors

    def test_power(self, run: RunConfig, network: Network) -> torch.Tensor:
        """Mean square of a linear network's test inputs along its singular directions, [rank]."""
        key = run.feature_key
        if key not in self._test_power:
            directions = self.factors(run, network).kept().vh
            self._test_power[key] = mode_power(network.exact_test.inputs[0] @ directions.T)
        return self._test_power[key]

    def limit(self, run: RunConfig, network: Network) -> _Limit:
        """Spectrum and minimum-norm solution of a linear network's design matrix."""
        key = (run.feature_key, run.loss)
        if key not in self._limits:
            factors = self.factors(run, network)
            row = _min_norm_columns(network, factors, network.buffers) if run.loss == "mse" else {}
            self._limits[key] = _Limit(factors.spectrum, row)
        return self._limits[key]


def _min_norm_columns(network: Network, factors: Factors, buffers: Mapping[str, torch.Tensor]) -> Row:
    """Losses and error of the least-squares solution of least norm on a design matrix."""
    solved = network.named(network.theta.double().clone())
    solved.named["readout"].copy_(least_squares(factors, network.exact_train.targets).T)
    exact = {k: v.double() for k, v in buffers.items()}
    got = outcome(network, solved, exact, network.exact_train, network.exact_test)
    return {
        "min_norm_train_loss": float(got.train_loss),
        "min_norm_test_loss": float(got.test_loss),
        "min_norm_test_error": None if got.test_error is None else float(got.test_error),
    }


@contextmanager
def _timed(context: Context, run: RunConfig) -> Iterator[None]:
    start = time.perf_counter()
    yield
    context.seconds[run] += time.perf_counter() - start


@dataclass
class Job:
    """A run on its way.

    Attributes:
        run: its axes.
        network: its model and data.
        row: the columns known before training.
        spectrum: of the matrix that the last layer sees, where it is fixed.
        lr: absolute step size; None where there is none.
        solution: once it is there.
        factors: decomposition of the design matrix, for exact dynamics.
    """

    run: RunConfig
    network: Network
    row: Row
    spectrum: Spectrum | None = None
    lr: float | None = None
    solution: Solution | None = None
    factors: Factors | None = None


def prepare(run: RunConfig, context: Context) -> Job:
    """Everything before training: network, initial spectrum, step size; a closed form's solution."""
    network = context.network(run)
    problem = network.problem
    row = axes_row(run) | {
        "parameters": network.parameters,
        "inputs": problem.inputs,
        "outputs": problem.outputs,
        "interpolation_width": network.model.interpolation_width(run, problem.inputs, problem.outputs),
        "data_source": problem.source,
        "data_sha256": problem.sha256,
        "device": str(context.device),
        "measure": context.settings.measure_name,
    }
    job = Job(run, network, row)
    if network.linear:
        limit = context.limit(run, network)
        job.spectrum = limit.spectrum
        row |= limit.row
    if run.component("optimizer").closed_form:
        job.solution, factors = _closed_form(run, network, context)
        initial: Spectrum | None = factors.spectrum
        job.spectrum = initial
        if not network.linear and run.loss == "mse":
            row |= _min_norm_columns(network, factors, {k: v[None] for k, v in job.solution.buffers.items()})
    else:
        initial = job.spectrum or _feature_spectrum(network, network.theta, network.buffers)
        sharpness: float | None = None
        if job.spectrum and run.loss == "mse":
            sharpness = 2 * job.spectrum.sigma_max**2 / (run.n_train * problem.outputs)
        elif run.lr_unit == "sharpness":
            exact = _exact_loss(network, network.buffers)
            sharpness = guarded(lambda: hessian.largest_eigenvalue(exact, network.theta[0].double()))
        job.lr = None if run.lr is None else _absolute_lr(run, sharpness)
        if run.solver == "exact":
            job.factors = context.factors(run, network)
        row |= {"lr_absolute": job.lr, "sharpness_init": sharpness}
    row |= {f"feature_{k}_init": v for k, v in spectrum_columns(initial).items()}
    if job.solution is None:
        state = State(run, network, network.theta[0].double(), network.buffers, initial)
        row |= {f"ntk_{k}_init": v for k, v in ntk_columns(state, context.measure).items()}
    network.release()
    return job


def train_jobs(jobs: list[Job], context: Context) -> Iterator[Job]:
    """Train what is iterated, runs that share batches together; each run's share of the time is its estimated one.

    Yields:
        Jobs as they end, closed forms and exact dynamics first: with a solution, or an error in ``context.errors``.
    """
    yield from (job for job in jobs if job.solution)
    yield from _solve_exactly([job for job in jobs if job.factors], context)
    leaders, shorter = _leaders([job for job in jobs if job.run.solver != "exact"])
    groups = _groups(leaders)
    while groups:
        members = groups.pop(0)
        everybody = [job for leader in members for job in (leader, *shorter[leader.run])]
        start = time.perf_counter()
        error = _train_group(members, [shorter[leader.run] for leader in members])
        seconds = time.perf_counter() - start
        estimates = [estimated_seconds(job.run) for job in everybody]
        for job, estimate in zip(everybody, estimates, strict=True):
            job.network.release()
            context.seconds[job.run] += seconds * estimate / sum(estimates)
        if error and len(members) > 1:  # memory may be short, or one run to blame: halves get their chance
            middle = len(members) // 2
            groups = _groups(members[:middle]) + _groups(members[middle:]) + groups
            continue
        if error and len(everybody) > 1:  # the budgets before the error may have gone well
            context.errors[members[0].run] = error
            rest, stopping = _leaders(shorter[members[0].run])
            shorter |= stopping
            groups = _groups(rest) + groups
            yield members[0]
            continue
        if error:
            context.errors[members[0].run] = error
        yield from everybody


def _solve_exactly(jobs: list[Job], context: Context) -> Iterator[Job]:
    """Solve runs with exact dynamics; those with the same design matrix, which follow each other, share its basis."""
    for _, members in groupby(jobs, key=lambda job: job.run.feature_key):
        group: Group | None = None
        for job in members:
            with _timed(context, job.run):
                try:
                    assert job.factors is not None
                    group = group or Group(job.network, job.factors)
                    job.solution = group.solve(job.network, job.lr)
                except Exception as error:
                    context.errors[job.run] = _without_memory(error)
                job.factors = None
                job.network.release()
            yield job


def _groups(jobs: list[Job]) -> list[list[Job]]:
    return [[jobs[i] for i in members] for members in together([job.network for job in jobs])]


def _leaders(jobs: list[Job]) -> tuple[list[Job], dict[RunConfig, list[Job]]]:
    """Of deep networks that differ in their budgets alone the one with the largest; the others by its run."""
    by_run = {job.run: job for job in jobs}
    found = families(by_run)
    return [by_run[family[0]] for family in found], {f[0]: [by_run[run] for run in f[1:]] for f in found}


def _train_group(jobs: list[Job], shorter: list[list[Job]]) -> Exception | None:
    """Train the jobs of one trainer, which is gone when this returns, and those that stop on their way.

    Returns:
        The error that it raised.
    """
    try:
        trainer = trainer_of([job.network for job in jobs], [job.lr for job in jobs])
        found = train_families(trainer, [[job.run for job in others] for others in shorter])
        for job, others, solutions in zip(jobs, shorter, found, strict=True):
            for member, solution in zip((job, *others), solutions, strict=True):
                member.solution = solution
    except Exception as error:
        return _without_memory(error)
    return None


def _without_memory(error: Exception) -> Exception:
    """The error; where memory was short, without the frames that hold what was allocated before."""
    return error.with_traceback(None) if _short_of_memory(error) else error


def _short_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed; PyTorch has no exception of its own for the memory of a CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def predict(job: Job) -> Prediction:
    """Outputs of a solved run on its test set, computed in float64."""
    network, solution = job.network, job.solution
    assert solution is not None
    buffers = {k: v[None].double() for k, v in solution.buffers.items()}
    outputs = network.predict(_exact(network, solution.theta[None]), network.exact_test.inputs, buffers)[0]
    problem = network.problem
    return Prediction(job.run.run_id, outputs.float().cpu().numpy(), problem.targets_id, problem.test_y.numpy())


def _measured(job: Job, measure: Measure) -> tuple[Row, list[CurvePoint]]:
    """The row of a solved run, and its curve."""
    solution = job.solution
    assert solution is not None
    row = job.row | {"status": solution.status, "steps_done": solution.steps_done}
    row |= _measure(job, solution, measure)
    job.network.release()
    return {k: _storable(k, v) for k, v in row.items()}, solution.curve


def _storable(column: str, value: Any) -> Any:
    """Null for numbers that are not finite; but a matrix of zeros has an infinite condition number."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return value if column.removesuffix("_init").endswith("_condition") and value == math.inf else None


def _absolute_lr(run: RunConfig, sharpness: float | None) -> float:
    """Step size in absolute units.

    Raises:
        ValueError: the step size is asked for in units of a sharpness that is not positive.
    """
    assert run.lr is not None
    if run.lr_unit == "absolute":
        return run.lr
    if sharpness is None or not sharpness > 0:
        raise ValueError(
            f"lr_unit=sharpness needs a positive largest Hessian eigenvalue at the start, found {sharpness}; "
            "use lr_unit=absolute or another init"
        )
    return run.lr / sharpness


def _closed_form(run: RunConfig, network: Network, context: Context) -> tuple[Solution, Factors]:
    """Solve for the read-out; batch statistics are those of the whole training set."""
    buffers = {k: v.double() for k, v in network.buffers.items()}
    if network.linear:
        factors, test_power = context.factors(run, network), context.test_power(run, network)
    else:
        theta = network.named(network.theta.double())
        if network.normalization.batch_dependent:
            features = network.exact_train.inputs
            buffers |= {
                "mean": features.mean(1, keepdim=True),
                "variance": features.var(1, keepdim=True, unbiased=False),
            }
        factors = factorize(network.design(theta, network.exact_train.inputs, buffers)[0])
        test_design = network.design(theta, network.exact_test.inputs, buffers)[0]
        test_power = mode_power(test_design @ factors.kept().vh.T)
    optimizer = run.component("optimizer")
    readout = least_squares(factors, network.exact_train.targets, lambda s: optimizer.inverse(run, s))
    solved = network.named(network.theta.double().clone())
    solved.named["readout"].copy_(readout.T)
    solution = Solution(solved.flat[0], {k: v[0] for k, v in buffers.items()})
    s = factors.kept().s
    solution.effective_parameters = effective_parameters(optimizer.inverse(run, s), s, test_power, run.n_train)
    return solution, factors


def _exact(network: Network, flat: torch.Tensor) -> Parameters:
    """Parameters in float64, for measurements."""
    return network.named(flat.double())


def _exact_loss(network: Network, buffers: Mapping[str, torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """Full-batch training loss in float64 as a function of one run's flat parameters."""

    def loss(flat: torch.Tensor) -> torch.Tensor:
        copies = {k: v[:1].double().clone() for k, v in buffers.items()}  # batch statistics may be remembered
        samples = network.exact_train
        return network.loss(network.named(flat[None]), samples.inputs, samples.targets, copies)[0]

    return loss


def _feature_spectrum(network: Network, theta: torch.Tensor, buffers: Mapping[str, torch.Tensor]) -> Spectrum | None:
    """Spectrum of the matrix that the last layer sees, on the training set (batch statistics: of all of it)."""
    exact = {k: v.double().clone() for k, v in buffers.items()}
    training = network.normalization.batch_dependent
    inputs = network.exact_train.inputs[:, : feature_samples(network.run)]
    return guarded(lambda: spectrum(network.seen(_exact(network, theta), inputs, exact, training=training)[0]))


def _gradient_norm(network: Network, theta: Parameters, loss: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """Norm of the gradient of the training loss; of a deep network averaged over batches, as training sees it."""
    if not network.deep:
        leaf = theta.flat[0].clone().requires_grad_(True)
        return float(torch.autograd.grad(loss(leaf), leaf)[0].norm())
    samples, size = network.exact_train, network.run.batch_size
    assert size is not None
    mean, out = torch.zeros_like(theta.flat), network.named(torch.empty_like(theta.flat))
    for x, y in zip(samples.inputs.split(size, dim=1), samples.targets.split(size), strict=True):
        network.gradient(theta, x, y, {}, out)
        mean.add_(out.flat, alpha=len(y) / len(samples.targets))
    return float(mean.norm())


def _measure(job: Job, solution: Solution, measure: Measure) -> Row:
    """Losses, errors, norms and conditioning of a solution, in float64."""
    network, fixed = job.network, job.spectrum
    theta = _exact(network, solution.theta[None])
    buffers = {k: v[None].double() for k, v in solution.buffers.items()}
    loss = _exact_loss(network, buffers)
    if solution.measured:
        point = solution.measured.point
        norms = (solution.measured.weight_norm, solution.measured.gradient_norm)
    else:
        got = outcome(network, theta, buffers, network.exact_train, network.exact_test)
        errors = (None if e is None else float(e) for e in (got.train_error, got.test_error))
        point = CurvePoint(0, float(got.train_loss), float(got.test_loss), *errors)
        norms = (float(theta.flat.norm()), _gradient_norm(network, theta, loss))
    row: Row = {k: v for k, v in vars(point).items() if k != "step"}
    row |= {"weight_norm": norms[0], "gradient_norm": norms[1]}
    if solution.effective_parameters:
        row |= {f"effective_parameters_{k}": v for k, v in vars(solution.effective_parameters).items()}
    final = fixed or _feature_spectrum(network, theta.flat, buffers)
    row |= {f"feature_{k}": v for k, v in spectrum_columns(final).items()}
    state = State(job.run, network, theta.flat[0], buffers, final, solution.preconditioner, job.lr)
    return row | final_columns(state, measure)
