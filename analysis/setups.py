"""The figures of one table: every set-up drawn, with its caption, as PNG and PDF."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from analysis import stopping
from analysis.budgets import draw_budgets
from analysis.bundle import draw_bundle
from analysis.captions import caption, lines_text, seeds_text
from analysis.conditioning import draw_conditioning, has_conditioning
from analysis.curves import split
from analysis.effective import draw_effective, has_effective
from analysis.labels import AXIS_TITLES, OWN_SETTINGS, QUANTITIES, legend_of, plain, sentence, title_of, x_title
from analysis.layout import Layout, layout_of
from analysis.maps import LEVEL, draw_maps, longest, map_of
from analysis.names import file_stem
from analysis.panels import draw, panels_of
from analysis.peaks import BUDGETS
from analysis.style import SCREEN, Drawing, Look, save, save_print, sheet
from analysis.tuning import TUNING_CAPTION, draw_tuning, has_tuning

MAX_LINES = 8
"""More lines than this are spread over several figures."""

MAX_COLUMNS = 4
"""More settings than this are spread over several figures of budgets."""

FEW_BUDGETS = 3
"""From so many budgets on, a crossing with a few settings has figures whose lines are budgets."""

MAX_MAPS = 6
"""More heat maps of one set-up than this are not drawn."""

FEWEST_STEPS = 5
"""Fewer logged steps than this are no curve along training."""

FEW_X = 6
"""Up to so many widths have a figure against epochs; as many as this have a heat map."""

EFFECTIVE_CAPTION = (
    "A point is a width. Effective parameters are n times the mean squared norm of the weights that a prediction gives "
    "to the training targets (Curth, Jeffares & van der Schaar 2023)."
)

CONDITIONING_CAPTION = "Solid: at the end of training. Dashed: at its start. The Hessian is its Gauss-Newton part."

CARD = Look(width=5.2, panels=("test_loss",), titled=False)
"""The one panel that stands for a table in the report."""

Piece = tuple[dict[str, object], Figure, str]
"""What a figure's file name says, the figure, its caption."""


def draw_table(rows: pd.DataFrame, name: str, folder: Path, curves: pd.DataFrame | None = None) -> list[Drawing]:
    """Draw every set-up of one table, PNG and PDF of each figure.

    Args:
        rows: the table's runs.
        name: the table, which the files' names begin with.
        folder: where the files go.
        curves: logged steps with their runs' columns; they give heat maps and figures against epochs.
    """
    with sheet():
        return [
            Drawing(save(figure, folder / file_stem(name, values)), f"{words} {OWN_SETTINGS}")
            for values, figure, words in _every(rows, curves, _figures)
        ]


def draw_card(rows: pd.DataFrame, name: str, folder: Path, curves: pd.DataFrame | None = None) -> Drawing | None:
    """Draw the panel that stands for a table, at the largest label noise; None where no run is finished."""
    noisiest = rows[rows["label_noise"] == rows.loc[rows["status"] == "ok", "label_noise"].max()]
    with sheet():
        pieces = _every(noisiest, curves, partial(main_figures, look=CARD))
        for values, figure, words in pieces:
            return Drawing(save(figure, folder / file_stem(name, values | {"card": ""})), f"{words} {OWN_SETTINGS}")
    return None


def draw_paper(
    rows: pd.DataFrame, name: str, folder: Path, look: Look, suffix: str, curves: pd.DataFrame | None = None
) -> list[tuple[Path, str]]:
    """Draw the panels of every set-up for print.

    Args:
        rows: the table's runs.
        name: the table, which the files' names begin with.
        folder: where the files go.
        look: width, panels, title.
        suffix: ``pdf``, ``svg`` or ``pgf``.
        curves: logged steps with their runs' columns; they give figures against epochs.

    Returns:
        Each file with its caption; none where no run is finished, or none has one of the panels.
    """
    written = []
    with sheet():
        for values, figure, words in _every(rows, curves, partial(main_figures, look=look)):
            path = folder / f"{file_stem(name, values)}.{suffix}"
            save_print(figure, path)
            written.append((path, words))
    return written


Draw = Callable[[pd.DataFrame, Layout, pd.DataFrame], Iterator[Piece]]


def _every(rows: pd.DataFrame, curves: pd.DataFrame | None, drawn: Draw) -> Iterator[Piece]:
    """The figures of every set-up of a table."""
    layout = layout_of(rows)
    for fixed, members in split(rows, layout.panel_axes):
        if (members["status"] == "ok").any():
            for kind, figure, words in drawn(members, layout, _within(curves, fixed)):
                yield fixed | kind, figure, words


def _within(curves: pd.DataFrame | None, values: Mapping[str, object]) -> pd.DataFrame:
    """Logged steps of the runs that have these values."""
    if curves is None or curves.empty:
        return pd.DataFrame()
    chosen = curves
    for key, value in values.items():
        if key in curves:  # a column without any value is not carried
            chosen = chosen[chosen[key].isna() if pd.isna(value) else chosen[key] == value]
    return chosen


def main_figures(rows: pd.DataFrame, layout: Layout, curves: pd.DataFrame, look: Look = SCREEN) -> Iterator[Piece]:
    """What a set-up is about: the panels along x, and along training where there are few widths.

    Panels of a look that the rows do not have are left out, and figures that would have none.
    """
    title = title_of(rows, layout.x)
    if layout.crowded:
        if look.panels is None or panels_of(rows, layout.x, look):
            figure = draw_bundle(rows, title, layout.line_axes, layout.x, look)
            yield {}, figure, caption(figure, title, x_title(rows, layout.x), BUNDLE_CAPTION)
        return
    for more, part, left in _parts(rows, layout):
        if panels_of(part, layout.x, look):
            fixed = _with(title, more)
            figure = draw(part, fixed, left, layout.x, look)
            yield (
                more,
                figure,
                caption(figure, fixed, x_title(part, layout.x), lines_text(part, left), seeds_text(part)),
            )
    if len(curves) and layout.x == "width":
        yield from _along_training(curves, title, _own(rows, layout), look)


BUNDLE_CAPTION = (
    "Every curve of the crossing, a median over seeds, coloured by its train loss at the threshold; grey where that is "
    "not known."
)


def _own(rows: pd.DataFrame, layout: Layout) -> list[str]:
    return [a for a in layout.line_axes if a == "optimizer" or rows[a].nunique(dropna=False) > 1]


def _parts(rows: pd.DataFrame, layout: Layout) -> Iterator[tuple[dict[str, object], pd.DataFrame, list[str]]]:
    """Parts of a set-up with few enough lines: what each fixes, its rows, the axes of its lines."""
    own = _own(rows, layout)
    for more, part in _within_limit(rows, own):
        if (part["status"] == "ok").any():
            yield more, part, [a for a in own if a not in more] or ["optimizer"]


def _with(title: str, more: Mapping[str, object]) -> str:
    return f"{title}, {legend_of(more)}" if more else title


def _figures(rows: pd.DataFrame, layout: Layout, curves: pd.DataFrame) -> Iterator[Piece]:
    """All figures of one set-up."""
    title = title_of(rows, layout.x)
    own = _own(rows, layout)
    if layout.crowded:
        yield from main_figures(rows, layout, curves)
        yield from _budget_figures(rows, title, layout)
        return
    if len(rows[own].drop_duplicates()) > MAX_LINES:
        yield from _budget_figures(rows, title, layout)
    yield from main_figures(rows, layout, curves)
    for more, part, left in _parts(rows, layout):
        fixed = _with(title, more)
        lines = lines_text(part, left)
        if layout.x == "width" and has_effective(part):
            figure = draw_effective(part, fixed, left)
            yield (
                more | {"effective": ""},
                figure,
                caption(figure, fixed, "effective parameters", lines, EFFECTIVE_CAPTION),
            )
        if stopping.has_stopping(part, left):
            figure = stopping.draw_stopping(part, fixed, left, layout.x)
            against = f"{x_title(part, layout.x)}, with and without early stopping"
            yield more | {"stopping": ""}, figure, caption(figure, fixed, against, stopping.CAPTION, seeds_text(part))
        if has_conditioning(part):
            figure = draw_conditioning(part, fixed, left, layout.x)
            against = f"{x_title(part, layout.x)}, measured in full"
            yield (
                more | {"conditioning": ""},
                figure,
                caption(figure, fixed, against, lines, seeds_text(part), CONDITIONING_CAPTION),
            )
    if layout.x == "width" and "optimizer_penalty" in own and rows["width"].nunique() > 1:
        yield from _penalty_maps(rows, title, [a for a in own if a != "optimizer_penalty"])
    if has_tuning(curves, own):
        figure = draw_tuning(curves, title, layout.x)
        against = f"{x_title(rows, layout.x)}, tuned on samples held out"
        yield {"tuning": ""}, figure, caption(figure, title, against, TUNING_CAPTION, seeds_text(curves))
    if len(curves) and layout.x == "width":
        yield from _training_maps(curves, title, own)


def _budget_figures(rows: pd.DataFrame, title: str, layout: Layout) -> Iterator[Piece]:
    """Lines are budgets, columns all else, where that is a few settings at several budgets."""
    varying = [a for a in layout.line_axes if rows[a].nunique(dropna=False) > 1]
    budget = next((a for a in varying if a in BUDGETS), None)
    settings = [a for a in varying if a != budget]
    if budget is None or rows[budget].isna().any() or rows[budget].nunique() < FEW_BUDGETS:
        return
    if not settings or len(rows[settings].drop_duplicates()) > MAX_LINES:
        return
    for more, part in _within_limit(rows, settings, MAX_COLUMNS):
        if (part["status"] == "ok").any():
            left = [a for a in settings if a not in more] or settings
            fixed = _with(title, more)
            figure = draw_budgets(part, fixed, budget, left, layout.x)
            against = f"{x_title(part, layout.x)}, a column a setting"
            yield (
                more | {"budgets": ""}, figure,
                caption(figure, fixed, against, lines_text(part, [budget]), seeds_text(part)),
            )  # fmt: skip


def _penalty_maps(rows: pd.DataFrame, title: str, others: list[str]) -> Iterator[Piece]:
    swept = rows[rows["optimizer_penalty"] > 0]
    column = "test_error" if swept["test_error"].notna().any() else "test_loss"
    maps = [
        map_of(part, column, "optimizer_penalty", legend_of(values) if values else "")
        for values, part in split(swept, [a for a in others if swept[a].nunique(dropna=False) > 1])
        if (part["status"] == "ok").any() and part["optimizer_penalty"].nunique() > 1
    ]
    if 0 < len(maps) <= MAX_MAPS:
        figure = draw_maps(maps, title, column, "optimizer_penalty")
        yield {"map": ""}, figure, _map_caption(title, column, "optimizer_penalty")


def _trained(curves: pd.DataFrame, own: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Logged steps of the longest finished runs, with their axes; none where too few steps were logged."""
    axes = [a for a in own if a not in ("steps", "epochs") and a in curves]
    finished = longest(curves[curves["status"] == "ok"], axes)
    finished = finished[finished["epoch"] > 0]
    if finished.empty or finished.groupby([*axes, "width"], dropna=False)["epoch"].nunique().min() < FEWEST_STEPS:
        return finished[:0], axes
    return finished, axes


def _along_training(curves: pd.DataFrame, title: str, own: list[str], look: Look) -> Iterator[Piece]:
    """The panels against epochs, where there are few widths."""
    finished, axes = _trained(curves, own)
    widths = finished["width"].nunique()
    lines = [*axes, "width"] if widths > 1 else axes or ["optimizer"]
    if (
        0 < widths <= FEW_X
        and len(finished[lines].drop_duplicates()) <= MAX_LINES
        and panels_of(finished, "epoch", look)
    ):
        shown = [a for a in lines if finished[a].nunique(dropna=False) > 1] or ["width"]
        figure = draw(finished, title, shown, "epoch", look)
        yield (
            {"epochs": ""},
            figure,
            caption(figure, title, "epochs of training", lines_text(finished, shown), seeds_text(finished)),
        )


def _training_maps(curves: pd.DataFrame, title: str, own: list[str]) -> Iterator[Piece]:
    """Heat maps over width and epoch, where there are several widths."""
    finished, axes = _trained(curves, own)
    parts = [(v, p) for v, p in split(finished, axes) if p["width"].nunique() >= min(FEW_X, 5)] if len(finished) else []
    if 0 < len(parts) <= MAX_MAPS:
        column = "test_error" if finished["test_error"].notna().any() else "test_loss"
        maps = [map_of(part, column, "epoch", legend_of(values) if values else "") for values, part in parts]
        figure = draw_maps(maps, title, column, "epoch")
        yield {"map": ""}, figure, _map_caption(title, column, "epoch", "Logged steps of the longest runs.")


def _map_caption(title: str, column: str, y: str, more: str = "") -> str:
    name = QUANTITIES[column].partition(" (")[0]
    first = f"{sentence(title)}: heat map of the median {name} over width and {AXIS_TITLES[y]}."
    return " ".join([first, *filter(None, [more]), f"White: where the median train loss is {plain(LEVEL)}."])


def _within_limit(
    rows: pd.DataFrame, axes: list[str], most: int = MAX_LINES
) -> list[tuple[dict[str, object], pd.DataFrame]]:
    """Split rows, by budgets first, until each figure has at most so many lines."""
    order = sorted(axes, key=lambda axis: axis not in BUDGETS)  # optimizers are compared at equal budgets
    for count in range(len(order) + 1):
        parts = list(split(rows, order[:count]))
        rest = order[count:]
        if not rest or all(part[rest].drop_duplicates().shape[0] <= most for _, part in parts):
            return parts
    raise AssertionError("unreachable: no axis is left")
