"""The experiments that the report knows by name: their order, titles and commands."""

from __future__ import annotations

RANDOM_FEATURES = {
    "width_reference": "Reference: the minimum-norm solution",
    "iterations": "Number of steps",
    "learning_rate": "Learning rate",
    "optimizer": "Optimizer",
    "batch_size": "Batch size at equal epochs",
    "batch_size_steps": "Batch size at equal steps",
    "initialization": "Initialization",
    "normalization": "Normalization",
    "claim": "All factors crossed",
}

TWO_LAYER = {
    "two_layer": "Trained two-layer nets",
    "two_layer_iterations": "Number of steps, two-layer nets",
    "two_layer_learning_rate": "Learning rate, two-layer nets",
    "two_layer_optimizer": "Optimizer, two-layer nets",
    "two_layer_batch_size": "Batch size, two-layer nets",
    "two_layer_initialization": "Initialization, two-layer nets",
    "two_layer_normalization": "Normalization, two-layer nets",
}

NEIGHBOURS = {
    "ridge": "Ridge regression",
    "epoch_wise": "Epoch-wise double descent",
    "belkin_fourier": "Random Fourier features, after Belkin et al.",
    "belkin_nets": "Two-layer nets, after Belkin et al.",
    "double_trouble": "Bias and variance of random features, after d'Ascoli et al.",
    "bias_variance": "Bias-variance decomposition",
    "triple_descent": "Triple descent, after d'Ascoli et al.",
    "kuzborskij_least_squares": "Least squares, after Kuzborskij et al.",
    "kuzborskij_nets": "Two-layer nets, after Kuzborskij et al.",
    "mnist1d": "MNIST-1D",
    "holzmueller": "Label-noise error and its lower bound, after Holzmüller",
    "effective_parameters": "Effective parameters, after Curth et al.",
    "schaeffer_cutoff": "Small singular values cut off, after Schaeffer et al.",
    "schaeffer_projection": "Test features projected, after Schaeffer et al.",
    "schaeffer_targets": "Targets replaced by the linear fit, after Schaeffer et al.",
}

PARTS = {
    "The study: random features": RANDOM_FEATURES,
    "The study: two-layer nets": TWO_LAYER,
    "Neighbouring studies": NEIGHBOURS,
}
"""Parts of the report, each with its experiments in order. A table of another name comes after them."""

STUDY = (*RANDOM_FEATURES, *TWO_LAYER)
"""Experiments whose conditions the verdict is about."""


def command(name: str) -> str | None:
    """The command that makes the table of a known experiment; None for other tables.

    >>> command("iterations")
    'python -m dd.run -m +experiment=iterations'
    """
    known = any(name in part for part in PARTS.values())
    return f"python -m dd.run -m +experiment={name}" if known else None
