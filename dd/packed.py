"""The packed trainer by itself: an ensemble of nets of any widths, step sizes and optimizers on one's own tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dd.api import compose_jobs
from dd.config import RunConfig
from dd.data._problem import Problem
from dd.errors import ConfigError
from dd.network import Network
from dd.pack import ON_CPU, ON_GPU, plan
from dd.solve import Context, Job, device_of, prepare, reproducible, run_axes, train_jobs
from dd.solvers._solution import CurvePoint, Solution


@dataclass(frozen=True)
class Trained:
    """One trained run.

    Attributes:
        run: its resolved axes.
        status: ``ok`` or ``diverged`` (then everything is from the last finite state).
        steps_done: updates taken; None for a closed form.
        curve: losses and errors at log-spaced steps.
    """

    run: RunConfig
    status: str
    steps_done: int | None
    curve: list[CurvePoint]
    _network: Network
    _solution: Solution

    @property
    def axes(self) -> dict[str, Any]:
        """Every axis by its column's name."""
        return run_axes(self.run)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Trained tensors as torch's linear layers hold them: ``hidden``, ``readout`` [out, in], ``*_bias`` [out]."""
        out = {}
        for name, view in self._network.named(self._solution.theta[None]).named.items():
            value = view[0].clone()
            if name in ("hidden", "readout") and self._network.bias:
                out[name], out[f"{name}_bias"] = value[:, :-1], value[:, -1]
            else:
                out[name] = value
        return out

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs for inputs [samples, inputs]: [samples, outputs]."""
        network = self._network
        theta = network.named(self._solution.theta[None])
        buffers = {k: v[None] for k, v in self._solution.buffers.items()}
        inputs = network.inputs_of(x).to(theta.flat.dtype)
        return network.outputs(theta, inputs, buffers)[0]


def train(
    x: Any,
    y: Any,
    *overrides: str,
    test: tuple[Any, Any] | None = None,
) -> list[Trained]:
    """Train an ensemble as one packed program, on one process; nothing is written.

    Args:
        x: inputs, [samples, inputs], tensor or array.
        y: integer classes [samples], or real targets [samples] or [samples, outputs].
        overrides: what follows ``python -m dd.run -m``, without ``data``: ``"model=two_layer"``, ``"width=8,64,512"``,
            ``"optimizer=sgd,adam"``, ``"lr=0.01,0.1"``, ``"epochs=50"``; every combination is one run.
        test: inputs and targets of the test curve; the training samples where None.

    Returns:
        One result a distinct run, in the order of the command line.

    Raises:
        ConfigError: bad input, before anything is trained.
        RuntimeError: a run failed.
    """
    problem = _problem(x, y, test)
    own = (
        "data=tensors", f"data.dim={problem.inputs}", f"data.n_train={len(problem.train_x)}",
        f"data.n_test={len(problem.test_x)}", "data.standardize=none",
    )  # fmt: skip
    for override in overrides:
        if override.split("=")[0].lstrip("+~").split(".")[0] == "data":
            raise ConfigError(override.split("=")[0], override.partition("=")[2], "dd.train has its data from x and y")
    runs, settings = compose_jobs([*own, *overrides])
    distinct = list({run.run_id: run for run in runs}.values())
    for run in distinct:
        if run.loss == "cross_entropy" and not problem.classification:
            raise ConfigError("loss", run.loss, "y has real targets; give integer classes, or use loss=mse")
    device = device_of(settings)
    solved: dict[str, Trained] = {}
    with reproducible(device):
        for pack in plan(distinct, ON_CPU if device.type == "cpu" else ON_GPU):
            context = Context(settings, pack.runs, problem)
            jobs = [prepare(run, context) for run in pack.runs]
            train_jobs(jobs, context)
            for error in context.errors.values():
                raise RuntimeError(f"a run failed: {error}") from error
            solved |= {job.run.run_id: _trained(job) for job in jobs}
    return [solved[run.run_id] for run in distinct]


def _trained(job: Job) -> Trained:
    assert job.solution is not None
    solution = job.solution
    return Trained(job.run, solution.status, solution.steps_done, solution.curve, job.network, solution)


def _problem(x: Any, y: Any, test: tuple[Any, Any] | None) -> Problem:
    """Check the caller's samples."""
    sides: list[tuple[Tensor, Tensor]] = []
    given = [(x, y)] if test is None else [(x, y), tuple(test)]
    classes = 0
    for a, b in given:
        a, b = torch.as_tensor(a).detach().cpu(), torch.as_tensor(b).detach().cpu()
        if a.ndim != 2 or len(a) == 0 or len(a) != len(b):
            raise ConfigError("x", list(a.shape), f"must be [samples, inputs] with as many samples as y ({len(b)})")
        if not torch.isfinite(a.double()).all() or not torch.isfinite(b.double()).all():
            raise ConfigError("x", "nan or inf", "x and y must be finite")
        if sides and b.is_floating_point() != sides[0][1].is_floating_point():
            raise ConfigError("test", str(b.dtype), "test targets must be of the same kind as y")
        if not b.is_floating_point():
            if b.ndim != 1 or int(b.min()) < 0:
                raise ConfigError("y", list(b.shape), "integer y must be classes from 0, [samples]")
            classes = max(classes, int(b.max()) + 1)
        sides.append((a.double(), b))
    if classes:
        sides = [(a, torch.nn.functional.one_hot(b.long(), classes).double()) for a, b in sides]
    else:
        sides = [(a, b.double().reshape(len(b), -1)) for a, b in sides]
    (train_x, train_y), (test_x, test_y) = sides[0], sides[-1]
    if train_x.shape[1] != test_x.shape[1] or train_y.shape[1] != test_y.shape[1]:
        raise ConfigError("test", list(test_x.shape), "must have as many inputs and outputs as x and y")
    digest = _digest([train_x, train_y])
    return Problem(train_x, train_y, test_x, test_y, classes > 0, "tensors", digest)


def _digest(tensors: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    return digest.hexdigest()
