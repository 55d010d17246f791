"""Any optimizer of the package ``pytorch-optimizer``, by its name there."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Self

import torch
import yaml
from torch import Tensor

from dd.components.optimizer import UnpackedRule
from dd.errors import ConfigError
from dd.runs.axis import axis
from dd.runs.run import OriginOf, Run

PACKAGE = "pytorch_optimizer"

SMALL = 1e-4
"""Parameters beside which the first steps of optimizers that look for their step size are not lost in rounding."""

READERS: tuple[Callable[[str], object], ...] = (int, float, yaml.safe_load)
"""How the value of an argument is read; YAML takes 1e-3 for a word."""


@dataclass(frozen=True)
class PytorchOptimizer(UnpackedRule):
    """``optimizer.method=adan``; on a command line ``"optimizer.arguments='weight_decay=0.1 betas=[0.9,0.99,0.99]'"``.

    Weight matrices and bias vectors are parameters of their own. One run at a time, without a preconditioner. The few
    that need more than parameters, gradients and a closure (Hessians, a model, groups) are refused.
    """

    method: str = axis("adan", "name of the optimizer in the package")
    arguments: str = axis("", "its arguments beside lr: name=value, separated by spaces")

    adaptive = True  # unknown: no preconditioned condition number is given

    def check(self, run: Run, origin: OriginOf) -> None:
        """The package is there and knows the optimizer; the arguments can be read."""
        super().check(run, origin)
        try:
            package = importlib.import_module(PACKAGE)
        except ImportError as error:
            raise ConfigError(
                "optimizer", self.name, "needs the package pytorch-optimizer: pip install 'dd-lab[optimizers]'",
                origin("optimizer"),
            ) from error  # fmt: skip
        known = package.get_supported_optimizers()
        if self.method not in known:
            allowed = f"must be one of {', '.join(sorted(known))}"
            raise ConfigError("optimizer.method", self.method, allowed, origin("optimizer.method"))
        if reason := _refusal(self.method, self.arguments):
            key = "arguments" if self.arguments else "method"
            raise ConfigError(f"optimizer.{key}", self.arguments or self.method, reason, origin(f"optimizer.{key}"))
        if not run.schedule.flat and _sets_its_own_steps(self.method, self.arguments):
            allowed = f"{self.method} sets its step sizes by itself; use schedule=constant"
            raise ConfigError("schedule", run.schedule.name, allowed, origin("schedule"))

    def canonical(self) -> Self:
        """Names are lower case."""
        return replace(self, method=self.method.lower())

    def build(self, parameters: list[Tensor], lr: float) -> torch.optim.Optimizer:
        """See :meth:`UnpackedRule.build`."""
        method = importlib.import_module(PACKAGE).load_optimizer(self.method)
        made: torch.optim.Optimizer = method(parameters, lr=lr, **_arguments(self.arguments))
        return made


def _arguments(text: str) -> dict[str, object]:
    """Read ``name=value name=value``; values as in YAML.

    Raises:
        ValueError: a word is not of that form.
    """
    out: dict[str, object] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"must be name=value pairs separated by spaces, found {word!r}")
        for read in READERS:
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
    try:
        _tried(method, arguments, [1e-3, 1e-3])
    except Exception as error:
        return f"{method} cannot be used: {' '.join(str(error).split()) or type(error).__name__}"
    return None


@cache
def _sets_its_own_steps(method: str, text: str) -> bool:
    """Whether other step sizes, set as torch's schedulers set them, change nothing."""
    ends = [_tried(method, _arguments(text), [1e-3] + 11 * [lr], start=SMALL) for lr in (1e-3, 5e-4)]
    return torch.equal(*ends)


def _tried(method: str, arguments: dict[str, object], lrs: list[float], start: float = 1.0) -> Tensor:
    """Where steps of these sizes take a small matrix and a vector along a fixed gradient, [parameters]."""
    parameters = [torch.full(shape, start, requires_grad=True) for shape in ((3, 4), (3,))]

    def closure() -> Tensor:
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, 0.1)
        return torch.tensor(1.0)

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        optimizer = importlib.import_module(PACKAGE).load_optimizer(method)(parameters, lr=lrs[0], **arguments)
        for number, lr in enumerate(lrs):
            for group in optimizer.param_groups if number else ():
                group["lr"] = lr
            closure()
            optimizer.step(closure)
    return torch.cat([parameter.detach().flatten() for parameter in parameters])
