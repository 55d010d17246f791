"""The update rules that the compiled engine knows (``src/rules.h``)."""

from __future__ import annotations

from dataclasses import dataclass

from dd.components.optimizer import Optimizer, UpdateRule
from dd.optim.adagrad import Adagrad
from dd.optim.adam import Adam
from dd.optim.adamw import AdamW
from dd.optim.gd import GD
from dd.optim.lion import Lion
from dd.optim.momentum import Momentum
from dd.optim.nesterov import Nesterov
from dd.optim.rmsprop import RMSprop
from dd.optim.sgd import SGD
from dd.optim.signsgd import SignSGD


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        number: as ``src/rules.h`` counts them.
        state: names of its state tensors.
        options: the rule's options in the order in which the engine takes them, after the step size.
        initial: options that ``init_state`` alone reads.
    """

    number: int
    state: tuple[str, ...] = ()
    options: tuple[str, ...] = ("weight_decay",)
    initial: tuple[str, ...] = ()


RULES: dict[type[UpdateRule], Rule] = {
    SGD: Rule(0),
    GD: Rule(0),
    Momentum: Rule(1, ("velocity",), ("weight_decay", "momentum")),
    Nesterov: Rule(2, ("velocity",), ("weight_decay", "momentum")),
    Adam: Rule(3, ("mean", "square"), ("weight_decay", "beta1", "beta2", "eps")),
    AdamW: Rule(4, ("mean", "square"), ("weight_decay", "beta1", "beta2", "eps")),
    RMSprop: Rule(5, ("square", "velocity"), ("weight_decay", "alpha", "momentum", "eps")),
    Adagrad: Rule(6, ("sum",), ("weight_decay", "lr_decay", "eps"), ("initial_accumulator",)),
    Lion: Rule(7, ("mean",), ("weight_decay", "beta1", "beta2")),
    SignSGD: Rule(8, ("mean",), ("weight_decay", "momentum")),
}
"""Exact types: a subclass may do something else."""


def not_compiled(optimizer: Optimizer) -> str | None:
    """What of an optimizer the engine does not know; None if it knows all."""
    rule = RULES[type(optimizer)] if isinstance(optimizer, UpdateRule) and type(optimizer) in RULES else None
    if rule is None:
        return f"optimizer={optimizer.name} is not compiled; compiled are {', '.join(kind.name for kind in RULES)}"
    for field, one in optimizer.axes().items():
        if field not in rule.options + rule.initial and getattr(optimizer, field) != one.default:
            return f"optimizer.{one.key} is not compiled"
    return None


def hyper_of(rule: UpdateRule, lr: float) -> list[float]:
    """Step size and options of a rule as the engine takes them."""
    return [lr, *(getattr(rule, name) for name in RULES[type(rule)].options)]
