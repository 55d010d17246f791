"""``make figures``: test error and loss, train loss and condition number against width, for each table.

Reads parquet only. Colours are those of Okabe & Ito, or a sequential map for an ordered axis; both are safe for the
colour-blind.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.curves import FLOOR, LINE_AXES, PANEL_AXES, Band, band, label_of, split, varying_axes
from analysis.tables import UnreadableTable, load_runs, table_names

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
MARKERS = "osD^vP*X"
MAX_LINES = 8
"""More lines than this are spread over several figures."""

PANELS = (
    ("test_error", "test error (0-1)", "min_norm_test_error"),
    ("test_loss", "test loss", "min_norm_test_loss"),
    ("train_loss", "train loss", "min_norm_train_loss"),
    ("feature_condition", "condition number of the features", None),
)
NO_RESULTS = """\
no tables in {folder}/. These commands make some:
    make sweep                                                         the main job, with its figure
    python -m dd.run -m 'width=range(10,2000,50)' optimizer=sgd,adam   the same by hand; then: make figures"""


def colours(lines: Sequence[dict[str, object]]) -> list[Any]:
    """One colour a line: sequential for one ordered axis, else Okabe & Ito's."""
    axes = {key for values in lines for key in values}
    if len(axes) == 1 and len(lines) > 2 and all(isinstance(v, int | float) for x in lines for v in x.values()):
        return [mpl.colormaps["viridis"](x) for x in np.linspace(0, 0.88, len(lines))]
    return [OKABE_ITO[i % len(OKABE_ITO)] for i in range(len(lines))]


def _draw_band(ax: Axes, data: Band, colour: Any, marker: str) -> None:
    few = len(data.width) <= 25
    ax.plot(data.width, np.maximum(data.median, FLOOR), color=colour, marker=marker if few else None, mew=0, zorder=3)
    if data.seeds > 1:
        ax.fill_between(
            data.width,
            np.maximum(data.low, FLOOR),
            np.maximum(data.high, FLOOR),
            color=colour,
            alpha=0.18,
            lw=0,
        )


def _limits(ax: Axes, seen: list[np.ndarray]) -> None:
    values = np.concatenate([v[np.isfinite(v) & (v > 0)] for v in seen]) if seen else np.array([])
    if len(values):
        low, high = max(values.min(), FLOOR), max(values.max(), FLOOR)
        span = (high / low) ** 0.06
        ax.set_ylim(low / max(span, 1.1), high * max(span, 1.1))


def _plain(x: float, _: object = None) -> str:
    if not np.isfinite(x):
        return str(x)
    if 1e-3 <= x < 1e5:
        return f"{x:g}"
    power = int(np.floor(np.log10(x) + 1e-9))
    lead = x / 10.0**power
    return f"$10^{{{power}}}$" if abs(lead - 1) < 1e-6 else f"${lead:g}\\cdot10^{{{power}}}$"


def _short(x: float) -> str:
    return _plain(x) if abs(x) >= 1e5 else f"{x:g}"


def _same(bands: list[Band]) -> bool:
    """Whether all lines of a panel are one curve, as far as they have widths in common."""
    first = max(bands, key=lambda b: len(b.width))
    for other in bands:
        _, mine, theirs = np.intersect1d(first.width, other.width, return_indices=True)
        if not len(mine) or not np.allclose(first.median[mine], other.median[theirs], rtol=1e-6):
            return False
    return True


def draw(rows: pd.DataFrame, title: str, line_axes: list[str]) -> Figure:
    """Draw the four panels of one set-up.

    Args:
        rows: rows that differ in width, seeds and ``line_axes`` only.
        title: what is fixed.
        line_axes: axes whose combinations are lines.
    """
    groups = [(values, members) for values, members in split(rows, line_axes) if (members["status"] == "ok").any()]
    tones = colours([values for values, _ in groups])
    panels = [p for p in PANELS if rows[p[0]].notna().any()]
    has_limit = rows["min_norm_test_loss"].notna().any() and set(rows["optimizer"]) != {"min_norm"}
    figure, grid = plt.subplots(2, 2, figsize=(7.0, 5.6), sharex=True)
    axes = list(grid.flat)
    handles: list[Line2D] = []
    seeds = 0
    for ax, (column, name, limit_column) in zip(axes, panels, strict=False):
        bands = [band(members, column) for _, members in groups]
        seeds = max([seeds, *(b.seeds for b in bands)])
        if column == "feature_condition" and len(bands) > 1 and _same(bands):
            _draw_band(ax, max(bands, key=lambda b: len(b.width)), "black", "o")
            ax.set_title("the same for every line", loc="right", color="#555555", pad=2, fontsize=7)
        else:
            for i, data in enumerate(bands):
                _draw_band(ax, data, tones[i], MARKERS[i % len(MARKERS)])
        seen = [a for b in bands for a in (b.low, b.high)]
        if limit_column is not None and has_limit:
            seen += _draw_limit(ax, groups, tones, limit_column, column)
        ax.set(xscale="log", yscale="log", ylabel=name)
        _limits(ax, seen)
        _mark_diverged(ax, groups, tones)
        _mark_threshold(ax, rows, first=ax is axes[0])
        low, high = ax.get_ylim()
        if high / low < 50:  # one or two decades need more than powers of ten
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(FuncFormatter(_plain))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter(FuncFormatter(_plain))
        ax.xaxis.set_minor_formatter(NullFormatter())
        if rows["width"].nunique() == 1:
            at = float(rows["width"].iloc[0])
            ax.set_xlim(at / 2, at * 2)
    for ax in axes[len(panels) :]:
        ax.remove()
    for ax in axes[max(0, len(panels) - 2) : len(panels)]:
        ax.set_xlabel("width")
        ax.tick_params(labelbottom=True)
    few = rows["width"].nunique() <= 25
    for i, (values, _) in enumerate(groups):
        marker = MARKERS[i % len(MARKERS)] if few else None
        handles.append(Line2D([], [], color=tones[i], marker=marker, label=label_of(values, _short)))
    if has_limit:
        handles.append(Line2D([], [], color="black", ls="--", lw=1, label="min-norm limit"))
    if (rows["status"] == "diverged").any():
        handles.append(Line2D([], [], color="#555555", ls="", marker="x", label="diverged"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
    over = f"median and 10-90 % band over {seeds} seeds" if seeds > 1 else "one seed"
    figure.suptitle(f"{title}\n{over}", fontsize=8)
    return figure


def _draw_limit(
    ax: Axes, groups: list[tuple[dict[str, object], pd.DataFrame]], tones: list[Any], column: str, panel: str
) -> list[np.ndarray]:
    """Dashed min-norm limit: one for all lines, unless they see different features."""
    of_features = [key for key in groups[0][0] if key.startswith("normalization")]
    if of_features:
        limits = [(members, tones[i]) for i, (_, members) in enumerate(groups)]
    else:
        limits = [(pd.concat([members for _, members in groups]), "black")]
    seen = []
    for members, colour in limits:
        distinct = members.drop_duplicates(["width", "seed", "data_seed"]).assign(status="ok")
        data = band(distinct, column)
        values = np.where(data.median > FLOOR, data.median, np.nan)
        ax.plot(data.width, values, color=colour, ls="--", lw=1, zorder=2)
        seen.append(data.median)
    # the training loss of the limit falls to rounding; it must not stretch the axis
    return [] if panel == "train_loss" else seen


def _mark_diverged(ax: Axes, groups: list[tuple[dict[str, object], pd.DataFrame]], tones: list[Any]) -> None:
    for i, (_, members) in enumerate(groups):
        widths = members.loc[members["status"] == "diverged", "width"].unique()
        if len(widths):
            ax.plot(
                widths,
                np.full(len(widths), 0.98),
                "x",
                color=tones[i],
                transform=ax.get_xaxis_transform(),
                ms=4,
            )


def _mark_threshold(ax: Axes, rows: pd.DataFrame, *, first: bool) -> None:
    """Dotted vertical line where the model can just fit the training set."""
    for at in rows["interpolation_width"].dropna().unique():
        if not 0.9 * rows["width"].min() <= at <= 1.1 * rows["width"].max():
            continue
        ax.axvline(at, color="#555555", ls=":", lw=1, zorder=1)
        if first:
            ax.annotate(f"threshold {at:g}" if at == round(at) else f"threshold {at:.1f}", (at, 1.0),
                        xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points",
                        ha="center", va="bottom", fontsize=7, color="#555555")  # fmt: skip


def _title(rows: pd.DataFrame) -> str:
    """What all rows share, in words."""
    first = rows.iloc[0]
    model = first["model"].replace("_", " ")
    if isinstance(first.get("model_activation"), str):
        model += f" ({first['model_activation']})"
    parts = [first["data"].replace("_", " "), model, f"n = {first['n_train']}"]
    if first["label_noise"] > 0:
        parts.append(f"label noise {first['label_noise']:g}")
    if first["normalization"] != "none" and rows["normalization"].nunique() == 1:
        parts.append(first["normalization"].replace("_", " "))
    return ", ".join(parts)


def draw_table(rows: pd.DataFrame, name: str, folder: Path) -> list[Path]:
    """Draw every set-up of one table; returns the files written, PNG and PDF of each figure."""
    panel_axes = varying_axes(rows, PANEL_AXES, ("model_", "data_"))
    line_axes = varying_axes(rows, LINE_AXES, ("optimizer_", "normalization_", "init_"))
    if rows["optimizer"].nunique() == 1 and not line_axes:
        line_axes = ["optimizer"]
    written: list[Path] = []
    for fixed, members in split(rows, panel_axes):
        if not (members["status"] == "ok").any():
            continue
        own = [a for a in line_axes if a == "optimizer" or members[a].nunique(dropna=False) > 1]
        for more, part in _within_limit(members, own):
            if not (part["status"] == "ok").any():
                continue
            slug = "-".join([name, *(f"{k}={v}" for k, v in (fixed | more).items() if v == v)])
            stem = folder / re.sub(r"[^\w.=+-]+", "_", slug)
            with plt.style.context(Path(__file__).parent / "paper.mplstyle"):
                figure = draw(part, _title(part), [a for a in own if a not in more] or ["optimizer"])
                for suffix in (".png", ".pdf"):
                    figure.savefig(stem.with_name(stem.name + suffix))
                    written.append(stem.with_name(stem.name + suffix))
                plt.close(figure)
    return written


def _within_limit(rows: pd.DataFrame, axes: list[str]) -> list[tuple[dict[str, object], pd.DataFrame]]:
    """Split rows by leading axes until each figure has at most ``MAX_LINES`` lines."""
    for count in range(len(axes) + 1):
        parts = list(split(rows, axes[:count]))
        rest = axes[count:]
        if not rest or all(part[rest].drop_duplicates().shape[0] <= MAX_LINES for _, part in parts):
            return parts
    raise AssertionError("unreachable: no axis is left")


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw every table; returns 0, or 1 with a message where there is nothing to draw."""
    parser = argparse.ArgumentParser(prog="python -m analysis.figures", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the tables")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder for the figures")
    parser.add_argument("--name", nargs="*", help="tables to draw; all by default")
    options = parser.parse_args(arguments)
    names = [n for n in table_names(options.results) if not options.name or n in options.name]
    if not names:
        print(NO_RESULTS.format(folder=options.results), file=sys.stderr)
        return 1
    options.out.mkdir(parents=True, exist_ok=True)
    for name in names:
        try:
            rows = load_runs(options.results, name)
        except UnreadableTable as error:
            print(f"figures: {error}", file=sys.stderr)
            return 1
        written = draw_table(rows, name, options.out)
        if not written:
            print(f"{name}: no finished run to draw")
        for path in written:
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
