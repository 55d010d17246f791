"""Effective parameters of linear smoothers (Curth, Jeffares & van der Schaar, arXiv 2310.18988).

Where predictions are linear in the training targets Y, but for a part that does not depend on them, ŷ(x) = s(x)ᵀ Y, and
on some inputs the smoother counts

    p_eff = n · mean over the inputs x of |s(x)|²

parameters. With Z = U diag(s) Vᵀ, s(x) = U diag(gain) Vᵀ z(x), where the gain stands for 1/s (ridge: s/(s² + penalty);
T steps: (1 - P_T)/s), so that |s(x)|² = Σ_j gain_j² (z(x)·v_j)²: the mean over inputs is taken once a design matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class EffectiveParameters:
    """Effective parameters of one solution.

    Attributes:
        train: on the training inputs.
        test: on the test inputs.
    """

    train: float
    test: float


def mode_power(modes: Tensor) -> Tensor:
    """Mean square of inputs along each right singular vector of the design matrix.

    Args:
        modes: features times V, [samples, rank].

    Returns:
        [rank].
    """
    return modes.square().mean(dim=0)


def effective_parameters(gain: Tensor, s: Tensor, test_power: Tensor, n_train: int) -> EffectiveParameters:
    """Effective parameters of the smoother U diag(gain) Vᵀ.

    Args:
        gain: what stands for 1/s, [rank].
        s: singular values of the design matrix above the tolerance, [rank].
        test_power: :func:`mode_power` of the test inputs, [rank].
        n_train: rows of the design matrix.
    """
    # the training inputs have power s²/n
    return EffectiveParameters(float((gain * s).square().sum()), n_train * float(gain.square() @ test_power))
