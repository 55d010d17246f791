"""Training by itself: nets of any widths, step sizes and optimizers on one's own tensors; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from dd.cli.compose import compose_jobs
from dd.components.dataset import Pool, Samples
from dd.data.tensors import Tensors
from dd.errors import ConfigError
from dd.measure.solution import CurvePoint, Solution
from dd.network import Network
from dd.numerics import neutral, reproducible
from dd.packs.measuring import complete, end_point
from dd.packs.place import Place, check_device, device_of, limits_of
from dd.packs.plan import plan
from dd.packs.prepare import Job, prepare
from dd.packs.rows import Row, run_axes
from dd.packs.schedule import train_jobs
from dd.packs.shared import Shared
from dd.problems.problem import Problem
from dd.runs.run import Run
from dd.samples.arrays import as_inputs, channels_last, is_torch_dataset, of_dataset, samples_of
from dd.trainers.table import trainer_for

WITHOUT_MEANING = ("plan_only", "shard", "n_jobs", "name", "force", "results_dir", "measure")


@dataclass(frozen=True, repr=False, eq=False)
class Trained:
    """One trained run.

    Attributes:
        run: its resolved axes.
        classes: names of the classes, in the order of the outputs; empty for real targets.
        status: ``ok`` or ``diverged`` (then everything is from the last finite state).
        steps_done: updates taken; None for a closed form.
        curve: losses and errors at log-spaced steps; of a closed form one point, at step 0.
    """

    run: Run
    classes: tuple[str, ...]
    status: str
    steps_done: int | None
    curve: list[CurvePoint]
    _network: Network
    _solution: Solution

    def __repr__(self) -> str:
        run, last = self.run, self.curve[-1]
        axes = {key: run.values[key] for key in ("model", "width", "optimizer", "lr", "seed")}
        told = [f"{key}={value}" for key, value in axes.items() if value is not None]
        told += [f"status={self.status}", f"train_loss={last.train_loss:.4g}", f"test_loss={last.test_loss:.4g}"]
        return f"Trained({', '.join(told)})"

    @property
    def axes(self) -> Row:
        """Every axis by its column's name."""
        return run_axes(self.run)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Trained tensors as torch has them, ``hidden`` and ``readout`` [out, in], ``*_bias`` [out]."""
        return self._network.as_layers(self._solution.theta)

    def __call__(self, x: object) -> Tensor:
        """Outputs for inputs [samples, inputs], or images [samples, channels, height, width]: [samples, outputs].

        Raises:
            ConfigError: inputs of another kind or shape than the net was trained on.
        """
        network = self._network
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.layout is not torch.strided:
            array, scale = as_inputs("x", x)
            x = _natural(array, scale)
        elif x.ndim in (3, 4):
            x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2) if channels_last(x.shape) else x
        data = self.run.data
        assert isinstance(data, Tensors)
        if x.ndim == 4 and image_of(x.shape) != data.image_shape:
            raise ConfigError("x", image_of(x.shape), f"the net was trained on images of {data.image_shape}")
        if x.ndim not in (2, 4) or x[:1].numel() != data.dim:
            raise ConfigError("x", "x".join(map(str, x.shape)), f"must be [samples, inputs] with {data.dim} inputs")
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
    x: object,
    y: object = None,
    *overrides: str,
    test: object = None,
) -> list[Trained]:
    """Train nets together, on one process; nothing is written.

    Args:
        x: inputs, [samples, inputs], or images [samples, channels, height, width]; a tensor, array, frame or list of
            numbers (:func:`dd.samples.arrays.as_inputs`). Or a torch data set, and no y.
        y: classes [samples], text, integers or booleans; or real targets [samples] or [samples, outputs].
        overrides: what follows ``python -m dd.run -m``, without ``data``: ``"model=two_layer"``, ``"width=8,64,512"``,
            ``"optimizer=sgd,adam"``, ``"lr=0.01,0.1"``, ``"epochs=50"``; every combination is one run.
        test: inputs and targets of the test curve, or a torch data set; the training samples where None.

    Returns:
        One result a distinct run, in the order of the command line.

    Raises:
        ConfigError: bad input, before anything is trained.
        RuntimeError: a run failed.
    """
    if is_torch_dataset(x):
        if y is not None and not isinstance(y, str):
            raise ConfigError("y", type(y).__name__, "x is a torch data set, which holds its targets: leave y out")
        overrides, y = overrides if y is None else (y, *overrides), None
    for override in overrides:
        key = str(override).split("=")[0].lstrip("+~")
        if not isinstance(override, str) or key.split(".")[0] in WITHOUT_MEANING:
            value = str(override).partition("=")[2]
            raise ConfigError(key, value, "has no meaning for dd.train, which measures and writes nothing")
        if key.split(".")[0] == "data":
            raise ConfigError(key, override.partition("=")[2], "dd.train has its data from x and y")
    problem, image, classes = _problem(x, y, test)
    own = (
        "data=tensors", f"data.dim={problem.inputs}", f"data.image={image}", f"data.n_train={len(problem.train_x)}",
        f"data.n_test={len(problem.test_x)}", "data.standardize=none",
    )  # fmt: skip
    runs, settings = compose_jobs([*own, *overrides])
    distinct = list({run.run_id: run for run in runs}.values())
    for run in distinct:
        own_data = isinstance(run.data, Tensors) and run.targets == "given"
        if run.label_noise or run.data_seed or run.test_seed or not own_data:
            raise ConfigError(
                "data", run.data.name, "dd.train has its data from x and y: leave data.* out, presets' too"
            )
        if run.n_validation:
            raise ConfigError("validation", run.validation, "dd.train holds nothing out; dd.sweep(data=(x, y)) does")
        if run.loss == "cross_entropy" and not problem.classification:
            raise ConfigError("loss", run.loss, "y has real targets; give integer classes, or use loss=mse")
    check_device(settings)
    place = Place(limits_of(settings), None, device_of(settings), settings.trainer)
    for run in distinct:
        trainer_for(run, place.device, place.trainer)
    solved: dict[str, Trained] = {}
    with reproducible(place.device):
        for pack in plan(distinct, place):
            shared = Shared(settings, pack.runs, problem)
            try:
                jobs = [prepare(run, shared) for run in pack.runs]
            except ValueError as error:
                raise RuntimeError(f"a run failed: {error}") from error
            for job in train_jobs(jobs):
                solved[job.run.run_id] = _trained(job, classes)
    return [solved[run.run_id] for run in distinct]


def image_of(shape: Sequence[int]) -> str:
    """Shape of images as the option ``data.image`` has it."""
    return "x".join(map(str, shape[1:])) if len(shape) == 4 else "none"


def _natural(x: Samples, scale: float) -> Tensor:
    """Inputs in their natural range, float64."""
    found = torch.from_numpy(x).double()
    return found if scale == 1 else found * scale


def _trained(job: Job, classes: tuple[str, ...]) -> Trained:
    """What a job has come to.

    Raises:
        RuntimeError: it has failed.
    """
    solution = job.result
    if not isinstance(solution, Solution):
        raise RuntimeError(f"a run failed: {solution}") from solution
    if not solution.curve:
        solution.curve.append(end_point(job.network, solution))
    elif solution.curve[-1].curve_samples < job.run.n_train:
        complete(job.run, solution, end_point(job.network, solution))
    return Trained(job.run, classes, solution.status, solution.steps_done, solution.curve, job.network, solution)


def _problem(x: object, y: object, test: object) -> tuple[Problem, str, tuple[str, ...]]:
    """Check the caller's samples.

    Returns:
        The samples, the shape of images as the option ``data.image`` has it, and the names of classes.
    """
    if is_torch_dataset(x):
        x, y = of_dataset("x", x)
    if is_torch_dataset(test):
        test = of_dataset("test", test)
    if test is not None and (not isinstance(test, tuple | list) or len(test) != 2):
        raise ConfigError("test", type(test).__name__, "must be a pair, inputs and targets, or a torch data set")
    held = samples_of(x, y, *(test or ()), keys=("x", "y", "test", "test"))
    train_x, test_x = (None if a is None else _natural(a, held.scale) for a in held.flat)
    train_y, test_y = (None if a is None else torch.from_numpy(a) for a in (held.y, held.test_y))
    assert train_x is not None
    assert train_y is not None
    if test_x is None or test_y is None:
        test_x, test_y = train_x, train_y
    if held.classification:
        train_y, test_y = (torch.nn.functional.one_hot(labels, held.outputs).double() for labels in (train_y, test_y))
    pool = Pool(train_x.numpy(), train_y.numpy(), test_x.numpy(), test_y.numpy(), source="tensors")
    problem = Problem(train_x, train_y, test_x, test_y, held.classification, pool.source, pool.sha256)
    return problem, image_of(held.x.shape), held.names
