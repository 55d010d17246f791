"""Any optimizer of the package ``pytorch-optimizer``, by its name there."""

from __future__ import annotations

import importlib
from typing import Any

import torch
import yaml
from torch import Tensor

from dd.axis import Axis
from dd.config import OriginOf, RunConfig
from dd.errors import ConfigError
from dd.optim._base import UnpackedRule

PACKAGE = "pytorch_optimizer"


class PytorchOptimizer(UnpackedRule):
    """``optimizer.method=adan``; its arguments as ``optimizer.arguments='weight_decay=0.1 betas=[0.9,0.99]'``.

    Weight matrices and bias vectors are parameters of their own. One run at a time, without a preconditioner.
    """

    adaptive = True  # unknown: no preconditioned condition number is given
    options = (
        Axis("method", str, "adan", "name of the optimizer in the package"),
        Axis("arguments", str, "", "its arguments beside lr: name=value, separated by spaces"),
    )

    def check(self, run: RunConfig, origin: OriginOf) -> None:
        """The package is there and knows the optimizer; the arguments can be read."""
        super().check(run, origin)
        options = run.group_options("optimizer")
        try:
            package = importlib.import_module(PACKAGE)
        except ImportError as error:
            raise ConfigError(
                "optimizer", run.optimizer, "needs the package pytorch-optimizer: pip install 'dd-lab[optimizers]'",
                origin("optimizer"),
            ) from error  # fmt: skip
        known = package.get_supported_optimizers()
        if options["method"].lower() not in known:
            raise ConfigError(
                "optimizer.method", options["method"], f"must be one of {', '.join(sorted(known))}",
                origin("optimizer.method"),
            )  # fmt: skip
        try:
            _arguments(options["arguments"])
        except ValueError as error:
            raise ConfigError(
                "optimizer.arguments", options["arguments"], str(error), origin("optimizer.arguments")
            ) from error

    def build(self, parameters: list[Tensor], run: RunConfig, lr: float) -> torch.optim.Optimizer:
        """See :meth:`UnpackedRule.build`."""
        options = run.group_options("optimizer")
        method = importlib.import_module(PACKAGE).load_optimizer(options["method"])
        made: torch.optim.Optimizer = method(parameters, lr=lr, **_arguments(options["arguments"]))
        return made


def _arguments(text: str) -> dict[str, Any]:
    """Read ``name=value name=value``; values as in YAML.

    Raises:
        ValueError: a word is not of that form.
    """
    out = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"must be name=value pairs separated by spaces, found {word!r}")
        try:
            out[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"the value of {name} cannot be read") from error
    return out
