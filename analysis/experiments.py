"""The experiments that the report knows by name: their order, titles and commands."""

from __future__ import annotations

from collections.abc import Collection

RANDOM_FEATURES = {
    "width_reference": "E0: exact limits, min-norm and ridge",
    "iterations": "E1: number of steps",
    "learning_rate": "E2: learning rate in units of 1/λmax",
    "learning_rate_absolute": "E2: one learning rate for all widths",
    "optimizer": "E3: optimizer",
    "optimizer_adaptive": "E3: adaptive optimizers",
    "batch_size": "E4: batch size at equal epochs",
    "batch_size_steps": "E4: batch size at equal steps",
    "normalization": "E5: normalisation of the features",
    "normalization_trained": "E5: batch and layer norm",
    "input_scaling": "E5: standardisation of the inputs",
    "initialization": "E6: initialization",
    "claim": "E8: features, optimizers, step sizes and budgets crossed",
    "claim_chebyshev": "E8: Chebyshev's method for three shares of the spectrum",
    "claim_conjugate_gradient": "E8: conjugate gradients, stopped early",
    "claim_decay": "E8: weight decay at equal times",
    "claim_starts": "E8: starts far away at equal times",
    "claim_schedules": "E8: step sizes that fall",
    "claim_batches": "E8: mini-batches at the times of full batches",
    "claim_adaptive": "E8: adaptive and sign methods",
    "claim_muon": "E8: Muon",
}

TWO_LAYER = {
    "two_layer": "E7: trained two-layer nets",
    "two_layer_iterations": "E7: number of steps, two-layer nets",
    "two_layer_learning_rate": "E7: learning rate, two-layer nets",
    "two_layer_optimizer": "E7: optimizer, two-layer nets",
    "two_layer_batch_size": "E7: batch size at equal epochs, two-layer nets",
    "two_layer_batch_size_steps": "E7: batch size at equal steps, two-layer nets",
    "two_layer_initialization": "E7: initialization, two-layer nets",
    "two_layer_normalization": "E7: normalisation, two-layer nets",
}

NETS = {
    "nets_adam": "E7: Adam, step sizes and budgets",
    "nets_momentum": "E7: momentum, step sizes and budgets",
    "nets_sgd": "E7: SGD, step sizes and budgets",
    "nets_muon": "E7: Muon",
    "nets_batch_size": "E7: batch size at equal epochs",
    "nets_initialization": "E7: scale of all initial weights",
    "nets_normalization": "E7: normalisation of the hidden activations",
    "nets_error": "E7: the peak of the test error",
    "nets_teacher": "E7: a linear teacher with noise",
    "nets_fashion": "E7: Fashion-MNIST",
}

RMT = {
    "rmt_width_digits": "E9: width of RMT on digits, optimizers, step sizes and budgets crossed",
    "rmt_initialization": "E9: initialization, RMT",
    "rmt_normalization": "E9: normalisation, RMT",
    "rmt_batch_size": "E9: batch size at equal epochs, RMT",
    "rmt_optimizer": "E9: sgd and momentum, RMT",
    "rmt_conditioning": "E9: conditioning along the width, RMT",
    "rmt_width_fashion": "E9: width of RMT on Fashion-MNIST",
    "rmt_width_cifar10": "E9: width of RMT on CIFAR-10",
}

BESIDE = {
    "main": "The main job: sgd and adam",
    "label_noise": "The min-norm limit with and without label noise",
    "linear_teacher": "Least squares with a known risk",
    "early_stopping": "Early stopping by samples held out",
    "tuned_nets": "Two-layer nets tuned on samples held out",
    "tuned_random_features": "Random features tuned on samples held out",
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
    "liu_predecessor": "Random features on two classes, after the study's predecessor",
    "liu_information": "Random features around ten n parameters, after the predecessor's report",
    "nakkiran_cnn5": "Width of a 5-layer CNN, after Nakkiran et al.",
    "nakkiran_resnet18": "Width of ResNet18, after Nakkiran et al.",
    "nakkiran_small": "Width of a small CNN, after Nakkiran et al.",
    "holzmueller": "Label-noise error and its lower bound, after Holzmüller",
    "effective_parameters": "Effective parameters, after Curth et al.",
    "schaeffer_cutoff": "Small singular values cut off, after Schaeffer et al.",
    "schaeffer_projection": "Test features projected, after Schaeffer et al.",
    "schaeffer_targets": "Targets replaced by the linear fit, after Schaeffer et al.",
}

RMT_PART = "The study: RMT, a vision backbone"

PARTS = {
    "The study: random features": RANDOM_FEATURES,
    "The study: two-layer nets, n = 1000": NETS,
    "The study: two-layer nets, n = 100": TWO_LAYER,
    RMT_PART: RMT,
    "Beside the study": BESIDE,
    "Neighbouring studies": NEIGHBOURS,
}
"""Parts of the report, each with its experiments in order."""

FEW_RUNS = ("rmt_conditioning",)
"""Experiments of the study that are measured in full at a few runs: no conditions of their own."""

STUDY = (*RANDOM_FEATURES, *NETS, *TWO_LAYER, *(name for name in RMT if name not in FEW_RUNS))
"""Experiments whose conditions the verdict is about."""

FACTORS = {
    "width_reference": "ridge", "iterations": "steps", "learning_rate": "learning rate", "optimizer": "optimizer",
    "batch_size": "batch size", "normalization": "normalization", "input_scaling": "normalization",
    "initialization": "initialization", "claim": "crossing", "two_layer": "optimizer", "width": "crossing",
    "adam": "optimizer", "momentum": "optimizer", "sgd": "optimizer", "muon": "optimizer", "error": "steps",
    "teacher": "optimizer", "fashion": "crossing",
}  # fmt: skip
"""What an experiment of the study varies; those that begin alike vary the same."""

QUESTIONS = {
    "ridge": "How much does a ridge penalty leave of the peak?",
    "steps": "Does more training bring the peak?",
    "learning rate": "Does the learning rate decide the peak, and at which train loss?",
    "optimizer": "Does the optimizer decide the peak, and at which train loss?",
    "batch size": "Does the batch size decide the peak, at equal epochs or at equal steps?",
    "normalization": "Does normalization, which conditions the features, bring the peak?",
    "initialization": "Does the start decide the peak?",
    "crossing": "Over a crossing of settings: where is a peak, and where is none?",
    "main": "Do sgd and adam peak at the defaults?",
    "label_noise": "What is the peak itself, with clean and with noisy labels?",
    "linear_teacher": "Does least squares with a known risk peak at the threshold?",
    "early_stopping": "Does early stopping remove the peak?",
    "tuned_nets": "Does a peak of nets survive tuning on held-out samples?",
    "tuned_random_features": "Does a peak of random features survive tuning on held-out samples?",
    "epoch_wise": "Does the test loss rise and fall again along training?",
    "double_trouble": "How much of the peak is variance from features, from noise and from samples?",
    "bias_variance": "Which part of the test loss makes the peak?",
    "triple_descent": "Are there two peaks along the number of samples?",
    "holzmueller": "Is the label-noise error above its lower bound, whatever the features are?",
    "effective_parameters": "Is there a peak against effective parameters, too?",
    "schaeffer_cutoff": "Does the peak go without small singular values?",
    "schaeffer_projection": "Does the peak go where test features lie in the leading training modes?",
    "schaeffer_targets": "Does the peak go with targets that a linear model can fit?",
}
"""What an experiment asks, by its name or by the factor that it varies."""

FULL = "_full"
"""Ends the names of tables at the full scale."""


def of_the_study(name: str) -> bool:
    """Whether a table belongs to the study, at either scale; all tables of RMT do but those of few runs.

    >>> of_the_study("iterations_full"), of_the_study("ridge"), of_the_study("rmt_conditioning")
    (True, False, False)
    """
    name = name.removesuffix(FULL)
    return name in STUDY or (_of_rmt(name) and name not in FEW_RUNS)


def parts(tables: Collection[str]) -> dict[str, dict[str, str]]:
    """``PARTS`` for a report on these tables: RMT where one of its tables is there, and what has no place comes last.

    >>> list(parts(["mine"]))[-2:], parts(["rmt_mine"])[RMT_PART]["rmt_mine"]
    (['Neighbouring studies', 'Other tables'], 'rmt_mine')
    """
    listed = {name for part in PARTS.values() for name in part}
    unlisted = [name for name in tables if name not in listed]
    found = {RMT_PART: {name: name for name in unlisted if _of_rmt(name)}}
    found["Other tables"] = {name: name for name in unlisted if not _of_rmt(name)}
    every = {part: PARTS.get(part, {}) | found.get(part, {}) for part in (*PARTS, "Other tables")}
    return {
        part: titles for part, titles in every.items() if part not in found or any(name in tables for name in titles)
    }


def _of_rmt(name: str) -> bool:
    return name.startswith("rmt_")


def factor(name: str) -> str:
    """What a table of the study varies.

    >>> factor("two_layer_batch_size_steps"), factor("learning_rate_absolute_full"), factor("rmt_width_digits")
    ('batch size', 'learning rate', 'crossing')
    """
    name = name.removesuffix(FULL)
    short = name.removeprefix("two_layer_").removeprefix("nets_").removeprefix("rmt_")
    return next((word for known, word in FACTORS.items() if short.startswith(known)), name)


def command(name: str) -> str | None:
    """The command that makes the table of a known experiment; None for other tables.

    Presets of RMT, and of nets at n = 1000, have no scale.

    >>> command("iterations"), command("iterations_full")
    ('python -m dd.run -m +experiment=iterations', 'python -m dd.run -m +experiment=iterations scale=full')
    """
    known = name.removesuffix(FULL)
    if not any(known in part for part in PARTS.values()) or (known in (*NETS, *RMT) and known != name):
        return None
    scale = " scale=full" if name.endswith(FULL) else ""
    return f"python -m dd.run -m +experiment={known}{scale}"


def question(name: str) -> str | None:
    """What a known experiment asks; None for other tables.

    >>> question("iterations"), question("nets_error_full"), question("mine")
    ('Does more training bring the peak?', 'Does more training bring the peak?', None)
    """
    known = name.removesuffix(FULL)
    return QUESTIONS.get(known) or (QUESTIONS.get(factor(known)) if known in STUDY else None)
