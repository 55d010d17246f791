"""The stack with gradients written out by hand, for read-outs and two-layer nets: two to five times faster."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dd import losses
from dd.components.model import with_ones
from dd.components.optimizer import UnpackedRule
from dd.models.two_layer import TwoLayer, is_two_layer
from dd.network import Parameters, read_out
from dd.runs.run import Run
from dd.trainers.stack import Stack, update_seconds

SLOPES: dict[str, Callable[[Tensor], Tensor]] = {"relu": lambda h: h > 0, "tanh": lambda h: 1 - h * h}
"""Derivative of an activation, from its value."""

LOSSES = ("mse", "cross_entropy")


class Analytic(Stack):
    """Runs that are still training."""

    name = "analytic"

    @classmethod
    def objection(cls, run: Run, device: torch.device) -> str | None:
        """See :meth:`Trainer.objection`."""
        if isinstance(run.optimizer, UnpackedRule):
            return f"optimizer={run.optimizer.name} asks for the loss beside its gradient"
        if run.loss not in LOSSES:
            return f"loss={run.loss} has no gradient here"
        if not run.linear:
            model = run.model
            if not is_two_layer(model) or model.activation not in SLOPES:
                return f"model={run.model.name} with these options has no gradient here"
            if run.normalization.batch_dependent or run.normalization.trains:
                return f"normalization={run.normalization.name} with these options has no gradient here"
        return super().objection(run, device)

    @classmethod
    def seconds(cls, run: Run) -> float:
        """See :meth:`Trainer.seconds`."""
        own = (run.steps or 0) * update_seconds(run)
        return (super().seconds(run) - own) / 2 + own

    def objective(self, theta: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor | None, Tensor]:
        """See :meth:`Stack.objective`; the loss is not computed."""
        network, named = self.network, self.network.named(theta)
        out = network.named(torch.empty_like(theta))
        if network.linear:
            residual = losses.gradient(network.run.loss, read_out(x, named.named["readout"]), y)
            torch.matmul(residual.mT, x, out=out.named["readout"])
        else:
            self._two_layers(named, x, y, out)
        return None, out.flat

    def _two_layers(self, theta: Parameters, x: Tensor, y: Tensor, out: Parameters) -> None:
        network, model, readout = self.network, self.network.model, theta.named["readout"]
        assert isinstance(model, TwoLayer)
        features = model.features(network.run, {}, theta.named, x)
        leaf = features.detach().requires_grad_(network.normalization.fitted)
        with torch.enable_grad():
            normalised = network.normalization.apply(leaf, self.buffers, {}, training=False)
        seen = normalised.detach()
        design = with_ones(seen) if network.bias else seen
        residual = losses.gradient(network.run.loss, read_out(design, readout), y)
        torch.matmul(residual.mT, design, out=out.named["readout"])
        upstream = residual @ readout[:, :, : seen.shape[2]]
        if network.normalization.fitted:
            upstream = torch.autograd.grad(normalised, leaf, upstream)[0]
        torch.matmul((upstream * SLOPES[model.activation](features)).mT, x, out=out.named["hidden"])
