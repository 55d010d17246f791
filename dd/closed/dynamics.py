"""Exact dynamics: linear networks with squared loss at any step of a full-batch method, from one decomposition.

With Z = U diag(s) Vᵀ and the mean squared error over n samples and C outputs, the Hessian of the loss has the
eigenvalue c_j = 2 s_j²/(n C) along column j of V, the same for every output. From read-out coordinates a_j(0) a linear
method with residual polynomial P_T (``dd.components.polynomials``) and weight decay wd is after T steps at

    a_j(T) = P_T(c_j + wd) a_j(0) + (1 - P_T(c_j + wd)) a*_j,    a*_j = (2/(n C)) s_j (UᵀY)_j / (c_j + wd),

and the part of the start that the features do not see is multiplied by P_T(wd). Losses are summed over eigendirections,
where they keep their relative accuracy down to the smallest numbers; computed from weights they would end at 1e-30.

Every product has a shape that depends on the design matrix alone, so that no bit depends on which steps or runs are
asked for together.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Hashable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from dd.closed.scheduled import Product
from dd.components.polynomials import Modes, Response
from dd.measure.factors import Factors
from dd.measure.smoother import effective_parameters, mode_power
from dd.measure.solution import CurvePoint, Measured, Solution
from dd.network import Network, Samples
from dd.runs.logs import GRID, log_steps
from dd.runs.run import Run

TILE = 16
"""Steps that are evaluated in one product."""

OUTPUT_ELEMENTS = 1 << 23
"""Numbers of a tile's test outputs at most; wider problems take samples in blocks."""

LIMIT = torch.finfo(torch.float64).max ** 0.9
"""A squared parameter norm beyond this is divergence, as in ``dd.trainers.course``."""

TRAINER = "exact"
"""Name of the trainer that solves so."""


class Eigenbasis:
    """A linear network's problem in the singular directions of its design matrix; shared by all runs on it.

    Args:
        network: any run's.
        factors: decomposition of its design matrix.
    """

    def __init__(self, network: Network, factors: Factors) -> None:
        kept = factors.kept()
        self.u, self.s, self.vh = kept.u, kept.s, kept.vh
        self.train = network.exact_train
        self.test = network.exact_test
        self.scale = 2.0 / self.train.targets.numel()
        self.curvature = self.scale * self.s.square()
        self.projected = self.u.T @ self.train.targets
        beyond = self.train.targets - self.u @ self.projected
        # with as many directions as samples nothing is out of reach, and the difference is rounding
        out_of_reach = len(self.s) < len(self.train.targets)
        self.unreachable = float(beyond.square().sum()) if out_of_reach else 0.0
        self.test_design = self.test.inputs[0]
        self.test_modes = self.test_design @ self.vh.T
        self.test_power = mode_power(self.test_modes)


class _Start:
    """Initial read-outs in an eigenbasis.

    Args:
        basis: of the design matrix.
        readout: [outputs, columns].
    """

    def __init__(self, basis: Eigenbasis, readout: Tensor) -> None:
        self.readout = readout
        self.modes = basis.vh @ readout.T
        # as many directions as columns see everything, and the difference is rounding
        sees_all = basis.vh.shape[0] == basis.vh.shape[1]
        self.unseen = torch.zeros_like(readout) if sees_all else readout - self.modes.T @ basis.vh
        self.unseen_norm = float(self.unseen.norm())
        self.unseen_test = basis.test_design @ self.unseen.T


class Trajectory:
    """One start and one optimizer, at any numbers of steps.

    Args:
        basis: of the design matrix.
        start: initial read-out.
        run: axes of any run on this trajectory, whatever its budget; under a schedule the one run.
        lr: absolute step size; None without one.
    """

    def __init__(self, basis: Eigenbasis, start: _Start, run: Run, lr: float | None) -> None:
        self.basis, self.start, self.run, self.lr = basis, start, run, lr
        self.optimizer, decay = run.optimizer, run.optimizer.weight_decay
        total = basis.curvature + decay
        self.inverse = basis.scale * basis.s / total  # what stands for 1/s at the minimum
        self.minimum = self.inverse[:, None] * basis.projected
        self.gap = start.modes - self.minimum
        self.floor = (decay / total)[:, None] * basis.projected  # training residual at the minimum
        seen = total.tolist()
        self.modes = Modes(
            torch.cat([total, total.new_tensor([decay])]),
            torch.cat([self.gap.norm(dim=1), total.new_tensor([start.unseen_norm])]),
            min(seen, default=0.0),
            max(seen, default=0.0),
        )
        self._product = None if run.schedule.flat or lr is None else Product(run, lr * self.modes.curvature)
        self._known: dict[int, tuple[Tensor, Tensor]] = {}
        self._tiles: dict[int, list[Measured]] = {}
        self._single: dict[int, Measured] = {}

    def response(self, steps: Sequence[int]) -> Response:
        """P_T and 1 - P_T of all directions, the unseen ones last."""
        if self._product is not None:
            return self._product.response(steps)
        if not self.optimizer.sequential:
            return self.optimizer.response(self.lr, self.modes, steps)
        # after as many steps as directions nothing moves any more
        wanted = [min(step, len(self.modes.curvature)) for step in steps]
        if missing := set(wanted) - self._known.keys():
            asked = sorted(missing.union(GRID[: bisect_right(GRID, max(missing))]))
            got = self.optimizer.response(self.lr, self.modes, asked)
            self._known |= {t: (got.residual[i], got.filter[i]) for i, t in enumerate(asked)}
        rows = [self._known[step] for step in wanted]
        return Response(torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows]))

    def at(self, step: int) -> Measured:
        """Losses, errors and norms after some number of steps."""
        position = bisect_right(GRID, step) - 1
        if GRID[position] == step:
            tile = position // TILE
            if tile not in self._tiles:
                self._tiles[tile] = self._measure(GRID[tile * TILE : (tile + 1) * TILE])
            return self._tiles[tile][position % TILE]
        if step not in self._single:
            self._single[step] = self._measure([step])[0]
        return self._single[step]

    def state(self, step: int) -> tuple[Tensor, Tensor]:
        """Read-out after some number of steps, [outputs, columns], and what stands for 1/s in it, [modes]."""
        got = self.response([step])
        modes = got.residual[0, :-1, None] * self.start.modes + got.filter[0, :-1, None] * self.minimum
        readout = modes.T @ self.basis.vh + got.residual[0, -1] * self.start.unseen
        return readout, got.filter[0, :-1] * self.inverse

    def train_loss(self, step: int) -> float:
        """Mean squared error on the training set after some number of steps."""
        return self._train_losses(self.response([step]))[0][0]

    def _train_losses(self, got: Response) -> tuple[list[float], Tensor]:
        """Training losses, and residuals along the training directions, [steps, modes, outputs]."""
        basis = self.basis
        residual = got.residual[:, :-1, None] * (basis.s[:, None] * self.gap) - self.floor
        squares = residual.square().sum(dim=(1, 2)) + basis.unreachable
        return (squares * (basis.scale / 2)).tolist(), residual

    def _measure(self, steps: Sequence[int]) -> list[Measured]:
        """Losses, errors and norms after each of some numbers of steps."""
        basis, start = self.basis, self.start
        got = self.response(steps)
        modes = got.residual[:, :-1, None] * start.modes + got.filter[:, :-1, None] * self.minimum
        unseen = got.residual[:, -1]
        squares = modes.square().sum(dim=(1, 2)) + (unseen * start.unseen_norm).square()
        finite = torch.isfinite(squares)
        train_losses, residual = self._train_losses(got)
        gradients = (basis.scale * basis.s[:, None] * residual).square().sum(dim=(1, 2)).sqrt().tolist()
        modes = torch.where(finite[:, None, None], modes, 0.0)
        unseen = torch.where(finite, unseen, 0.0)
        test = _compare(basis.test_modes, modes, basis.test, start.unseen_test, unseen)
        fitted = _compare(basis.u, basis.s[:, None] * modes, basis.train)
        found = []
        for i, (step, norm) in enumerate(zip(steps, squares.tolist(), strict=True)):
            point = CurvePoint(step, train_losses[i], test[0][i], fitted[1][i], test[1][i], len(basis.u))
            sound = norm <= LIMIT and math.isfinite(point.train_loss) and math.isfinite(point.test_loss)
            found.append(Measured(point, math.sqrt(norm) if sound else math.nan, gradients[i]))
        return found


def _compare(
    design: Tensor, modes: Tensor, samples: Samples, unseen: Tensor | None = None, share: Tensor | None = None
) -> tuple[list[float], list[float | None]]:
    """Mean squared errors and 0-1 errors at some steps.

    Args:
        design: samples in the eigenbasis, [samples, modes].
        modes: coordinates, [steps, modes, outputs].
        samples: targets and classes.
        unseen: outputs of the part outside the basis at the start, [samples, outputs].
        share: how much of it is left, [steps].
    """
    steps, _, outputs = modes.shape
    columns = modes.permute(1, 2, 0).reshape(design.shape[1], outputs * steps)
    squares = torch.zeros(steps, dtype=torch.float64, device=design.device)
    wrong = torch.zeros(steps, dtype=torch.float64, device=design.device)
    block = max(OUTPUT_ELEMENTS // (outputs * TILE), 1)
    for first in range(0, len(design), block):
        part = slice(first, first + block)
        predicted = (design[part] @ columns).view(-1, outputs, steps)
        if unseen is not None and share is not None:
            predicted += unseen[part, :, None] * share
        squares += (predicted - samples.targets[part, :, None]).square().sum(dim=(0, 1))
        if samples.classes is not None:
            wrong += (predicted.max(dim=1).indices != samples.classes[part, None]).sum(dim=0)
    losses: list[float] = (squares / samples.targets.numel()).tolist()
    errors: list[float | None] = (wrong / len(samples.targets)).tolist()
    return losses, errors if samples.classes is not None else [None] * steps


class Group:
    """Runs on one design matrix.

    Args:
        network: any run's.
        factors: decomposition of the design matrix.
    """

    def __init__(self, network: Network, factors: Factors) -> None:
        self._network, self._factors = network, factors
        self._starts: dict[Hashable, _Start] = {}
        self._trajectories: dict[Hashable, Trajectory] = {}

    @cached_property
    def basis(self) -> Eigenbasis:
        """The problem in its singular directions."""
        return Eigenbasis(self._network, self._factors)

    def solve(self, network: Network, lr: float | None) -> Solution:
        """Solve one run; what other runs on the same trajectory have computed is used."""
        run = network.run
        assert run.steps is not None
        readout = network.named(network.theta.double()).named["readout"][0]
        start = self._starts.get(run.start_key)
        if start is None:
            start = self._starts[run.start_key] = _Start(self.basis, readout)
        if not run.schedule.flat:  # its products serve nobody else
            return _follow(Trajectory(self.basis, start, run, lr), run)
        key = run.but("steps", "stop_loss")
        trajectory = self._trajectories.get(key)
        if trajectory is None:
            trajectory = self._trajectories[key] = Trajectory(self.basis, start, run, lr)
        return _follow(trajectory, run)


def _follow(trajectory: Trajectory, run: Run) -> Solution:
    """The curve of a run and where it ends: at its budget, at ``stop_loss``, or at its last finite logged step."""
    assert run.steps is not None
    last = run.steps
    if run.stop_loss is not None:
        last = _first_below(trajectory, run.stop_loss, last)
    curve: list[CurvePoint] = []
    end: Measured | None = None
    status = "ok"
    for step in sorted(log_steps(last)):
        here = trajectory.at(step)
        if math.isnan(here.weight_norm):
            status = "diverged"
            break
        curve.append(here.point)
        end = here
    if end is None:
        return Solution(trajectory.start.readout.flatten(), {}, TRAINER, status, 0, curve=curve)
    at = end.point.step
    readout, gain = trajectory.state(at)
    solution = Solution(readout.flatten(), {}, TRAINER, status, at, curve=curve, measured=end)
    if trajectory.optimizer.smooths and run.stop_loss is None:  # where stop_loss ends a run depends on the targets
        basis = trajectory.basis
        solution.effective_parameters = effective_parameters(gain, basis.s, basis.test_power, len(basis.u))
    return solution


def _first_below(trajectory: Trajectory, stop_loss: float, steps: int) -> int:
    """The first step at which the loss is at or below ``stop_loss``; the last step if none is.

    Without momentum and weight decay the loss is a sum of exponentials in the number of steps, and therefore convex: it
    falls, and if the step size is too large rises again.
    """
    loss = trajectory.train_loss
    falls = bool((trajectory.response([1]).residual.abs() <= 1).all())
    low, lowest = steps if falls else 0, steps
    while low < lowest:
        middle = (low + lowest) // 2
        if loss(middle + 1) < loss(middle):
            low = middle + 1
        else:
            lowest = middle
    if not loss(lowest) <= stop_loss:
        return steps
    low, high = -1, lowest
    while high - low > 1:
        middle = (low + high) // 2
        if loss(middle) <= stop_loss:
            high = middle
        else:
            low = middle
    return high
