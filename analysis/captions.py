"""What a figure shows, in words that are read off the figure: its panels, its lines, and what each mark means."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from analysis.curves import FLOOR, SEEDS
from analysis.labels import axis_text, levels_text, plain, sentence
from analysis.style import BELOW, LIMIT, THEORY, THRESHOLD, is_marked

MARKS = {
    LIMIT: "Dashed: the minimum-norm solution on the same features.",
    THEORY: "Dash-dotted: random-matrix theory, with nothing fitted.",
    THRESHOLD: "Dotted: where the model can just fit the training set.",
    BELOW: f"Open triangles: values of at most {plain(FLOOR)}, which are rounding, or zero.",
}
"""What lines with these marks (``gid``) mean."""


def panels_text(figure: Figure) -> str:
    """The quantities that a figure's panels show, in their order, as words; units are left out."""
    names = dict.fromkeys(ax.get_ylabel().partition(" (")[0] for ax in figure.axes if ax.get_label() != "<colorbar>")
    return listed([name for name in names if name])


def listed(words: Sequence[str]) -> str:
    """Words as part of a sentence.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def lines_text(rows: pd.DataFrame, axes: Sequence[str]) -> str:
    """What tells the lines of a figure apart, with its values; empty where one line is all."""
    varying = [f"{axis_text(a)} ({levels_text(rows[a])})" for a in axes if rows[a].nunique(dropna=False) > 1]
    return f"A line for each value of {listed(varying)}." if varying else ""


def seeds_text(rows: pd.DataFrame) -> str:
    """What a line and its band are.

    >>> seeds_text(pd.DataFrame({"seed": [0, 0], "data_seed": [1, 1]}))
    'One seed.'
    """
    seeds = len(rows[list(SEEDS)].drop_duplicates())
    return f"Lines are medians over {seeds} seeds, bands their 10 % and 90 % quantiles." if seeds > 1 else "One seed."


def marks_text(figure: Figure) -> list[str]:
    """A sentence for each kind of mark that is in the figure."""
    return [words for gid, words in MARKS.items() if is_marked(figure.axes, gid)]


def caption(figure: Figure, title: str, against: str, *more: str) -> str:
    """The caption of a figure whose panels share an axis.

    Args:
        figure: as drawn.
        title: what is fixed.
        against: name of the axis that the panels share.
        more: further sentences; empty ones are left out.
    """
    first = f"{sentence(title)}: {panels_text(figure)} against {against}."
    return " ".join([first, *filter(None, more), *marks_text(figure)])
