"""The conditioning columns of a run; ``docs/conditioning.md`` has the definitions with their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dd.measure import curvature
from dd.measure.curvature import Curvature, from_singular_values, jacobi, scaled_columns
from dd.measure.jacobian import Jacobian
from dd.measure.spectrum import Spectrum, extremes, finite, guarded, kept, singular_values
from dd.network import Network
from dd.runs.axis import Value
from dd.runs.run import Run

Row = dict[str, Value]

CHEAP_JACOBIAN = 1e8
"""``measure=basic`` decomposes Jacobians up to this much work: rows · columns · min(rows, columns), some 20 ms."""

CHEAP_WORK = 5e11
"""... and preconditioned design matrices up to this much work, over all outputs: they need no Jacobian."""

NTK_SAMPLES = 100
"""The tangent kernel of a deep network is taken on so many training samples, the first ones."""

HESSIAN_COLUMNS = (
    "hessian_condition", "hessian_lambda_max", "hessian_lambda_min", "hessian_trace", "hessian_rank",
    "hessian_effective_rank", "preconditioned_condition", "jacobi_condition",
)  # fmt: skip

RATES_BETWEEN = 1000
"""Points at which rates are looked for between two known eigenvalues."""

COPIES = 4
"""Matrices of a Jacobian's size that its decomposition holds at once."""


@dataclass(frozen=True)
class Measure:
    """What is measured.

    Attributes:
        level: one of :data:`dd.runs.settings.MEASURES`: the outcome alone; what costs little beside training; all.
        memory: bytes that the matrices of one run may take; above it, estimates are used.
    """

    level: str = "basic"
    memory: int = 500_000_000

    @property
    def full(self) -> bool:
        """Whether everything is measured."""
        return self.level == "full"

    @property
    def outcome_alone(self) -> bool:
        """Whether nothing but losses, errors and the weights' norm is measured, and no curve is logged."""
        return self.level == "none"

    def takes_jacobian(self, rows: int, columns: int) -> bool:
        """Whether a Jacobian of this shape is formed and decomposed."""
        cheap = float(rows) * columns * min(rows, columns) <= CHEAP_JACOBIAN
        return (self.full or (cheap and not self.outcome_alone)) and COPIES * 8 * rows * columns <= self.memory


@dataclass(frozen=True)
class Probe:
    """Where a run is measured.

    Attributes:
        run: its axes.
        network: its model and data.
        flat: parameters, [parameters], float64.
        buffers: the normalisation's memory, each [1, 1, features].
        features: spectrum of the matrix that the last layer sees; None where its entries are not finite.
        preconditioner: the optimizer's diagonal, [parameters], or None.
        lr: absolute step size; None without one.
    """

    run: Run
    network: Network
    flat: Tensor
    buffers: Mapping[str, Tensor]
    features: Spectrum | None
    preconditioner: Tensor | None = None
    lr: float | None = None

    @property
    def least_squares(self) -> bool:
        """Whether the Hessian is that of least squares on the matrix that the last layer sees."""
        return self.run.loss == "mse" and (self.network.linear or self.run.optimizer.closed_form)

    @property
    def jacobian(self) -> Jacobian:
        """Of the outputs in the parameters."""
        return Jacobian(self.network, self.flat, dict(self.buffers))

    @property
    def ntk_jacobian(self) -> Jacobian:
        """:attr:`jacobian` on the samples of the tangent kernel."""
        if self.network.deep is None:
            return self.jacobian
        statistics = self.network.statistics(self.flat)
        return Jacobian(self.network, self.flat, statistics, samples=ntk_samples(self.run))


def ntk_samples(run: Run) -> int:
    """Training samples on which the tangent kernel of a run is taken."""
    return min(run.n_train, NTK_SAMPLES) if run.model.deep else run.n_train


def spectrum_columns(found: Spectrum | None) -> Row:
    """``condition``, ``rank``, ``sigma_max``, ``sigma_min`` of a matrix; null where it is not finite."""
    if found is None:
        return dict.fromkeys(("condition", "rank", "sigma_max", "sigma_min"))
    return {
        "condition": found.condition,
        "rank": found.rank,
        "sigma_max": found.sigma_max,
        "sigma_min": found.sigma_min,
    }


def final_columns(probe: Probe, measure: Measure) -> Row:
    """Hessian and tangent kernel at the end."""
    row = hessian_columns(probe, measure)
    if measure.full and probe.run.loss == "mse" and not probe.network.linear and not probe.network.deep:
        # J Jᵀ and H = (2/(n C)) Jᵀ J have one spectrum, up to the factor
        kernel = {"condition": row["hessian_condition"], "rank": row["hessian_rank"]}
    else:
        kernel = ntk_columns(probe, measure)
    return row | {f"ntk_{k}": v for k, v in kernel.items()}


def hessian_columns(probe: Probe, measure: Measure) -> Row:
    """Hessian of the training loss at the end, as it is, as the optimizer sees it, and after Jacobi scaling."""
    row: Row = dict.fromkeys(HESSIAN_COLUMNS) | {"measure_method": "none"}
    if probe.least_squares:
        return row | _least_squares_columns(probe, measure)
    jacobian = probe.jacobian
    if probe.network.deep:
        top = guarded(lambda: curvature.largest(jacobian)) if measure.full else None
        return row if top is None else row | {"hessian_lambda_max": top, "measure_method": "lanczos_top"}
    takes = measure.takes_jacobian(*jacobian.shape)
    factor = guarded(lambda: finite(jacobian.curved(jacobian.dense()))) if takes else None
    if factor is not None:
        return row | (guarded(lambda: _dense_columns(probe, measure, factor)) or {})
    if not measure.full:
        return row
    found = guarded(lambda: curvature.lanczos(jacobian, measure.memory))
    if found is not None:
        seen = guarded(
            lambda: _seen(probe, found, lambda d: curvature.lanczos(jacobian, measure.memory, diagonal=d).condition)
        )
        row |= _curvature_columns(found) | {"preconditioned_condition": seen}
    return row


def ntk_columns(probe: Probe, measure: Measure) -> Row:
    """Condition number and rank of the empirical tangent kernel J Jᵀ on the training set; null where not measured."""
    unknown: Row = {"condition": None, "rank": None}
    if probe.network.linear:
        # J is the design matrix once for each output
        found = probe.features
        outputs = probe.network.problem.outputs
        return unknown if found is None else {"condition": found.condition**2, "rank": outputs * found.rank}
    if not measure.full:
        return unknown
    jacobian = probe.ntk_jacobian
    if measure.takes_jacobian(*jacobian.shape):
        exact = guarded(lambda: curvature.dense(finite(jacobian.dense())))
        if exact is not None:
            return {"condition": exact.condition, "rank": exact.rank}
    if probe.network.deep:
        return unknown
    estimate = guarded(lambda: curvature.lanczos(jacobian, measure.memory, curved=False))
    return unknown if estimate is None else {"condition": estimate.condition, "rank": None}


def _curvature_columns(found: Curvature) -> Row:
    return {
        "hessian_condition": found.condition,
        "hessian_lambda_max": found.highest,
        "hessian_lambda_min": found.lowest,
        "hessian_trace": found.trace,
        "hessian_rank": found.rank,
        "hessian_effective_rank": found.effective_rank,
        "measure_method": found.method,
    }


def _seen(probe: Probe, plain: Curvature, scaled: Callable[[Tensor], float | None]) -> float | None:
    """Condition number as the optimizer sees it.

    Args:
        probe: of the run.
        plain: the Hessian without preconditioner.
        scaled: the condition number of D^-1/2 H D^-1/2 for a diagonal D.
    """
    optimizer = probe.run.optimizer
    if optimizer.adaptive:
        return None if probe.preconditioner is None else scaled(probe.preconditioner)
    if not optimizer.stationary:
        return None
    if probe.lr is None or not plain.highest > 0:
        return plain.condition
    rates = optimizer.rates(probe.lr * plain.values)
    if rates is None or math.isnan(plain.lowest):
        return plain.condition
    if plain.rank is None:
        # between the two ends that Lanczos knows, rates may be larger
        low, high = plain.values.log10().tolist()
        between = torch.logspace(low, high, RATES_BETWEEN, dtype=torch.float64)
        inside = optimizer.rates(probe.lr * between)
        if inside is None or float(inside.max()) > 1.001 * float(rates.max()):
            return None
    return float(rates.max() / rates.min()) if float(rates.min()) > 0 else math.inf


def _dense_columns(probe: Probe, measure: Measure, factor: Tensor) -> Row:
    """From the whole factor F of the Hessian Fᵀ F, [rows, parameters]."""
    # rates may be largest in the middle of the spectrum
    by_rates = probe.run.optimizer.rates(torch.ones(1, dtype=torch.float64)) is not None
    found = curvature.dense(factor, every=by_rates)
    row = _curvature_columns(found)
    row["preconditioned_condition"] = guarded(
        lambda: _seen(probe, found, lambda d: curvature.dense(scaled_columns(factor, d)).condition)
    )
    if measure.full:
        scaled = guarded(lambda: curvature.dense(scaled_columns(factor, jacobi(factor))))
        row["jacobi_condition"] = None if scaled is None else scaled.condition
    return row


def _least_squares_columns(probe: Probe, measure: Measure) -> Row:
    """From the spectrum of the matrix that the last layer sees."""
    if probe.features is None:
        return {}
    run, outputs = probe.run, probe.network.problem.outputs
    scale = 2.0 / (run.n_train * outputs)
    found = from_singular_values(probe.features, scale, outputs, "exact")
    penalty = run.optimizer.shrinkage
    if penalty:
        found = _penalised(found, scale * penalty, outputs, run.columns)
    row = _curvature_columns(found)
    if not probe.network.linear:  # a closed form on batch statistics: it sees no preconditioner
        return row
    work = outputs * run.n_train * run.columns * min(run.n_train, run.columns)

    def scaled(diagonal: Tensor) -> float | None:
        if not measure.full and work > CHEAP_WORK:
            return None
        of_readout = probe.network.named(diagonal[None]).named["readout"][0]
        return _preconditioned(probe.network.exact_train.inputs[0], of_readout, measure.memory)

    row["preconditioned_condition"] = guarded(lambda: _seen(probe, found, scaled))
    if measure.full:
        factor = probe.network.exact_train.inputs[0]
        if penalty:
            identity = torch.eye(run.columns, dtype=factor.dtype, device=factor.device)
            factor = torch.cat([factor, penalty**0.5 * identity])
        scaled_design = scaled_columns(factor, jacobi(factor))
        row["jacobi_condition"] = guarded(lambda: extremes(scaled_design).condition ** 2)
    return row


def _penalised(found: Curvature, penalty: float, outputs: int, columns: int) -> Curvature:
    """Add penalty · I; directions that the features do not see have eigenvalue ``penalty``."""
    values = found.values + penalty
    if found.values.numel() < columns:
        values = torch.cat([values, values.new_tensor([penalty])])
    size = outputs * columns
    return Curvature(float(values.max()), float(values.min()), found.trace + size * penalty, size, found.method, values)


def _preconditioned(design: Tensor, diagonal: Tensor, memory: int) -> float:
    """Condition number of D^-1/2 H D^-1/2 for least squares, H = I_outputs (x) ZᵀZ up to a factor.

    Args:
        design: Z, [rows, columns].
        diagonal: D > 0, [outputs, columns].
        memory: bytes for a batch of scaled copies; a GPU takes as many outputs in one call.

    Returns:
        Largest over smallest kept eigenvalue of all outputs' blocks.
    """
    if design.device.type == "cpu":
        found = [extremes(scaled_columns(design, d)).values for d in diagonal]
    else:
        at_once = max(int(memory // (COPIES * 8 * design.numel())), 1)
        found = [singular_values(scaled_columns(design, part[:, None])) for part in diagonal.split(at_once)]
    return kept(torch.cat([values.flatten() for values in found]), tuple(design.shape)).condition ** 2
