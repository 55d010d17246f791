"""Update rules on the flat parameters of one run; the arithmetic is that of :mod:`dd.optim`."""
# mypy: ignore-errors

from __future__ import annotations

import math

from numba import njit

SGD, MOMENTUM, NESTEROV, ADAM, ADAMW, RMSPROP, ADAGRAD = range(7)

RULES: dict[str, tuple[int, tuple[str, ...], tuple[str, ...]]] = {
    "sgd": (SGD, (), ("weight_decay",)),
    "gd": (SGD, (), ("weight_decay",)),
    "momentum": (MOMENTUM, ("velocity",), ("weight_decay", "momentum")),
    "nesterov": (NESTEROV, ("velocity",), ("weight_decay", "momentum")),
    "adam": (ADAM, ("mean", "square"), ("weight_decay", "beta1", "beta2", "eps")),
    "adamw": (ADAMW, ("mean", "square"), ("weight_decay", "beta1", "beta2", "eps")),
    "rmsprop": (RMSPROP, ("square", "velocity"), ("weight_decay", "alpha", "momentum", "eps")),
    "adagrad": (ADAGRAD, ("sum",), ("weight_decay", "lr_decay", "eps")),
}
"""Optimizer -> (number, names of its state tensors, options after ``lr`` in the order of ``hyper``)."""


@njit(fastmath=True, cache=True, error_model="numpy")
def update(rule, theta, grad, first, second, hyper, step):
    """Take one step in place.

    Args:
        rule: number of the rule.
        theta: [parameters].
        grad: [parameters], used as scratch space.
        first: first state tensor, [parameters] (unused by plain descent).
        second: second state tensor, [parameters].
        hyper: float64, ``lr`` and the options in the order of ``RULES``.
        step: number of this step, from 1.
    """
    number = theta.dtype.type
    lr, weight_decay = number(hyper[0]), number(hyper[1])
    size = theta.shape[0]
    if weight_decay != 0:
        if rule == ADAMW:
            keep = number(1 - hyper[0] * hyper[1])
            for i in range(size):
                theta[i] *= keep
        else:
            for i in range(size):
                grad[i] += weight_decay * theta[i]
    if rule == SGD:
        for i in range(size):
            theta[i] -= lr * grad[i]
    elif rule == MOMENTUM:
        mu = number(hyper[2])
        for i in range(size):
            v = mu * first[i] + grad[i]
            first[i] = v
            theta[i] -= lr * v
    elif rule == NESTEROV:
        mu = number(hyper[2])
        for i in range(size):
            v = mu * first[i] + grad[i]
            first[i] = v
            theta[i] -= lr * (grad[i] + mu * v)
    elif rule in (ADAM, ADAMW):
        one_beta1, beta2, one_beta2 = number(1 - hyper[2]), number(hyper[3]), number(1 - hyper[3])
        eps = number(hyper[4])
        size_of_step = number(hyper[0] / (1 - hyper[2] ** step))
        root = number(1 / math.sqrt(1 - hyper[3] ** step))
        for i in range(size):
            g = grad[i]
            m = first[i] + one_beta1 * (g - first[i])
            v = beta2 * second[i] + one_beta2 * g * g
            first[i] = m
            second[i] = v
            theta[i] -= size_of_step * m / (math.sqrt(v) * root + eps)
    elif rule == RMSPROP:
        alpha, one_alpha, mu, eps = number(hyper[2]), number(1 - hyper[2]), number(hyper[3]), number(hyper[4])
        for i in range(size):
            g = grad[i]
            v = alpha * first[i] + one_alpha * g * g
            first[i] = v
            b = mu * second[i] + g / (math.sqrt(v) + eps)
            second[i] = b
            theta[i] -= lr * b
    else:
        size_of_step, eps = number(hyper[0] / (1 + (step - 1) * hyper[2])), number(hyper[3])
        for i in range(size):
            g = grad[i]
            v = first[i] + g * g
            first[i] = v
            theta[i] -= size_of_step * g / (math.sqrt(v) + eps)
