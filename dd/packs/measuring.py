"""Measuring a solved run: losses, errors, norms and conditioning, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from dd.components.model import Tensors
from dd.measure.conditioning import Measure, Probe, feature_spectrum, final_columns, spectrum_columns
from dd.measure.outcome import outcome
from dd.measure.solution import CurvePoint, Solution
from dd.network import Network
from dd.packs.prepare import Job
from dd.packs.rows import Row, storable
from dd.packs.shared import min_norm_columns
from dd.results.predictions import Prediction


def measured(job: Job, solution: Solution, measure: Measure) -> Row:
    """The row of a solved run."""
    run, network = job.run, job.network
    row = job.row | {"status": solution.status, "steps_done": solution.steps_done, "trainer": solution.trainer}
    theta = network.named(solution.theta[None].double())
    buffers = {k: v[None].double() for k, v in solution.buffers.items()}
    if solution.factors is not None:
        job.spectrum = solution.factors.spectrum
        row |= {f"feature_{k}_init": v for k, v in spectrum_columns(job.spectrum).items()}
        row |= min_norm_columns(network, solution.factors, buffers)
    if solution.measured:
        point = solution.measured.point
        norms = (solution.measured.weight_norm, solution.measured.gradient_norm)
    else:
        point = end_point(network, solution)
        copies = {k: v.clone() for k, v in buffers.items()}  # batch statistics may be remembered
        norms = (float(theta.flat.norm()), _gradient_norm(network, theta.flat, copies))
    row |= {k: v for k, v in vars(point).items() if k != "step"}
    row |= {"weight_norm": norms[0], "gradient_norm": norms[1]}
    if solution.effective_parameters:
        row |= {f"effective_parameters_{k}": v for k, v in vars(solution.effective_parameters).items()}
    final = job.spectrum or feature_spectrum(network, theta.flat, buffers)
    row |= {f"feature_{k}": v for k, v in spectrum_columns(final).items()}
    probe = Probe(run, network, theta.flat[0], buffers, final, solution.preconditioner, job.task.lr)
    row |= final_columns(probe, measure)
    network.release()
    return {k: storable(k, v) for k, v in row.items()}


def end_point(network: Network, solution: Solution) -> CurvePoint:
    """Losses and errors of a solution, in float64; of a closed form at step 0."""
    buffers = {k: v[None].double() for k, v in solution.buffers.items()}
    theta = network.named(solution.theta[None].double())
    got = outcome(network, theta, buffers, network.exact_train, network.exact_test)
    errors = (None if e is None else float(e) for e in (got.train_error, got.test_error))
    return CurvePoint(0, float(got.train_loss), float(got.test_loss), *errors)


def predicted(job: Job, solution: Solution) -> Prediction:
    """Outputs of a solved run on its test set, computed in float64."""
    network, problem = job.network, job.network.problem
    buffers = {k: v[None].double() for k, v in solution.buffers.items()}
    theta = network.named(solution.theta[None].double())
    outputs = network.predict(theta, network.exact_test.inputs, buffers)[0]
    return Prediction(job.run.run_id, outputs.float().cpu().numpy(), problem.targets_id, problem.test_y.numpy())


def _gradient_norm(network: Network, flat: Tensor, buffers: Tensors) -> float:
    """Norm of the gradient of the training loss; of a deep network averaged over batches, as training sees it."""
    samples, size = network.exact_train, network.run.batch_size
    if not network.deep:
        return float(network.objective(flat, samples.inputs, samples.targets, buffers)[1].norm())
    assert size is not None
    mean, out, code = torch.zeros_like(flat), torch.empty_like(flat), network.code(flat)
    for x, y in zip(samples.inputs.split(size, dim=1), samples.targets.split(size), strict=True):
        if code:
            code.gradient(flat[0], {}, x[0], y, out[0], loss=network.run.loss)
        else:
            out = network.objective(flat, x, y, {})[1]
        mean.add_(out, alpha=len(y) / len(samples.targets))
    return float(mean.norm())
