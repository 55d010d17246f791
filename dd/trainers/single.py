"""One run of a torch module at a time, as a plain PyTorch loop trains it.

The module's parameters and their gradients are views of two flat tensors, so that an update rule acts once on all of
them. It takes what the stack cannot: modules that draw random numbers, or that ``torch.func.vmap`` refuses.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from dd import losses
from dd.components.blueprint import shared_module, track_statistics
from dd.components.module import ModuleModel
from dd.network import Network
from dd.runs.run import Run
from dd.trainers.base import Task
from dd.trainers.quadratic import not_iterated
from dd.trainers.randomness import GlobalRandom
from dd.trainers.replay import Replay
from dd.trainers.stack import Stack


class Single(Stack):
    """A run that is still training; layers that draw do so from a stream that follows from its seed alone."""

    name = "single"

    @classmethod
    def objection(cls, run: Run, device: torch.device) -> str | None:
        """See :meth:`Trainer.objection`."""
        if not isinstance(run.model, ModuleModel):
            return f"model={run.model.name} is no torch module"
        if device.type != "cpu" and Stack.objection(run, device) is None:
            return "trainer=stack trains runs of one shape together there"
        return not_iterated(run)

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
        self.readout = self.network.named(self.theta).named["readout"][0].requires_grad_(True)
        self.readout.grad = self.network.named(self.gradient).named["readout"][0]

    def advance(self, first: int, last: int) -> None:
        """See :meth:`Stepper.advance`."""
        with self.random.swapped_in() if self.random else nullcontext():
            super().advance(first, last)

    def objective(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor | None, Tensor]:
        """See :meth:`Stack.objective`; ``theta`` is the trainer's own."""
        self.gradient.zero_()
        run = self.runs[0]
        with torch.enable_grad():
            with torch.autocast(theta.device.type, torch.bfloat16, enabled=run.dtype == "bfloat16"):
                features = self.module(x.view(-1, *self.sample))
                layer = (self.readout[:, :-1], self.readout[:, -1]) if self.network.bias else (self.readout,)
                outputs = torch.nn.functional.linear(features, *layer)
            loss = losses.value(run.loss, outputs.to(theta.dtype)[None], y)
            loss.sum().backward()
        return loss.detach(), self.gradient


def bound(network: Network, theta: Tensor, gradient: Tensor, buffers: dict[str, Tensor]) -> torch.nn.Module:
    """A copy of a run's module, in training, whose memory is that of flat tensors.

    Args:
        network: a stack of one run.
        theta: parameters, [1, parameters]; the module sees what is written there.
        gradient: the same shape; a backward pass adds to it.
        buffers: running statistics, each [1, 1, features]; a pass moves them.
    """
    assert network.deep is not None
    module = copy.deepcopy(shared_module(network.deep.blueprint(network.run), theta.device, theta.dtype))
    values, slopes = network.named(theta).named, network.named(gradient).named
    for name, parameter in module.named_parameters():
        parameter.data = values[name].view(parameter.shape)
        parameter.requires_grad_(True).grad = slopes[name].view(parameter.shape)
    for name, statistics in buffers.items():
        module.get_buffer(name).data = statistics[0, 0]
    track_statistics(module, True)
    return module.train()
