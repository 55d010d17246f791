"""Measuring a solved run: losses, errors, norms and conditioning, in float64."""

from __future__ import annotations

from dataclasses import replace

from dd.components.model import Tensors
from dd.measure.conditioning import Measure, Probe, final_columns, spectrum_columns
from dd.measure.full_pass import full_pass, measure_parts
from dd.measure.label_noise import CleanAndNoisy
from dd.measure.solution import CurvePoint, Solution
from dd.network import Network, Parameters
from dd.packs.notes import note_of
from dd.packs.prepare import Job
from dd.packs.rows import Row, storable
from dd.packs.shared import min_norm_columns
from dd.results.predictions import Prediction
from dd.runs.run import Run


def measured(job: Job, solution: Solution, measure: Measure) -> Row:
    """The row of a solved run."""
    run, network = job.run, job.network
    row = job.row | {"status": solution.status, "steps_done": solution.steps_done, "trainer": solution.trainer}
    theta, buffers = _end(network, solution)
    divisors = network.divisors(buffers)
    row |= {"dead_units": None if divisors is None else divisors.dead, "status_note": note_of(network, divisors)}
    wanted = not measure.outcome_alone
    if solution.factors is not None and wanted:
        job.spectrum = solution.factors.spectrum
        row |= {f"feature_{k}_init": v for k, v in spectrum_columns(job.spectrum).items()}
        row |= min_norm_columns(network, solution.factors, buffers)
    final, noisy = job.spectrum, network.problem.noisy
    parts = None if noisy is None else CleanAndNoisy(run.loss, noisy)
    if solution.measured:
        point, known = solution.measured.point, solution.measured
        row |= {"weight_norm": known.weight_norm, "gradient_norm": known.gradient_norm if wanted else None}
        if parts is not None:
            measure_parts(network, theta, buffers, parts)
    else:
        spectrum = wanted and final is None
        found = full_pass(network, theta, buffers, gradient=wanted, spectrum=spectrum, parts=parts)
        final = final or found.features
        point = found.outcome.points()[0]
        row |= {"weight_norm": float(theta.flat.norm()), "gradient_norm": found.gradient_norm}
    complete(run, solution, point)
    row |= {"validation_loss": point.validation_loss, "validation_error": point.validation_error}
    if job.task.curve and solution.curve:
        best = min(solution.curve, key=lambda p: p.test_loss)
        row |= {"best_test_loss": best.test_loss, "best_step": best.step}
    row |= {k: getattr(point, k) for k in ("train_loss", "test_loss", "train_error", "test_error")}
    row |= {} if parts is None else parts.columns()
    if solution.effective_parameters and wanted:
        row |= {f"effective_parameters_{k}": v for k, v in vars(solution.effective_parameters).items()}
    if wanted:
        row |= {f"feature_{k}": v for k, v in spectrum_columns(final).items()}
        probe = Probe(run, network, theta.flat[0], buffers, final, solution.preconditioner, job.task.lr)
        row |= final_columns(probe, measure)
    network.release()
    return {k: storable(k, v) for k, v in row.items()}


def _end(network: Network, solution: Solution) -> tuple[Parameters, Tensors]:
    """Parameters and the normalisation's memory at the end, in float64."""
    return network.named(solution.theta[None].double()), {k: v[None].double() for k, v in solution.buffers.items()}


def complete(run: Run, solution: Solution, end: CurvePoint) -> None:
    """Put the losses of all samples at the end of a curve that was logged on a part of them."""
    last = solution.curve[-1] if solution.curve else None
    if last and last.curve_samples < run.n_train and last.step == solution.steps_done:
        solution.curve[-1] = replace(end, step=last.step, curve_samples=run.n_train)


def end_point(network: Network, solution: Solution) -> CurvePoint:
    """Losses and errors of a solution, in float64; of a closed form at step 0."""
    point = full_pass(network, *_end(network, solution), gradient=False, spectrum=False).outcome.points()[0]
    return replace(point, curve_samples=network.run.n_train)


def predicted(job: Job, solution: Solution) -> Prediction:
    """Outputs of a solved run on its test set, computed in float64."""
    network, problem = job.network, job.network.problem
    theta, buffers = _end(network, solution)
    outputs = network.predict(theta, network.exact_test.inputs, buffers)[0]
    return Prediction(job.run.run_id, outputs.float().cpu().numpy(), problem.targets_id, problem.test_y.numpy())
