"""One run of a torch module at a time, as a plain PyTorch loop trains it.

The module's parameters and their gradients are views of two flat tensors, so that an update rule acts once on all of
them. It takes what the stack cannot: modules that draw random numbers, or that ``torch.func.vmap`` refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.nn import functional

from dd.components.blueprint import started
from dd.components.module import ModuleModel
from dd.network import Network
from dd.runs.run import Run
from dd.trainers.base import Task
from dd.trainers.course import logged_passes
from dd.trainers.quadratic import not_iterated
from dd.trainers.randomness import GlobalRandom
from dd.trainers.replay import Replay
from dd.trainers.stack import Stack

STEP, RATE = 6e-4, 2e10
"""Seconds of a step's calls, and floating-point operations a second of small convolutions."""


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": functional.mse_loss,
    "cross_entropy": functional.cross_entropy,
}


class Single(Stack):
    """A run that is still training; layers that draw do so from a stream that follows from its seed alone."""

    name = "single"

    @classmethod
    def objection(cls, run: Run, device: torch.device) -> str | None:
        """See :meth:`Trainer.objection`."""
        if not isinstance(run.model, ModuleModel):
            return f"model={run.model.name} is no torch module"
        if run.loss not in LOSSES:
            return f"loss={run.loss} has no function here"
        if device.type != "cpu" and Stack.objection(run, device) is None:
            return "trainer=stack trains runs of one shape together there"
        return not_iterated(run)

    @classmethod
    def seconds(cls, run: Run) -> float:
        """See :meth:`Trainer.seconds`."""
        passes = 3.0 * (run.steps or 0) * (run.batch_size or 0) + logged_passes(run)
        return (run.steps or 0) * STEP + 2.0 * run.model.multiply_adds(run) * passes / RATE

    @classmethod
    def group_key(cls, run: Run, device: torch.device) -> Hashable:
        """Each run is alone."""
        return run

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__(tasks)
        run, model = self.runs[0], self.network.deep
        assert model is not None
        self.random = GlobalRandom(run.seed, "layers") if model.draws(run) else None
        # a recorded step would draw the same numbers for ever
        self.replay = Replay(run.steps or 0, self.theta.device, plain=True)
        self.gradient = torch.zeros_like(self.theta)
        self.module = bound(self.network, self.theta, self.gradient, self.buffers)
        self.sample = model.blueprint(run).sample
        self.readout = readout_of(self.network, self.theta)
        self.slopes = readout_of(self.network, self.gradient)
        for leaf in self.readout:
            leaf.requires_grad_(True)

    def advance(self, first: int, last: int) -> None:
        """See :meth:`Stepper.advance`."""
        with self.random.swapped_in() if self.random else nullcontext():
            super().advance(first, last)

    def objective(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor | None, Tensor]:
        """See :meth:`Stack.objective`; ``theta`` is the trainer's own."""
        self.gradient.zero_()
        run = self.runs[0]
        rounded = torch.autocast(theta.device.type, torch.bfloat16) if run.dtype == "bfloat16" else nullcontext()
        with torch.enable_grad():
            with rounded:
                outputs = functional.linear(self.module(x.view(-1, *self.sample)), *self.readout)
            loss = LOSSES[run.loss](outputs.to(theta.dtype), y[0])
            loss.backward()
        for leaf, slope in zip(self.readout, self.slopes, strict=True):  # rows with the bias between them take no sums
            assert leaf.grad is not None
            slope.copy_(leaf.grad)
            leaf.grad = None
        return loss.detach()[None], self.gradient


def bound(network: Network, theta: Tensor, gradient: Tensor, buffers: dict[str, Tensor]) -> torch.nn.Module:
    """A run's module of its own, in training, whose memory is that of flat tensors.

    Args:
        network: a stack of one run.
        theta: parameters, [1, parameters]; the module sees what is written there.
        gradient: the same shape; a backward pass adds to it.
        buffers: running statistics, each [1, 1, features]; a pass moves them.
    """
    assert network.deep is not None
    module = started(network.deep.blueprint(network.run), 0).to(theta.device, theta.dtype)
    values, slopes = network.named(theta).named, network.named(gradient).named
    leaves: dict[int, torch.nn.Parameter] = {}
    for name, parameter in module.named_parameters():
        leaf = leaves[id(parameter)] = torch.nn.Parameter(values[name].view(parameter.shape))
        leaf.grad = slopes[name].view(parameter.shape)
    for part in module.modules():  # layers may share a parameter
        for name, own in part.named_parameters(recurse=False):
            setattr(part, name, leaves[id(own)])
    for name, statistics in buffers.items():
        path, _, own_name = name.rpartition(".")
        setattr(module.get_submodule(path), own_name, statistics[0, 0])
    return module.train()


def readout_of(network: Network, flat: Tensor) -> list[Tensor]:
    """Views of a flat tensor: the read-out's weight, [outputs, features], and its bias, [outputs], if it has one."""
    whole = network.named(flat).named["readout"][0]
    return [whole[:, :-1], whole[:, -1]] if network.bias else [whole]
