"""Scatter figures: peak height against train loss over all conditions, and condition number against steps needed."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.conditions import LOSS_FLOOR, trained_features
from analysis.curves import FLOOR, SEEDS, axis_columns
from analysis.labels import family_of, plain, value_text
from analysis.style import BELOW, GREY, MARKERS, OKABE_ITO, log_ticks, subplots

NAMED = 5
"""Violators with a number and a name in each panel."""

RING = 55
"""Area of the ring around a violator, square points."""

HEIGHT = "height over the valleys, ln"
"""What the height of a condition is: at the threshold it is negative where a curve falls all along."""

DECISIONS = ("peak", "undecided", "no peak")

Cell = tuple[str, bool]
"""A family of conditions, and whether its labels are noisy."""


def _looks(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each name; beyond the colours' number the pairs differ."""
    return {
        name: (OKABE_ITO[i % len(OKABE_ITO)], MARKERS[(i + i // len(OKABE_ITO)) % len(MARKERS)])
        for i, name in enumerate(names)
    }


def cells_of(conditions: pd.DataFrame) -> list[Cell]:
    """Families and label noises that have a condition to draw, clean labels first."""
    known = conditions.dropna(subset=["train_loss", "height"])
    found = {(str(f), bool(n)) for f, n in zip(known["family"], known["noisy"], strict=True)}
    return sorted(found)


def draw_summary(
    conditions: pd.DataFrame,
    half: Mapping[Cell, float] | None = None,
    violators: pd.DataFrame | None = None,
) -> Figure:
    """Draw peak height against train loss at the threshold: a mark a condition, a panel a family with or without noise.

    Args:
        conditions: one row a condition, with ``family``, ``noisy``, ``factor``, ``train_loss`` at the threshold,
            ``height`` of the peak (natural logarithm), ``decision`` and ``condition``; rows that lack a number are left
            out.
        half: train loss at which half of a panel's conditions have a peak: its vertical line.
        violators: rows of ``conditions``, most striking first: they are ringed, and the first few named.

    Raises:
        ValueError: no condition has both numbers.
    """
    cells = cells_of(conditions)
    if not cells:
        raise ValueError("no condition has both a train loss at the threshold and a height")
    families, noises = sorted({f for f, _ in cells}), sorted({n for _, n in cells})
    rings = {cell: _within(violators, cell) for cell in cells}
    lines_of_key = [max(min(len(rings[c]), NAMED + 1) for c in cells if c[0] == f) for f in families]
    # below each line of panels lies the key to its ringed marks
    ratios = [part for n in lines_of_key for part in (2.6, 0.05 + 0.14 * n)]
    figure = Figure(figsize=(7.0 if len(noises) > 1 else 4.6, 1.0 + sum(ratios)))
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2 * len(families), len(noises), height_ratios=ratios)
    looks = _looks(sorted(conditions["factor"].astype(str).unique()))
    first: Axes | None = None
    beside: dict[str, Axes] = {}
    panels: dict[Cell, Axes] = {}
    for family, noisy in cells:
        cell, line, column = (family, noisy), families.index(family), noises.index(noisy)
        ax = figure.add_subplot(grid[2 * line, column], sharex=first, sharey=beside.get(family))
        first = first or ax
        _draw_cell(ax, _within(conditions, cell), looks, (half or {}).get(cell))
        words = f"{family_of(family)}, {'noisy' if noisy else 'clean'} labels"
        ax.set_title("\n".join(textwrap.wrap(words, 44)), fontsize=7)
        ax.set_xlabel("train loss at the threshold")
        if family not in beside:
            ax.set_ylabel(HEIGHT)
        beside.setdefault(family, ax)
        panels[cell] = ax
    assert first is not None
    first.set_xscale("log")
    known = conditions.dropna(subset=["train_loss", "height"])["train_loss"].clip(lower=FLOOR)
    span = max((known.max() / known.min()) ** 0.05, 1.2)
    first.set_xlim(known.min() / span, known.max() * span)
    clipped = bool((known <= LOSS_FLOOR).any())
    log_ticks(first.xaxis, *first.get_xlim(), most=6, floor=LOSS_FLOOR if clipped else None)
    for cell, ax in panels.items():
        key = figure.add_subplot(grid[2 * families.index(cell[0]) + 1, noises.index(cell[1])])
        key.axis("off")
        _name(ax, key, rings[cell], _within(conditions, cell))
    handles = _legend(conditions, looks, half, violators)
    figure.legend(handles=handles, loc="outside lower center", ncols=4 if len(noises) > 1 else 2)
    return figure


def _within(conditions: pd.DataFrame | None, cell: Cell) -> pd.DataFrame:
    if conditions is None:
        return pd.DataFrame()
    known = conditions.dropna(subset=["train_loss", "height"])
    return known[(known["family"] == cell[0]) & (known["noisy"] == cell[1])]


def _draw_cell(ax: Axes, rows: pd.DataFrame, looks: Mapping[str, tuple[str, str]], half: float | None) -> None:
    for factor, members in rows.groupby(rows["factor"].astype(str)):
        colour, marker = looks[factor]
        for decision in DECISIONS:
            part = members[members["decision"] == decision]
            if len(part):
                ax.scatter(part["train_loss"].clip(lower=FLOOR), part["height"], s=16, marker=marker, zorder=3,
                           **_fill(colour, decision))  # fmt: skip
    floored = rows[rows["train_loss"] <= LOSS_FLOOR]
    if len(floored):
        # arrows to the left: the train loss there is this or less
        at = floored["train_loss"].clip(lower=FLOOR)
        ax.plot(at, floored["height"], ls="", marker="<", color="black", ms=3, gid=BELOW, zorder=5)
    if half is not None:
        ax.axvline(half, color=GREY, ls="--", lw=1, zorder=1)
        ax.annotate(f"half have a peak: {plain(half)}", (half, 1.0), xycoords=("data", "axes fraction"),
                    xytext=(-3, -2), textcoords="offset points", rotation=90, ha="right", va="top", fontsize=7,
                    color=GREY)  # fmt: skip


def _fill(colour: str, decision: str) -> dict[str, Any]:
    """Full for a peak, pale for undecided, open for none."""
    face = {"peak": (colour, 0.9), "undecided": (colour, 0.3)}.get(decision, "none")
    return {"facecolors": face, "edgecolors": colour, "linewidths": 0.7}


def _name(ax: Axes, key: Axes, rows: pd.DataFrame, others: pd.DataFrame) -> None:
    """Rings around violators; numbers beside the first few, away from all marks, their names in the key below."""
    if rows.empty:
        return
    x, y = rows["train_loss"].clip(lower=FLOOR).to_numpy(), rows["height"].to_numpy()
    ax.scatter(x, y, s=RING, facecolors="none", edgecolors="black", linewidths=0.8, zorder=4)
    marks = np.column_stack([others["train_loss"].clip(lower=FLOOR), others["height"]])
    names = []
    for i, (label, where) in enumerate(zip(rows["condition"].head(NAMED), _spread(ax, x, y, marks), strict=False)):
        ax.annotate(str(i + 1), (x[i], y[i]), xytext=where, textcoords="offset points", ha="center", va="center",
                    fontsize=7, fontweight="bold", zorder=5,
                    arrowprops={"arrowstyle": "-", "lw": 0.4, "color": GREY, "shrinkA": 3, "shrinkB": 4})  # fmt: skip
        names.append(f"{i + 1}  " + textwrap.shorten(str(label), 60, placeholder=" …"))
    more = len(rows) - len(names)
    text = "\n".join(names) + (f"\n… and {more} more, listed in the report" if more > 0 else "")
    key.text(0, 1, text, fontsize=7, va="top", transform=key.transAxes, linespacing=1.3, in_layout=False)


def _spread(ax: Axes, x: np.ndarray, y: np.ndarray, marks: np.ndarray) -> list[tuple[float, float]]:
    """Offsets in points for the first few numbers: as far as may be from the marks and from the numbers before."""

    def place(points: np.ndarray) -> np.ndarray:
        # a panel is about 200 x 150 points; its exact size is known after the layout only
        (left, right), (bottom, top) = np.log(ax.get_xlim()), ax.get_ylim()
        return (np.column_stack([np.log(points[:, 0]), points[:, 1]]) - (left, bottom)) / (
            right - left, top - bottom) * (200, 150)  # fmt: skip

    points, taken, numbers = place(np.column_stack([x, y])), place(marks), np.empty((0, 2))
    angles = np.arange(16) * np.pi / 8 + np.pi / 4
    candidates = np.concatenate([r * np.column_stack([np.cos(angles), np.sin(angles)]) for r in (11, 18, 26)])
    offsets = []
    for point in points[:NAMED]:
        places = point + candidates
        # a number over a mark is hard to read, one over another number cannot be read
        gap = np.minimum(_nearest(places, taken), 8) + 3 * np.minimum(_nearest(places, numbers), 10)
        best = int(np.argmax(gap - 0.1 * np.linalg.norm(candidates, axis=1)))
        offsets.append((float(candidates[best, 0]), float(candidates[best, 1])))
        numbers = np.vstack([numbers, places[best]])
    return offsets


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of each point to the nearest of the others, infinite without any."""
    return np.linalg.norm(points[:, None] - others[None], axis=2).min(axis=1, initial=np.inf)


def _legend(
    conditions: pd.DataFrame,
    looks: Mapping[str, tuple[str, str]],
    half: Mapping[Cell, float] | None,
    violators: pd.DataFrame | None,
) -> list[Line2D]:
    handles = [
        Line2D([], [], ls="", marker=marker, color=colour, ms=4, label=value_text(factor))
        for factor, (colour, marker) in looks.items()
    ]
    for decision in DECISIONS:
        if (conditions["decision"] == decision).any():
            face = {"peak": GREY, "undecided": (GREY, 0.3)}.get(decision, "none")
            handles.append(Line2D([], [], ls="", marker="o", mec=GREY, mfc=face, ms=4, label=decision))
    if half:
        handles.append(Line2D([], [], color=GREY, ls="--", lw=1, label="half of the conditions have a peak"))
    if violators is not None and len(violators):
        handles.append(Line2D([], [], ls="", marker="o", mec="black", mfc="none", ms=7, label="violates the claim"))
    return handles


def steps_needed(rows: pd.DataFrame, curves: pd.DataFrame, level: float, nearness: float = 0.06) -> pd.DataFrame:
    """How many updates each run at the threshold needs until its train loss is down at a level.

    Of one set-up with several step sizes or budgets the fastest run counts.

    Args:
        rows: runs.
        curves: logged steps: ``run_id``, ``step``, ``train_loss``.
        level: train loss.
        nearness: how far, in natural logarithm, a width may be from ``interpolation_width``.

    Returns:
        One row a run that gets there: ``run_id``, ``optimizer``, ``steps`` (interpolated in log-log between logged
        steps), ``hessian`` (its condition number: ``hessian_condition``, else, of frozen features, the square of
        ``feature_condition``) and ``preconditioned`` (the same as the optimizer sees it); null where there is no such
        number, and runs without either are left out.
    """
    names = ["run_id", "optimizer", "steps", "hessian", "preconditioned"]
    near = (np.log(rows["width"] / rows["interpolation_width"]).abs() <= nearness) & (rows["status"] == "ok")
    good = rows[near & rows["steps"].notna()].drop_duplicates("run_id", keep="last")
    if good.empty or curves.empty:
        return pd.DataFrame(columns=names)
    steps = curves[curves["run_id"].isin(good["run_id"]) & (curves["step"] > 0)].sort_values(["run_id", "step"])
    log_step, log_loss = np.log(steps["step"]), np.log(steps["train_loss"].clip(lower=np.finfo(float).tiny))
    owner = steps["run_id"]
    before_step, before_loss = log_step.groupby(owner).shift(), log_loss.groupby(owner).shift()
    # a run that is there at its first logged step says nothing about how long it took
    crossing = (steps["train_loss"] <= level) & (before_loss > np.log(level))
    first = steps.index[crossing & ~crossing.groupby(owner).cumsum().gt(1)]
    share = (before_loss[first] - np.log(level)) / (before_loss[first] - log_loss[first])
    needed = np.exp(before_step[first] + share * (log_step[first] - before_step[first]))
    reached = pd.DataFrame({"run_id": owner[first], "steps": needed})
    found = good.rename(columns={"steps": "budget"}).merge(reached, on="run_id").sort_values("steps", kind="stable")
    hessian = found["hessian_condition"].where(found["hessian_condition"].notna(), found["feature_condition"] ** 2)
    hessian = hessian.where(found["hessian_condition"].notna() | ~trained_features(found))
    # a column without any number is one of objects
    found = found.assign(hessian=hessian.astype(float), preconditioned=found["preconditioned_condition"].astype(float))
    set_up = [c for c in (*axis_columns(found), *SEEDS) if c not in ("lr", "lr_unit", "steps")]
    found = found.drop_duplicates(set_up)[names].dropna(subset=["hessian", "preconditioned"], how="all")
    return found.reset_index(drop=True)


def draw_steps(needed: pd.DataFrame, level: float) -> Figure:
    """Draw the number of updates until a train loss against the condition number, a mark a run, both logarithmic.

    Args:
        needed: what :func:`steps_needed` gives, at least one row.
        level: train loss, for the label.
    """
    figure, grid = subplots(1, 2, figsize=(7.0, 3.3), sharey=True)
    axes = grid[0]
    looks = _looks(sorted(needed["optimizer"].unique()))
    panels = (
        ("hessian", "condition number κ(H) of the Hessian", (1.0, 0.5)),
        ("preconditioned", "the same as the optimizer sees it", (1.0,)),
    )
    for ax, (column, name, slopes) in zip(axes, panels, strict=True):
        known = needed[np.isfinite(needed[column])]
        for optimizer, members in known.groupby("optimizer"):
            colour, marker = looks[optimizer]
            ax.scatter(members[column], members["steps"], s=14, color=colour, marker=marker, lw=0, alpha=0.8, zorder=3)
        ax.set(xscale="log", yscale="log", xlabel=name)
        if len(known):
            _guides(ax, known[column].to_numpy(), known["steps"].to_numpy(), slopes)
            low, high = known[column].quantile([0.01, 0.99])
            beyond = int((known[column] > 3 * high).sum())
            if beyond:  # raw inputs have condition numbers far beyond all others
                ax.set_xlim(low / 3, 3 * high)
                ax.set_title(f"{beyond} runs lie beyond the right edge", fontsize=7, color=GREY)
        else:
            ax.annotate("no run has such a number", (0.5, 0.5), xycoords="axes fraction", ha="center", color=GREY)
        log_ticks(ax.xaxis, *ax.get_xlim(), most=6)
    low, high = needed["steps"].min(), needed["steps"].max()
    span = max((high / low) ** 0.08, 1.5)
    axes[0].set(ylim=(low / span, high * span), ylabel=f"steps until train loss {plain(level)}")
    log_ticks(axes[0].yaxis, *axes[0].get_ylim())
    handles = [
        Line2D([], [], ls="", marker=marker, color=colour, ms=4, label=value_text(name))
        for name, (colour, marker) in looks.items()
    ]
    handles.append(Line2D([], [], color=GREY, ls="-", lw=0.8, label="T ∝ κ(H), for features κ(Z)²"))
    handles.append(Line2D([], [], color=GREY, ls="--", lw=0.8, label="T ∝ √κ(H): accelerated"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _guides(ax: Axes, x: np.ndarray, y: np.ndarray, slopes: Sequence[float]) -> None:
    """Lines of given slopes through the median point."""
    span = max((x.max() / x.min()) ** 0.08, 1.5)
    ends = np.array([x.min() / span, x.max() * span])
    for slope, style in zip(slopes, ("-", "--"), strict=False):
        ax.plot(ends, np.median(y) * (ends / np.median(x)) ** slope, color=GREY, ls=style, lw=0.8, zorder=1)
    ax.set_xlim(*ends)
