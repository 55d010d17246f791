"""Between the units of the theory and those of dd's keys and columns: here and nowhere else.

The theory has features Z = act(X Wᵀ)/√p, read-out w and loss L = (1/2n) |Z w - y|², errors summed over C outputs. dd
has features √p Z, read-out w/√p, and in its columns the mean over samples and outputs.
"""

from __future__ import annotations

from collections.abc import Callable

from dd.theory.flow import descent_time, heavy_ball_time

START_VARIANCES: dict[str, Callable[[int, int], float]] = {
    "default": lambda p, outputs: 1 / p,
    "zero": lambda p, outputs: 0.0,
    "fixed": lambda p, outputs: 0.02**2,
    "fan_in": lambda p, outputs: 1 / p,
    "he": lambda p, outputs: 2 / p,
    "glorot": lambda p, outputs: 2 / (p + outputs),
    "glorot_uniform": lambda p, outputs: 2 / (p + outputs),
    "orthogonal": lambda p, outputs: 1 / max(p, outputs),
    "torch": lambda p, outputs: 1 / (3 * p),
}
"""Variance of an entry of dd's initial read-out on random features, by ``init``: of features p and outputs C."""


def ridge(penalty: float, p: int) -> float:
    """Lam of ``optimizer.penalty``, which stands beside |act(X Wᵀ) a - y|² with a = w/√p: penalty/p."""
    return penalty / p


def step(lr: float, p: int, outputs: int) -> float:
    """Step size on L in w of an absolute ``lr`` on the mean squared error in w/√p: (2/C) lr p."""
    return 2 * lr * p / outputs


def time(optimizer: str, lr: float, steps: int, p: int, outputs: int, momentum: float = 0.0) -> float:
    """Effective time of gradient flow on L.

    Args:
        optimizer: ``gradient_flow``, full-batch ``gd`` or ``sgd``, or full-batch ``momentum``.
        lr: absolute step size, the column ``lr_absolute``.
        steps: updates.
        p: features.
        outputs: C.
        momentum: of ``momentum``.

    Raises:
        ValueError: another optimizer.
    """
    if optimizer in ("gradient_flow", "gd", "sgd"):
        return descent_time(step(lr, p, outputs), steps)
    if optimizer == "momentum":
        return heavy_ball_time(step(lr, p, outputs), steps, momentum)
    raise ValueError(f"optimizer={optimizer!r} must be gradient_flow, gd, sgd or momentum")


def start(init: str, p: int, outputs: int, scale: float = 1.0) -> float:
    """Variance of the entries of w(0), summed over outputs, of ``init`` and ``init.scale``: C p times that of an entry.

    Raises:
        ValueError: an initialization of unknown variance.
    """
    if init not in START_VARIANCES:
        raise ValueError(f"init={init!r} must be one of {', '.join(START_VARIANCES)}")
    return outputs * p * START_VARIANCES[init](p, outputs) * scale**2


def mean_loss(error: float, outputs: int) -> float:
    """The columns ``train_loss`` and ``test_loss`` of a squared error summed over outputs: error/C.

    dd's test targets carry no noise: ``test_loss`` is that of the excess.
    """
    return error / outputs
