"""Bias and variances of a table's test loss, and of ensembles (:mod:`analysis.components`), with their figure."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.captions import caption
from analysis.components import estimate, resampled
from analysis.curves import LINE_AXES, PANEL_AXES, split, varying_axes
from analysis.labels import OWN_SETTINGS, data_text, legend_of, value_text, x_title
from analysis.names import file_stem
from analysis.style import OKABE_ITO, THRESHOLD, Drawing, save, sheet, subplots
from analysis.tables import UnreadableTable, load_predictions, load_runs, load_targets, table_names

PARTS = ("bias_squared", "variance_data", "variance_init", "variance_interaction")
OPTIONS = ("model_", "data_", "init_", "normalization_", "optimizer_", "schedule_")

LEVEL = 0.9
"""Share of the resamples that an interval holds."""

COLUMNS = 4
"""Set-ups in one figure at most."""

CAPTION = (
    "Parts of the test loss are squared bias, variance from the training data, from features or initialization, and "
    "their interaction. An ensemble averages the outputs of its members. Bands are 90 % intervals; estimates whose "
    "interval reaches zero are left out."
)


class NotCrossed(Exception):
    """No curve point of a table has the runs that a decomposition needs."""


def decompose(results_dir: Path, name: str) -> pd.DataFrame:
    """Decompose the test loss at every curve point of a table that has a complete cross of data seeds and seeds.

    A point is what is left when all axes but ``seed`` and ``data_seed`` are fixed. Points with runs that failed or
    diverged, with less than two data seeds or seeds, or with combinations missing are left out.

    Returns:
        One row a point: its axes, ``interpolation_width``, ``data_seeds``, ``seeds``; ``bias_squared``,
        ``variance_data``, ``variance_init``, ``variance_interaction``, their sum ``test_loss`` and ``ensemble_limit``,
        each with ``_low`` and ``_high`` (5 % and 95 % of :func:`analysis.components.resampled`); ``ensemble_<K>``, the
        test loss of ensembles of K seeds, up to all of them.

    Raises:
        NotCrossed: there is no such point, or the test targets of one differ.
        UnreadableTable: a part is no parquet file.
    """
    rows = load_runs(results_dir, name)
    rows = rows.merge(load_predictions(results_dir, name), on="run_id")
    rows = rows[(rows["loss"] == "mse") & (rows["status"] != "failed")]
    targets = load_targets(results_dir, name)
    # the seed of the test set is null for the run whose data seed is the same
    rows = rows.assign(test_seed=rows["test_seed"].fillna(rows["data_seed"]))
    axes = [*varying_axes(rows, PANEL_AXES + LINE_AXES, OPTIONS), "n_test", "test_seed", "width"]
    found = [
        _point(members, targets) for _, members in rows.groupby(axes, dropna=False, sort=True) if _crossed(members)
    ]
    if not found:
        raise NotCrossed(
            f"{name}: no curve point has the test outputs of at least two data seeds, on one test set, crossed with "
            "two seeds; sweep with measure.predictions=true data.test_seed=0 'data.seed=range(0,10)' 'seed=range(0,10)'"
        )
    kept = [c for c in rows if c in ("width", "interpolation_width", *PANEL_AXES, *LINE_AXES) or c.startswith(OPTIONS)]
    provenance = ("data_seed", "data_source", "data_sha256", "data_content")
    kept = [c for c in kept if rows[c].notna().any() and c not in provenance]
    table = pd.DataFrame([{c: first[c] for c in kept} | values for first, values in found])
    return table.reset_index(drop=True)


def _crossed(members: pd.DataFrame) -> bool:
    """Whether the runs of a point are a complete cross of at least two data seeds and two seeds."""
    data_seeds, seeds = members["data_seed"].nunique(), members["seed"].nunique()
    complete = len(members) == data_seeds * seeds and not members.duplicated(["data_seed", "seed"]).any()
    return bool(complete and min(data_seeds, seeds) >= 2 and (members["status"] == "ok").all())


def _point(members: pd.DataFrame, targets: dict[str, np.ndarray]) -> tuple[pd.Series, dict[str, float]]:
    """One row of the cross, and the point's numbers."""
    members = members.sort_values(["data_seed", "seed"])
    first = members.iloc[0]
    if members["targets_id"].nunique() > 1:
        raise NotCrossed(
            f"{first['name']}: the test targets at width {first['width']} differ between data seeds "
            "(data.targets=linear fits them anew for each)"
        )
    outputs = np.stack(list(members["predicted"])).astype(np.float64)
    errors = outputs - targets[first["targets_id"]]
    shape = (members["data_seed"].nunique(), members["seed"].nunique())
    errors = errors.reshape(*shape, -1)
    got, spread = estimate(errors), resampled(errors)
    values: dict[str, float] = {"data_seeds": shape[0], "seeds": shape[1]}
    quantities = {key: (getattr(got, key), getattr(spread, key)) for key in (*PARTS, "test_loss")}
    quantities["ensemble_limit"] = (got.ensemble_loss(np.inf), spread.ensemble_loss(np.inf))
    for key, (value, draws) in quantities.items():
        low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        values |= {key: float(value[0]), f"{key}_low": float(low), f"{key}_high": float(high)}
    return first, values | {f"ensemble_{k}": float(got.ensemble_loss(k)[0]) for k in range(1, shape[1] + 1)}


LABELS = {
    "test_loss": ("test loss", "black"),
    "bias_squared": ("bias²", OKABE_ITO[0]),
    "variance_data": ("variance: training data", OKABE_ITO[1]),
    "variance_init": ("variance: features, initialization", OKABE_ITO[2]),
    "variance_interaction": ("variance: interaction", OKABE_ITO[3]),
}

ENSEMBLES = (1, 2, 5, 10, 20, 50, 100)
"""Ensembles that are drawn, as far as there are seeds."""


def draw_decomposition(table: pd.DataFrame, x: str = "width") -> Figure:
    """Draw the parts of the test loss, and the test loss of ensembles, against width or another axis.

    Bands are the 90 % intervals. Estimates whose interval reaches zero are left out: the axis is logarithmic.

    Args:
        table: of :func:`decompose`; each set-up (what differs but for ``x``) has its column of panels.
        x: axis of the points.
    """
    own = ["width", *varying_axes(table, PANEL_AXES + LINE_AXES, OPTIONS)]
    groups = list(split(table, [a for a in own if a != x and table[a].nunique(dropna=False) > 1]))
    figure, grid = subplots(2, len(groups), figsize=(1.0 + 3.0 * len(groups), 5.0), sharex=True, sharey="row")
    for i, (values, members) in enumerate(groups):
        members = members.sort_values(x)
        above, below = grid[:, i]
        for key, (label, colour) in LABELS.items():
            _draw_line(above, members, x, key, colour, label)
        sizes = [k for k in ENSEMBLES if f"ensemble_{k}" in members and members[f"ensemble_{k}"].notna().any()]
        tones = mpl.colormaps["viridis"](np.linspace(0, 0.88, len(sizes)))
        for k, tone in zip(sizes, tones, strict=True):
            _draw_line(below, members, x, f"ensemble_{k}", tone, f"ensemble of {k}" if k > 1 else "single run")
        _draw_line(below, members, x, "ensemble_limit", "black", "limit of ensembles", style="--")
        if x == "width":
            for ax in (above, below):
                for at in members["interpolation_width"].dropna().unique():
                    ax.axvline(at, color="#555555", ls=":", lw=1, zorder=1, gid=THRESHOLD)
        above.set_title(legend_of(values) if values else "")
        below.set_xlabel(x.replace("_", " "))
    largest, smallest = table["test_loss"].max(), table["test_loss"].min()
    grid[0, 0].set(xscale="log", yscale="log", ylabel="part of the test loss", ylim=(smallest / 300, largest * 2))
    grid[1, 0].set(xscale="log", yscale="log", ylabel="test loss of ensembles")
    for row in grid:
        row[0].legend()
    first = table.iloc[0]
    figure.suptitle(
        f"{_title(table)}\n{first['data_seeds']} training sets × {first['seeds']} seeds, 90 % bootstrap bands",
        fontsize=8,
    )
    return figure


def _draw_line(ax: Axes, members: pd.DataFrame, x: str, key: str, colour: object, label: str, style: str = "-") -> None:
    with_band = f"{key}_low" in members
    told = members[f"{key}_low" if with_band else key] > 0
    values = members[key].where(told)
    ax.plot(members[x], values, color=colour, label=label, ls=style, marker="o" if style == "-" else None, mew=0)
    if with_band:
        low, high = (members[f"{key}_{side}"].where(told) for side in ("low", "high"))
        ax.fill_between(members[x], low, high, color=colour, alpha=0.15, lw=0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Decompose and draw tables; returns 0, or 1 with a message where one cannot be decomposed."""
    parser = argparse.ArgumentParser(prog="python -m analysis.decomposition", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the tables")
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder for the figures")
    parser.add_argument("--name", nargs="*", help="tables; by default all with test outputs")
    options = parser.parse_args(arguments)
    with_outputs = [n for n in table_names(options.results) if (options.results / n / "predictions").is_dir()]
    status = 0
    for name in with_outputs if options.name is None else options.name:
        try:
            table = decompose(options.results, name)
        except (NotCrossed, UnreadableTable) as error:
            print(f"decomposition: {error}", file=sys.stderr)
            status = 1
            continue
        for drawing in draw_table(table, name, options.out):
            for path in drawing.files:
                print(path)
    return status


def draw_table(table: pd.DataFrame, name: str, folder: Path) -> list[Drawing]:
    """Draw one table against what varies, ``COLUMNS`` set-ups a figure, PNG and PDF."""
    folder.mkdir(parents=True, exist_ok=True)
    x = "width" if table["width"].nunique() > 1 else "n_train"
    own = ["width", *varying_axes(table, PANEL_AXES + LINE_AXES, OPTIONS)]
    groups = [members for _, members in split(table, [a for a in own if a != x])]
    written = []
    for start in range(0, len(groups), COLUMNS):
        stem = file_stem(name, {"decomposition": ""}) + (f"-{start // COLUMNS + 1}" if len(groups) > COLUMNS else "")
        with sheet():
            shown = pd.concat(groups[start : start + COLUMNS])
            figure = draw_decomposition(shown, x)
            words = caption(figure, f"{_title(shown)}{_which(start, len(groups))}", x_title(shown, x), CAPTION)
            written.append(Drawing(save(figure, folder / stem), f"{words} {OWN_SETTINGS}"))
    return written


def _title(table: pd.DataFrame) -> str:
    first = table.iloc[0]
    return f"{data_text(table)}, {value_text(first['model'])}, n = {first['n_train']}"


def _which(start: int, groups: int) -> str:
    """Which of several figures it is."""
    return f", figure {start // COLUMNS + 1} of {-(-groups // COLUMNS)}" if groups > COLUMNS else ""


if __name__ == "__main__":
    sys.exit(main())
