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
from dd.config import RunConfig
from dd.data._problem import Problem
from dd.models._base import Model, Tensors, with_ones
from dd.normalizations._base import Normalization


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

    def to(self, dtype: torch.dtype) -> Samples:
        """Round to another precision."""
        return Samples(self.inputs.to(dtype), self.targets.to(dtype), self.classes)


class Network:
    """Forward and backward pass of a stack.

    Args:
        runs: runs of one architecture and width; seeds and initialization may differ.
        problem: their data.
        device: where to compute.
        dtype: precision of training.

    Attributes:
        theta: trained parameters, [runs, parameters].
        buffers: the normalisation's memory, each [runs, 1, features].
        linear: whether outputs are linear in ``theta`` with a fixed design matrix.
        exact_train: training samples in float64, for measurements.
        exact_test: test samples in float64.
        train: training samples in the precision of training.
        test: test samples in the precision of training.
    """

    def __init__(self, runs: Sequence[RunConfig], problem: Problem, device: torch.device, dtype: torch.dtype) -> None:
        self.run = runs[0]
        self.runs = tuple(runs)
        self.model: Model = self.run.component("model")
        self.normalization: Normalization = self.run.component("normalization")
        self.norm_options = self.run.group_options("normalization")
        self.bias = bool(self.run.group_options("model")["bias"])
        self.problem = problem
        self.dtype = dtype
        frozen, trained = self.model.init(runs, problem.inputs, problem.outputs)
        if len({run.seed for run in runs}) > 1:
            raise ValueError("runs of one stack share their seed")
        self.frozen: Tensors = {k: v[:1].to(device) for k, v in frozen.items()}
        train_x, test_x = (self.model.prepare(self.run, x.to(device)) for x in (problem.train_x, problem.test_x))
        initial = {k: v.to(device) for k, v in trained.items()}
        features = [self.model.features(self.run, self.frozen, initial, x) for x in (train_x, test_x)]
        buffers = self.normalization.fit(features[0], self.norm_options)
        initial |= self.normalization.trained(len(runs), features[0], self.norm_options)
        self.shapes = {k: tuple(v.shape[1:]) for k, v in initial.items()}
        self.fixed_normalization = not self.normalization.batch_dependent and "gain" not in initial
        self.linear = self.model.frozen_features and self.fixed_normalization
        self.theta = torch.cat([v.flatten(1) for v in initial.values()], dim=1).to(dtype)
        self.buffers: Tensors = {k: v.to(dtype).expand(len(runs), -1, -1).clone() for k, v in buffers.items()}
        if self.linear:
            inputs = [self._finish(f, buffers) for f in features]
        else:
            inputs = features if self.model.frozen_features else [train_x, test_x]
        parts = []
        for x, y in zip(inputs, (problem.train_y.to(device), problem.test_y.to(device)), strict=True):
            parts.append(Samples(x, y, y.argmax(dim=1) if problem.classification else None))
        self.exact_train, self.exact_test = parts
        self.train, self.test = self.exact_train.to(dtype), self.exact_test.to(dtype)

    def _finish(self, features: Tensor, buffers: Tensors) -> Tensor:
        """Fixed normalisation and column of ones: from features to the design matrix."""
        design = self.normalization.apply(features, buffers, {}, self.norm_options, training=False)
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

    def design(self, theta: Parameters, inputs: Tensor, buffers: Tensors, *, training: bool = False) -> Tensor:
        """The matrix that the last layer sees, column of ones included: [runs, samples, columns]."""
        if self.linear:
            return inputs
        features = inputs
        if not self.model.frozen_features:
            features = self.model.features(self.run, self.frozen, theta.named, inputs)
        features = self.normalization.apply(features, buffers, theta.named, self.norm_options, training=training)
        return with_ones(features) if self.bias else features

    def outputs(self, theta: Parameters, inputs: Tensor, buffers: Tensors, *, training: bool = False) -> Tensor:
        """Outputs, [runs, samples, outputs].

        Args:
            theta: trained parameters.
            inputs: rows of :attr:`Samples.inputs`, in theta's precision.
            buffers: the normalisation's memory.
            training: whether batch statistics are used.
        """
        return _read_out(self.design(theta, inputs, buffers, training=training), theta.named["readout"])

    def loss(self, theta: Parameters, inputs: Tensor, targets: Tensor, buffers: Tensors) -> Tensor:
        """Training loss of each run on a batch, [runs]; differentiable."""
        return losses.value(self.run.loss, self.outputs(theta, inputs, buffers, training=True), targets)

    def gradient(self, theta: Parameters, inputs: Tensor, targets: Tensor, buffers: Tensors, out: Parameters) -> None:
        """Gradient of :meth:`loss`, written into ``out``.

        By hand where the normalisation is fixed, else by autograd; tests hold the two together.
        """
        if not self.fixed_normalization:
            leaf = theta.flat.detach().requires_grad_(True)
            with torch.enable_grad():
                total = self.loss(self.named(leaf), inputs, targets, buffers).sum()
                out.flat.copy_(torch.autograd.grad(total, leaf)[0])
            return
        readout = theta.named["readout"]
        if self.linear:
            residual = losses.gradient(self.run.loss, _read_out(inputs, readout), targets)
            torch.matmul(residual.mT, inputs, out=out.named["readout"])
            return
        features = self.model.features(self.run, self.frozen, theta.named, inputs)
        normalised = self.normalization.apply(features, buffers, {}, self.norm_options, training=False)
        design = with_ones(normalised) if self.bias else normalised
        residual = losses.gradient(self.run.loss, _read_out(design, readout), targets)
        torch.matmul(residual.mT, design, out=out.named["readout"])
        upstream = residual @ readout[:, :, : normalised.shape[2]]
        upstream = self.normalization.backward(upstream, features, buffers, self.norm_options)
        self.model.backward(self.run, theta.named, inputs, features, upstream, out.named)


def _read_out(design: Tensor, readout: Tensor) -> Tensor:
    """Design · readoutᵀ, [runs, samples, outputs], as few rows times many columns: four times faster on a CPU."""
    return (readout @ design.mT).mT
