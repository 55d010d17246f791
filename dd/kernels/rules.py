"""The update rules that the compiled engine knows (``src/rules.h``)."""

from __future__ import annotations

from dataclasses import dataclass

from dd.config import RunConfig


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        number: as ``src/rules.h`` counts them.
        state: names of its state tensors.
        options: the rule's options in the order in which the engine takes them, after the step size.
    """

    number: int
    state: tuple[str, ...] = ()
    options: tuple[str, ...] = ("weight_decay",)


RULES = {
    "sgd": Rule(0),
    "gd": Rule(0),
    "momentum": Rule(1, ("velocity",), ("weight_decay", "momentum")),
    "nesterov": Rule(2, ("velocity",), ("weight_decay", "momentum")),
    "adam": Rule(3, ("mean", "square"), ("weight_decay", "beta1", "beta2", "eps")),
    "adamw": Rule(4, ("mean", "square"), ("weight_decay", "beta1", "beta2", "eps")),
    "rmsprop": Rule(5, ("square", "velocity"), ("weight_decay", "alpha", "momentum", "eps")),
    "adagrad": Rule(6, ("sum",), ("weight_decay", "lr_decay", "eps")),
    "lion": Rule(7, ("mean",), ("weight_decay", "beta1", "beta2")),
    "signsgd": Rule(8, ("mean",), ("weight_decay", "momentum")),
}


def hyper(run: RunConfig, lr: float) -> list[float]:
    """Step size and options of a run as the engine takes them."""
    options = run.group_options("optimizer")
    return [lr, *(options[name] for name in RULES[run.optimizer].options)]
