"""One pass over all samples in float64: losses, errors, gradient, and the matrix that the last layer sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dd import losses
from dd.components.model import Tensors
from dd.measure import two_layer
from dd.measure.label_noise import CleanAndNoisy
from dd.measure.outcome import Outcome, outcome
from dd.measure.spectrum import Rows, Spectrum, guarded
from dd.network import Network, Parameters, Samples, read_out
from dd.runs.run import Run

ENTRIES = 1 << 22
"""Entries of one piece of a design matrix: what is made of it stays in memory that is used again and again."""

LEAST = 1024
"""Samples of a piece at least."""


PASS_BYTES = 8 << 30
"""Memory of a forward pass in float64 over samples that batch statistics tie together."""


@dataclass(frozen=True)
class FullPass:
    """What all samples say of one run.

    Attributes:
        outcome: losses and errors, each [1].
        gradient_norm: Euclidean norm of the gradient of the training loss; None where it was not asked for.
        features: spectrum of the matrix that the last layer sees; None where it was not asked for, or not finite.
    """

    outcome: Outcome
    gradient_norm: float | None
    features: Spectrum | None


def piece_size(run: Run) -> int:
    """Samples of a piece of about :data:`ENTRIES` entries; it follows from the run alone."""
    return max(ENTRIES // max(run.columns, run.data.input_count + 1), LEAST)


def pieces(network: Network, samples: Samples) -> Iterator[Samples]:
    """Samples in pieces of :func:`piece_size`."""
    size = piece_size(network.run)
    parts = [samples.inputs.split(size, dim=1), samples.targets.split(size)]
    classes = [None] * len(parts[0]) if samples.classes is None else samples.classes.split(size)
    return (Samples(*part) for part in zip(*parts, classes, strict=True))


def full_pass(
    network: Network,
    theta: Parameters,
    buffers: Tensors,
    *,
    gradient: bool = True,
    spectrum: bool = True,
    parts: CleanAndNoisy | None = None,
) -> FullPass:
    """Measure a stack of one run.

    Args:
        network: the stack.
        theta: parameters, float64.
        buffers: the normalisation's memory, float64; left as it is.
        gradient: whether the gradient's norm is wanted.
        spectrum: whether the spectrum of the matrix that the last layer sees is wanted.
        parts: takes the outputs on the training samples.
    """
    if network.deep or network.batch_dependent:  # evaluation and training see other statistics: no pass is shared
        got = outcome(network, theta, buffers, *map(network.exact, network.sides), parts=parts)
        norm = gradient_norm(network, theta.flat, {k: v.clone() for k, v in buffers.items()}) if gradient else None
        return FullPass(got, norm, feature_spectrum(network, theta.flat, buffers) if spectrum else None)
    rows, slope = Rows(), torch.zeros_like(theta.flat) if gradient else None
    train = _side(network, theta, buffers, network.exact_train, slope, rows if spectrum else None, parts)
    others = [_side(network, theta, buffers, network.exact(side)) for side in network.sides[1:]]
    sides = [train, *others]
    got = Outcome.of_sides([loss for loss, _ in sides], [wrong for _, wrong in sides])
    norm = None if slope is None else float(slope.norm())
    return FullPass(got, norm, guarded(rows.spectrum) if spectrum else None)


def _side(
    network: Network,
    theta: Parameters,
    buffers: Tensors,
    samples: Samples,
    slope: Tensor | None = None,
    rows: Rows | None = None,
    parts: CleanAndNoisy | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Loss and error of one side of the data; adds to the gradient ``slope``, the features' ``rows`` and ``parts``."""
    name, count = network.run.loss, len(samples.targets)
    loss = wrong = torch.zeros(1, dtype=torch.float64, device=theta.flat.device)
    by_hand = two_layer.knows(network)
    for piece in pieces(network, samples):
        share = len(piece.targets) / count
        with torch.no_grad():
            design = (
                two_layer.design(network, theta, piece.inputs)
                if by_hand
                else network.design(theta, piece.inputs, buffers)
            )
            outputs = read_out(design, theta.named["readout"])
            loss = loss + share * losses.value(name, outputs, piece.targets)
            if parts is not None:
                parts.add(outputs, piece)
            if piece.classes is not None:
                wrong = wrong + share * losses.error(outputs, piece.classes)
        if slope is not None and network.linear:
            residual = losses.gradient(name, outputs, piece.targets)
            slope.add_((residual.mT @ design).flatten(1), alpha=share)
        elif slope is not None and by_hand:
            residual = losses.gradient(name, outputs, piece.targets)
            slope.add_(two_layer.gradient(network, theta, piece.inputs, design, residual), alpha=share)
        elif slope is not None:
            slope.add_(network.objective(theta.flat, piece.inputs, piece.targets, buffers)[1], alpha=share)
        if rows is not None:
            rows.add(design[0])
    return loss, None if samples.classes is None else wrong


@torch.no_grad()
def measure_parts(network: Network, theta: Parameters, buffers: Tensors, parts: CleanAndNoisy) -> None:
    """The training samples of :func:`full_pass` alone, where all else is known."""
    for piece in pieces(network, network.exact_train):
        parts.add(network.predict(theta, piece.inputs, buffers), piece)


def feature_samples(run: Run) -> int:
    """Training samples whose features are decomposed: all, of deep networks as many as fit.

    Batch statistics tie the samples of a forward pass together, which then holds maps of all of them.
    """
    model = run.model
    if not model.deep or not model.batch_dependent(run):
        return run.n_train
    return min(run.n_train, max(int(PASS_BYTES // model.map_bytes(run)), 1))


def gradient_norm(network: Network, flat: Tensor, buffers: Tensors) -> float:
    """Norm of the gradient of the training loss; of a deep network averaged over batches, as training sees it."""
    samples, size = network.exact_train, network.run.batch_size
    if not network.deep:
        return float(network.objective(flat, samples.inputs, samples.targets, buffers)[1].norm())
    assert size is not None
    mean, out, code = torch.zeros_like(flat), torch.empty_like(flat), network.code(flat)
    for x, y in zip(samples.inputs.split(size, dim=1), samples.targets.split(size), strict=True):
        if code:
            code.gradient(flat[0], {}, x[0], y, out[0], loss=network.run.loss)
        else:
            out = network.objective(flat, x, y, {})[1]
        mean.add_(out, alpha=len(y) / len(samples.targets))
    return float(mean.norm())


def feature_spectrum(network: Network, flat: Tensor, buffers: Mapping[str, Tensor]) -> Spectrum | None:
    """Spectrum of the matrix that the last layer sees, on the training set; None where it is not finite.

    Args:
        network: a stack of one run.
        flat: parameters, [1, parameters].
        buffers: the normalisation's memory; batch statistics are those of the whole training set.
    """
    exact = {k: v.double().clone() for k, v in buffers.items()}
    named, tied = network.named(flat.double()), network.batch_dependent
    train = network.exact_train.first(feature_samples(network.run))

    def measured() -> Spectrum:
        rows = Rows()
        # batch statistics tie samples together, and a deep network's own code takes pieces
        parts = [train] if tied or network.deep else pieces(network, train)
        for part in parts:
            rows.add(network.seen(named, part.inputs, exact, training=tied)[0])
        return rows.spectrum()

    return guarded(measured)
