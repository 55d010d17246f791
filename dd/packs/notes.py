"""What is worth a note about a run that is neither failed nor diverged: the column ``status_note``.

A note is ``kind: details``; several are joined by :data:`BETWEEN`, which no note contains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from dd.components.divisors import NEAR, Divisors
from dd.network import Network

BETWEEN = "; "

THIN = f"of deviation < {NEAR:.0%} of the median"


def note_of(network: Network, divisors: Divisors | None) -> str | None:
    """Notes about a network of one run; None if there are none.

    Args:
        network: the run's.
        divisors: of the network at the end of training.
    """
    run, inputs = network.run, network.problem.near_constant
    name = "batch norm" if network.deep else run.normalization.name
    units = "channels" if network.deep else "features" if run.model.frozen_features else "hidden units"
    notes = []
    if divisors is not None and divisors.dead:
        notes.append(
            f"dead units: {divisors.dead} of {divisors.count} {units}, of variance <= eps on the training set "
            f"({name} divides them by about sqrt(eps))"
        )
    if divisors is not None and divisors.near_constant:
        notes.append(
            f"near-constant features: {divisors.near_constant} of {divisors.count} {units}, {THIN} "
            f"({name} divides by it)"
        )
    if inputs:
        notes.append(
            f"near-constant inputs: {inputs} of {network.problem.inputs}, {THIN} (data.standardize=feature divides "
            "by it)"
        )
    return BETWEEN.join(notes) or None


def kinds(cells: Iterable[str | None]) -> Counter[str]:
    """How many runs have a note of each kind.

    Args:
        cells: the column ``status_note``.

    >>> kinds(["dead units: 2 of 9; near-constant inputs: 5 of 64", None, "dead units: 1 of 9"])
    Counter({'dead units': 2, 'near-constant inputs': 1})
    """
    return Counter(note.partition(":")[0] for cell in cells if cell for note in cell.split(BETWEEN))
