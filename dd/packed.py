"""The packed trainer by itself: an ensemble of nets of any widths, step sizes and optimizers on one's own tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
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
from dd.numerics import neutral, reproducible
from dd.pack import plan
from dd.solve import Context, Job, check_device, device_of, limits_of, prepare, run_axes, train_jobs
from dd.solvers._solution import CurvePoint, Solution

WITHOUT_MEANING = ("plan_only", "n_jobs", "name", "force", "results_dir", "measure")


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
        """Outputs for inputs [samples, inputs], or images [samples, channels, height, width]: [samples, outputs]."""
        network = self._network
        image = self.run.group_options("data").get("image", "none")
        if x.ndim == 4 and _image(x) != image:
            raise ConfigError("x", _image(x), f"the net was trained on images of {image}")
        x = x.flatten(1)
        theta = network.named(self._solution.theta[None])
        buffers = {k: v[None] for k, v in self._solution.buffers.items()}
        device = theta.flat.device
        # a GPU's products are shorter than float32 unless told otherwise
        with nullcontext() if device.type == "cpu" else reproducible(device):
            inputs = network.inputs_of(x).to(theta.flat.dtype)
            return network.predict(theta, inputs, buffers)[0]


@neutral()
def train(
    x: Any,
    y: Any,
    *overrides: str,
    test: tuple[Any, Any] | None = None,
) -> list[Trained]:
    """Train an ensemble as one packed program, on one process; nothing is written.

    Args:
        x: inputs, [samples, inputs], or images [samples, channels, height, width]; tensor or array.
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
    for override in overrides:
        key = str(override).split("=")[0].lstrip("+~")
        if not isinstance(override, str) or key.split(".")[0] in WITHOUT_MEANING:
            value = str(override).partition("=")[2]
            raise ConfigError(key, value, "has no meaning for dd.train, which measures and writes nothing")
        if key.split(".")[0] == "data":
            raise ConfigError(key, override.partition("=")[2], "dd.train has its data from x and y")
    problem = _problem(x, y, test)
    own = (
        "data=tensors", f"data.dim={problem.inputs}", f"data.image={_image(x)}", f"data.n_train={len(problem.train_x)}",
        f"data.n_test={len(problem.test_x)}", "data.standardize=none",
    )  # fmt: skip
    runs, settings = compose_jobs([*own, *overrides])
    distinct = list({run.run_id: run for run in runs}.values())
    for run in distinct:
        if run.label_noise or run.data_seed or run.test_seed or run.targets != "given" or run.data != "tensors":
            raise ConfigError("data", run.data, "dd.train has its data from x and y: leave data.* out, presets' too")
        if run.loss == "cross_entropy" and not problem.classification:
            raise ConfigError("loss", run.loss, "y has real targets; give integer classes, or use loss=mse")
    check_device(settings)
    device = device_of(settings)
    solved: dict[str, Trained] = {}
    with reproducible(device):
        for pack in plan(distinct, limits_of(settings)):
            context = Context(settings, pack.runs, problem)
            try:
                jobs = [prepare(run, context) for run in pack.runs]
            except ValueError as error:
                raise RuntimeError(f"a run failed: {error}") from error
            for job in train_jobs(jobs, context):
                if failure := context.errors.get(job.run):
                    raise RuntimeError(f"a run failed: {failure}") from failure
                solved[job.run.run_id] = _trained(job)
    return [solved[run.run_id] for run in distinct]


def _image(x: Any) -> str:
    """Shape of images as the option ``data.image`` has it."""
    return "x".join(map(str, np.shape(x)[1:])) if np.ndim(x) == 4 else "none"


def _trained(job: Job) -> Trained:
    assert job.solution is not None
    solution = job.solution
    return Trained(job.run, solution.status, solution.steps_done, solution.curve, job.network, solution)


def _problem(x: Any, y: Any, test: tuple[Any, Any] | None) -> Problem:
    """Check the caller's samples."""
    sides: list[tuple[Tensor, Tensor]] = []
    given = [("x", x, y)]
    if test is not None:
        if not isinstance(test, tuple | list) or len(test) != 2:
            raise ConfigError("test", type(test).__name__, "must be a pair: inputs and targets")
        given.append(("test", *test))
    classes = 0
    for key, inputs, targets in given:
        try:
            a, b = (torch.as_tensor(value).detach().cpu() for value in (inputs, targets))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(key, type(inputs).__name__, "inputs and targets must be tensors or arrays") from error
        if a.is_complex() or b.is_complex():
            raise ConfigError(key, str(a.dtype), "inputs and targets must be real")
        a = a.flatten(1) if a.ndim == 4 else a
        if a.ndim != 2 or a.numel() == 0 or b.ndim not in (1, 2) or b.numel() == 0 or len(a) != len(b):
            shapes = f"{list(a.shape)} and {list(b.shape)}"
            raise ConfigError(key, shapes, "must be [samples, inputs] (or 4-D images) and [samples(, outputs)]")
        if not torch.isfinite(a.double()).all() or not torch.isfinite(b.double()).all():
            raise ConfigError(key, "nan or inf", "inputs and targets must be finite")
        if sides and b.is_floating_point() != sides[0][1].is_floating_point():
            raise ConfigError("test", str(b.dtype), "test targets must be of the same kind as y")
        if not b.is_floating_point():
            if b.ndim != 1 or int(b.min()) < 0:
                raise ConfigError("y", list(b.shape), "integer y must be classes from 0, [samples]")
            classes = max(classes, int(b.max()) + 1)
            if classes > max(2 * len(b), 1000):
                raise ConfigError("y", classes - 1, "integer y are classes; give real targets as floating point")
        sides.append((a.double(), b))
    if classes:
        sides = [(a, torch.nn.functional.one_hot(b.long(), classes).double()) for a, b in sides]
    else:
        sides = [(a, b.double().reshape(len(b), -1)) for a, b in sides]
    (train_x, train_y), (test_x, test_y) = sides[0], sides[-1]
    if test is not None and "none" not in (_image(test[0]), _image(x)) and _image(test[0]) != _image(x):
        raise ConfigError("test", _image(test[0]), f"must be images of {_image(x)}, as x")
    if train_x.shape[1] != test_x.shape[1] or train_y.shape[1] != test_y.shape[1]:
        raise ConfigError("test", list(test_x.shape), "must have as many inputs and outputs as x and y")
    digest = _digest([train_x, train_y])
    return Problem(train_x, train_y, test_x, test_y, classes > 0, "tensors", digest)


def _digest(tensors: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    return digest.hexdigest()
