"""When runs of other widths may be padded with zeros and trained in one call."""

from __future__ import annotations

import torch

from dd.models.two_layer import is_two_layer
from dd.runs.run import Run

LOSSES = ("mse", "cross_entropy")
ACTIVATIONS = ("relu", "tanh")

MIXED = ("init", "init_scale", "optimizer", "lr", "lr_unit", "loss", "stop_loss")
"""Axes in which runs of one call may differ beside the width."""


def not_padded(run: Run) -> str | None:
    """Why a run cannot be padded: fixed designs can, and two layers without normalization; None if it can."""
    if run.loss not in LOSSES:
        return f"loss={run.loss} has no gradient here"
    if run.dtype not in ("float32", "float64"):
        return f"dtype={run.dtype} is not for this trainer"
    if run.linear and run.model.feature_count(run) != run.width:
        return f"features of model={run.model.name} are not as many as its width"
    if not run.linear:
        if not is_two_layer(run.model):
            return f"model={run.model.name} with normalization={run.normalization.name} has no gradient here"
        if run.normalization.fitted:
            return f"normalization={run.normalization.name} of trained features has no gradient here"
        if run.model.activation not in ACTIVATIONS:
            return f"model.activation={run.model.activation} has no gradient here"
    if not getattr(run.optimizer, "eps", 1.0) > torch.finfo(getattr(torch, run.dtype)).tiny:
        return "optimizer.eps is zero in the precision of training: padding would divide zero by zero"
    return None
