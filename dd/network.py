"""A stack of runs that share one architecture: model family, normalisation, read-out and loss put together.

All trained tensors of a run lie in one row of ``theta``, [runs, parameters], so that an update rule acts once on
everything; named views of it have the shapes that the family asks for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dd import losses
from dd.components.divisors import Divisors
from dd.components.model import Tensors, with_ones
from dd.components.module import CompiledNetwork, ModuleModel
from dd.problems.problem import Problem
from dd.runs.run import Run


@dataclass(frozen=True)
class Parameters:
    """Trained parameters of a stack.

    Attributes:
        flat: [runs, parameters].
        named: views of ``flat`` by name, each [runs, rows, columns].
    """

    flat: Tensor
    named: Tensors


@dataclass(frozen=True)
class Samples:
    """One part of the data as a stack sees it.

    Attributes:
        inputs: [runs or 1, samples, columns]: the design matrix of a linear stack, else features or prepared inputs.
        targets: [samples, outputs].
        classes: target classes, [samples], or None for real targets.
    """

    inputs: Tensor
    targets: Tensor
    classes: Tensor | None

    def first(self, count: int | None) -> Samples:
        """The first so many of them; None: all."""
        if count is None:
            return self
        classes = None if self.classes is None else self.classes[..., :count]
        return Samples(self.inputs[..., :count, :], self.targets[..., :count, :], classes)

    def to(self, dtype: torch.dtype) -> Samples:
        """Round to another precision."""
        return Samples(self.inputs.to(dtype), self.targets.to(dtype), self.classes)


SIDES = ("train", "test", "validation")
"""Parts of the data; the last where samples are held out."""


@dataclass(frozen=True)
class Inputs:
    """What a family makes of the data before training, computed once for all runs that share it.

    Attributes:
        train: frozen features of a run at least as wide, or prepared inputs; [1, samples, columns], float64.
        test: the same of the test samples.
        validation: the same of the samples held out, if there are some.
    """

    train: Tensor
    test: Tensor
    validation: Tensor | None = None


def common_inputs(run: Run, problem: Problem, device: torch.device) -> Inputs:
    """Inputs of ``run`` and of all runs of its :attr:`Run.inputs_key` that are not wider."""
    every = (problem.train_x, problem.test_x, problem.validation_x)
    return Inputs(*(_prepared(run, x.to(device)) for x in every if x is not None))


def _prepared(run: Run, x: Tensor) -> Tensor:
    """What enters training for inputs [samples, inputs]: frozen features or prepared inputs, [1, samples, columns]."""
    prepared = run.model.prepare(run, x)
    if not run.model.frozen_features:
        return prepared
    frozen = {k: torch.from_numpy(v).to(x.device) for k, v in run.model.draw_frozen(run, x.shape[1]).items()}
    return run.model.features(run, frozen, {}, prepared)


PIECE = 512
"""Samples of a deep network's forward pass at a time, where nothing ties them together."""


def weight_dtype(run: Run) -> torch.dtype:
    """Precision in which weights are kept: ``bfloat16`` is that of products alone (autocast)."""
    dtype: torch.dtype = getattr(torch, "float32" if run.dtype == "bfloat16" else run.dtype)
    return dtype


class Network:
    """Forward and backward pass of a stack.

    Args:
        runs: runs of one architecture and width that share their seed; initialization may differ.
        problem: their data.
        device: where to compute.
        dtype: precision of training.
        inputs: of :func:`common_inputs`, for these runs or for wider ones; computed where None.

    Attributes:
        theta: trained parameters, [runs, parameters].
        buffers: the normalisation's memory, each [runs, 1, features].
        sides: names of the parts of the data that it has, of :data:`SIDES`.
        linear: whether outputs are linear in ``theta`` with a fixed design matrix.
        batch_dependent: whether training uses the statistics of each batch.
        drawing: whether layers draw random numbers in training passes, as dropout does: in a trainer's steps alone.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        problem: Problem,
        device: torch.device,
        dtype: torch.dtype,
        inputs: Inputs | None = None,
    ) -> None:
        self.run = runs[0]
        self.runs = tuple(runs)
        self.model, self.normalization = self.run.model, self.run.normalization
        self.deep = self.model if isinstance(self.model, ModuleModel) else None
        self.bias = self.model.has_bias
        self.problem = problem
        self.dtype = dtype
        if len({run.seed for run in runs}) > 1:
            raise ValueError("runs of one stack share their seed")
        trained = self.model.init(runs, problem.inputs, problem.outputs)
        common = common_inputs(self.run, problem, device) if inputs is None else inputs
        self._common = {side: x for side in SIDES if (x := getattr(common, side)) is not None}
        self.sides = tuple(self._common)
        if self.model.frozen_features:
            count = self.model.feature_count(self.run)
            self._common = {side: x[..., :count] for side, x in self._common.items()}
        initial = {k: v.to(device) for k, v in trained.items()}
        self._fixed_buffers: Tensors = {}
        if self.deep:
            for precision in (dtype, torch.float64):
                self.deep.build(self.run, device, precision)
            self._fixed_buffers = {k: v.to(device) for k, v in self.deep.buffers(self.run).items()}
        elif self.normalization.fitted:
            features = self._common["train"].contiguous()
            if not self.model.frozen_features:
                features = self.model.features(self.run, {}, initial, features)
            self._fixed_buffers = self.normalization.fit(features)
            initial |= self.normalization.trained(len(runs), features)
        self.shapes = {k: tuple(v.shape[1:]) for k, v in initial.items()}
        self.linear, self.batch_dependent = self.run.linear, self.model.batch_dependent(self.run)
        self.theta = torch.cat([v.flatten(1) for v in initial.values()], dim=1).to(dtype)
        self.buffers: Tensors = {
            k: v.to(dtype).expand(len(runs), -1, -1).clone() for k, v in self._fixed_buffers.items()
        }
        self.drawing = False
        self._kept: dict[str, Samples] = {}
        self._compiled: dict[torch.dtype, CompiledNetwork | None] = {}

    @property
    def exact_train(self) -> Samples:
        """Training samples in float64, for measurements."""
        return self.exact("train")

    @property
    def exact_test(self) -> Samples:
        """Test samples in float64."""
        return self.exact("test")

    @property
    def train(self) -> Samples:
        """Training samples in the precision of training."""
        return self.samples("train")

    @property
    def test(self) -> Samples:
        """Test samples in the precision of training."""
        return self.samples("test")

    def exact(self, side: str) -> Samples:
        """Samples of one of :attr:`sides` in float64."""
        name = f"exact_{side}"
        if name not in self._kept:
            # no product may see by its strides how wide the widest run of a pack was
            x = self._common[side].contiguous()
            y: Tensor = getattr(self.problem, f"{side}_y").to(x.device)
            x = self._finish(x, self._fixed_buffers) if self.linear else x
            self._kept[name] = Samples(x, y, y.argmax(dim=1) if self.problem.classification else None)
        return self._kept[name]

    def samples(self, side: str) -> Samples:
        """Samples of one of :attr:`sides` in the precision of training."""
        if side not in self._kept:
            self._kept[side] = self.exact(side).to(self.dtype)
        return self._kept[side]

    def release(self) -> None:
        """Let go of the copies of the data that this stack has made; they are made again when asked for."""
        self._kept.clear()
        self._compiled.clear()  # it holds the memory that it works in

    def inputs_of(self, x: Tensor) -> Tensor:
        """Inputs of :meth:`outputs` for new samples [samples, inputs], float64."""
        prepared = _prepared(self.run, x.double().to(self.theta.device))
        return self._finish(prepared, self._fixed_buffers) if self.linear else prepared

    def _finish(self, features: Tensor, buffers: Tensors) -> Tensor:
        """Fixed normalisation and column of ones: from features to the design matrix."""
        design = self.normalization.apply(features, buffers, {}, training=False)
        return with_ones(design) if self.bias else design

    @property
    def parameters(self) -> int:
        """Trained parameters of one run."""
        return self.theta.shape[1]

    def named(self, flat: Tensor) -> Parameters:
        """Name the parts of flat parameters [runs, parameters], without copying."""
        out, start = {}, 0
        for name, shape in self.shapes.items():
            size = math.prod(shape)
            out[name] = flat[:, start : start + size].view(-1, *shape)
            start += size
        return Parameters(flat, out)

    def as_layers(self, flat: Tensor) -> dict[str, Tensor]:
        """Trained tensors as torch's layers hold them, copies: a module's by its own names and shapes.

        Args:
            flat: of one run, [parameters].

        Returns:
            ``readout`` and, of two-layer nets, ``hidden``, each [out, in]; their ``..._bias``, [out]; others by name.
        """
        found: dict[str, Tensor] = {}
        own = self.deep.parameter_shapes(self.run) if self.deep else {}
        for name, view in self.named(flat[None]).named.items():
            value = view[0].clone()
            if name in self.model.biased and self.bias:
                found |= {name: value[:, :-1], f"{name}_bias": value[:, -1]}
            else:
                found[name] = value.view(own[name]) if name in own else value
        return found

    def split(self, flat: Tensor) -> list[Tensor]:
        """Weight matrices [runs, rows, columns] and vectors [runs, size] (biases, gain, shift) as views of ``flat``."""
        return self.model.split(self.run, self.named(flat).named)

    def design(self, theta: Parameters, inputs: Tensor, buffers: Tensors, *, training: bool = False) -> Tensor:
        """The matrix that the last layer sees, column of ones included: [runs, samples, columns]."""
        if self.linear:
            return inputs
        if self.deep:
            features = self.deep.normalised_features(
                self.run, theta.named, inputs, buffers, training=training, random=self.drawing
            )
        else:
            features = inputs
            if not self.model.frozen_features:
                features = self.model.features(self.run, {}, theta.named, inputs)
            features = self.normalization.apply(features, buffers, theta.named, training=training)
        return with_ones(features) if self.bias else features

    def outputs(self, theta: Parameters, inputs: Tensor, buffers: Tensors, *, training: bool = False) -> Tensor:
        """Outputs, [runs, samples, outputs].

        Args:
            theta: trained parameters.
            inputs: rows of :attr:`Samples.inputs`, in theta's precision.
            buffers: the normalisation's memory.
            training: whether batch statistics are used.
        """
        if self.run.dtype != "bfloat16":
            return read_out(self.design(theta, inputs, buffers, training=training), theta.named["readout"])
        with torch.autocast(inputs.device.type, torch.bfloat16):
            outputs = read_out(self.design(theta, inputs, buffers, training=training), theta.named["readout"])
        return outputs.to(theta.flat.dtype)

    @torch.no_grad()
    def seen(self, theta: Parameters, inputs: Tensor, buffers: Tensors, *, training: bool = False) -> Tensor:
        """:meth:`design`, for measurements alone: without gradients, by compiled code where there is some.

        Args:
            theta: trained parameters.
            inputs: rows of :attr:`Samples.inputs`, in theta's precision.
            buffers: the normalisation's memory; a deep network leaves it as it is.
            training: whether the statistics are those of ``inputs``.
        """
        code = self.code(theta.flat)
        if self.deep is None:
            return self.design(theta, inputs, buffers, training=training)
        if code is None:
            own = {} if training else buffers
            # samples are tied together by batch statistics alone
            pieces = [inputs] if training and self.batch_dependent else inputs.split(PIECE, dim=1)
            return torch.cat([self.design(theta, piece, own, training=training) for piece in pieces], dim=1)
        found = [
            code.features(
                flat,
                {} if training else {k: v[i : i + 1] for k, v in buffers.items()},
                inputs[i if len(inputs) > 1 else 0],
                training=training,
            )
            for i, flat in enumerate(theta.flat)
        ]
        features = torch.stack(found)
        return with_ones(features) if self.bias else features

    def predict(self, theta: Parameters, inputs: Tensor, buffers: Tensors) -> Tensor:
        """:meth:`outputs` in evaluation, for measurements alone; arguments as :meth:`seen`."""
        if self.deep is None:
            return self.outputs(theta, inputs, buffers)
        if self.code(theta.flat):
            return read_out(self.seen(theta, inputs, buffers), theta.named["readout"])
        with torch.no_grad():
            return torch.cat([self.outputs(theta, piece, buffers) for piece in inputs.split(PIECE, dim=1)], dim=1)

    def statistics(self, flat: Tensor) -> Tensors:
        """Running statistics that a deep network would have if the whole training set were its batch for ever.

        Args:
            flat: parameters of one run, [parameters], float64.

        Returns:
            Means and (unbiased) variances by name, each [1, 1, features]; nothing without batch statistics.
        """
        if self.deep is None:
            return {}
        return self.deep.statistics(self.run, self.named(flat[None]).named, self.exact_train.inputs)

    def divisors(self, buffers: Tensors) -> Divisors | None:
        """What evaluation divides features by, where training samples decide it; None: they do not, or nobody says."""
        if self.deep:
            return self.deep.divisors(self.run, buffers)
        return self.normalization.divisors(self._fixed_buffers if self.linear else buffers)

    def code(self, flat: Tensor) -> CompiledNetwork | None:
        """Compiled code for parameters like ``flat``; None where there is none."""
        if self.deep is None or flat.device.type != "cpu" or self.run.dtype == "bfloat16":
            return None
        if flat.dtype not in self._compiled:
            self._compiled[flat.dtype] = self.deep.compiled(self.run, self.shapes, flat.dtype)
        return self._compiled[flat.dtype]

    def loss(self, theta: Parameters, inputs: Tensor, targets: Tensor, buffers: Tensors) -> Tensor:
        """Training loss of each run on a batch, [runs]; differentiable."""
        return losses.value(self.run.loss, self.outputs(theta, inputs, buffers, training=True), targets)

    def objective(self, flat: Tensor, inputs: Tensor, targets: Tensor, buffers: Tensors) -> tuple[Tensor, Tensor]:
        """:meth:`loss` of parameters [runs, parameters] and its gradient, by autograd; the same shapes."""
        # a leaf each: through views of one leaf every tensor's gradient would be as long as all parameters
        leaves = {name: view.requires_grad_(True) for name, view in self.named(flat.detach()).named.items()}
        with torch.enable_grad():
            loss = self.loss(Parameters(flat, leaves), inputs, targets, buffers)
            found = torch.autograd.grad(loss.sum(), list(leaves.values()), materialize_grads=True)
        return loss.detach(), torch.cat([part.flatten(1) for part in found], dim=1)


def read_out(design: Tensor, readout: Tensor) -> Tensor:
    """Design · readoutᵀ, [runs, samples, outputs], as few rows times many columns: four times faster on a CPU."""
    return (readout @ design.mT).mT
