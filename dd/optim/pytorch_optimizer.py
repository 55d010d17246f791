"""Any optimizer of the package ``pytorch-optimizer``, by its name there."""

from __future__ import annotations

import importlib
import inspect
from functools import cache
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
    """``optimizer.method=adan``; on a command line ``"optimizer.arguments='weight_decay=0.1 betas=[0.9,0.99,0.99]'"``.

    Weight matrices and bias vectors are parameters of their own. One run at a time, without a preconditioner. The few
    that need more than parameters, gradients and a closure (Hessians, a model, groups) are refused.
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
        if options["method"] not in known:
            raise ConfigError(
                "optimizer.method", options["method"], f"must be one of {', '.join(sorted(known))}",
                origin("optimizer.method"),
            )  # fmt: skip
        if reason := _refusal(options["method"], options["arguments"]):
            key = "arguments" if options["arguments"] else "method"
            raise ConfigError(f"optimizer.{key}", options[key], reason, origin(f"optimizer.{key}"))

    def canonical(self, options: dict[str, Any]) -> None:
        """Names are lower case."""
        options["optimizer.method"] = str(options["optimizer.method"]).lower()

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
        for read in (int, float, yaml.safe_load):  # YAML takes 1e-3 for a word
            try:
                out[name] = read(value)
                break
            except (ValueError, yaml.YAMLError):
                continue
        else:
            raise ValueError(f"the value of {name} cannot be read")
    return out


@cache
def _refusal(method: str, text: str) -> str | None:
    """Why the optimizer cannot be used so, tried on a small matrix and a vector; None if it can."""
    kind = importlib.import_module(PACKAGE).load_optimizer(method)
    try:
        arguments = _arguments(text)
    except ValueError as error:
        return str(error)
    names = inspect.signature(kind).parameters
    allowed = [n for n in names if n not in ("params", "lr", "args", "kwargs")]
    for name in arguments:
        if name not in allowed:
            return f"{method} has no argument {name!r} to set here; it has {', '.join(allowed)}"
    parameters = [torch.ones(3, 4, requires_grad=True), torch.ones(3, requires_grad=True)]

    def closure() -> Tensor:
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, 0.1)
        return torch.tensor(1.0)

    try:
        with torch.random.fork_rng(devices=[]):
            optimizer = kind(parameters, lr=1e-3, **arguments)
            for _ in range(2):
                closure()
                optimizer.step(closure)
    except Exception as error:
        return f"{method} cannot be used: {' '.join(str(error).split()) or type(error).__name__}"
    return None
