"""How far dd's runs are from random-matrix theory, over a grid; docs/theory.md shows what this prints.

    python benchmarks/theory.py                    tanh and ReLU features, 100 inputs, n = 200, 100 seeds (6 minutes)
    python benchmarks/theory.py seeds=10 dim=50    faster and coarser; n = 2 dim

Random features of the linear teacher: p/n from 0.2 to 5, ridge, gradient flow, with and without noise. A cell is theory
over measured mean, minus 1, of all seeds, and in brackets the standard error of that mean, both in percent. The last
table has their root mean squares over cells: where the two agree, what is seen is the noise of the seeds.
"""

from __future__ import annotations

import io
import math
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout

import numpy as np
import pandas as pd

from dd.api import sweep
from dd.theory import units
from dd.theory.activations import coefficients
from dd.theory.flow import flow_risk
from dd.theory.random_features import Risk, ridge_risk
from dd.theory.spectrum import FeatureSpectrum, isotropic

RATIOS = (0.2, 0.5, 0.8, 0.9, 1.1, 1.25, 2, 5)
NOISES = (0.0, 0.5)
LEAST = 1e-12
"""Train losses below this interpolate: there is nothing to compare."""

DEGREES = 4
"""Degrees of the activation that are resolved, as in the figures."""

SOLUTIONS = {
    "min-norm": ("optimizer=min_norm",),
    "ridge": ("optimizer=ridge", "optimizer.penalty=0.1,10"),
    "flow": ("optimizer=gradient_flow", "steps=1e2,1e4,1e6"),
}
DISTANCES = {"0.2, 0.5, 2, 5": (0.2, 0.5, 2, 5), "0.8, 1.25": (0.8, 1.25), "0.9, 1.1": (0.9, 1.1)}
SMALL = 0.01
"""Train losses below this are few small eigenvalues, whose law is that of the limit last."""

SETTINGS = {"seeds": 100, "dim": 100}


def expected(spectrum: FeatureSpectrum, row: pd.Series) -> Risk:
    """Theory of a run."""
    n, p, noise = int(row["n_train"]), int(row["width"]), float(row["data_noise"]) ** 2
    if row["optimizer"] != "gradient_flow":
        penalty = 0.0 if row["optimizer"] == "min_norm" else float(row["optimizer_penalty"])
        return ridge_risk(spectrum, n, p, units.ridge(penalty, p), noise)
    time = units.time("gradient_flow", float(row["lr_absolute"]), int(row["steps"]), p, 1)
    return flow_risk(spectrum, n, p, time, noise, units.start(row["init"], p, 1, float(row["init_scale"])))


def cell(measured: pd.Series, theory: float) -> tuple[float, float]:
    """Deviation of the theory from the mean, and the mean's standard error, in percent; NaN where it interpolates."""
    mean, error = measured.mean(), measured.std() / math.sqrt(len(measured))
    if mean < LEAST:
        return math.nan, math.nan
    return 100 * (theory / mean - 1), 100 * error / mean


def table(rows: pd.DataFrame, name: Callable[[pd.Series], str], spectrum: FeatureSpectrum) -> pd.DataFrame:
    """Deviations of all cells, [cells]."""
    keys = ["optimizer", "optimizer_penalty", "steps", "data_noise", "width"]
    found = []
    for _, members in rows.groupby([k for k in keys if k in rows], dropna=False, sort=True):
        first = members.iloc[0].copy()
        if first["optimizer"] == "gradient_flow":
            # in units of the curvature, steps differ between seeds
            first["lr_absolute"] = members["lr_absolute"].mean()
        risk = expected(spectrum, first)
        for quantity, theory in (("test", risk.excess), ("train", risk.train)):
            measured = members[f"{quantity}_loss"]
            deviation, error = cell(measured, theory)
            found.append({
                "solution": name(first), "noise": float(first["data_noise"]), "p/n": first["width"] / first["n_train"],
                "quantity": quantity, "loss": measured.mean(), "deviation": deviation, "error": error,
            })  # fmt: skip
    return pd.DataFrame(found)


def called(row: pd.Series) -> str:
    """Name of a solution."""
    if row["optimizer"] == "ridge":
        return f"ridge, penalty {row['optimizer_penalty']:g}"
    return "min-norm" if row["optimizer"] == "min_norm" else f"flow, {row['steps']:g} steps"


def show(cells: pd.DataFrame, quantity: str) -> None:
    """Print a table of Markdown, a line a solution, a column a ratio."""
    cells = cells[cells["quantity"] == quantity]
    ratios = sorted(cells["p/n"].unique())
    print(f"\n| {quantity} loss, noise | " + " | ".join(f"{r:g}" for r in ratios) + " |")
    print("|---" * (len(ratios) + 1) + "|")
    for (solution, noise), members in cells.groupby(["solution", "noise"], sort=False):
        of_each = members.sort_values("p/n")[["deviation", "error"]].to_numpy()
        texts = ["–" if np.isnan(d) else f"{d:+.1f} ({e:.1f})" for d, e in of_each]
        print(f"| {solution}, {noise:g} | " + " | ".join(texts) + " |")


def summary(cells: pd.DataFrame) -> None:
    """Print a table of Markdown: deviations by the distance from the threshold."""
    known = cells[cells["deviation"].notna()]
    kinds = {
        "test loss": known["quantity"] == "test",
        f"train loss above {SMALL:g}": (known["quantity"] == "train") & (known["loss"] >= SMALL),
        f"train loss below {SMALL:g}": (known["quantity"] == "train") & (known["loss"] < SMALL),
    }
    print("\n| p/n | | cells | deviation (r.m.s.) | standard error (r.m.s.) | from | to |")
    print("|---" * 7 + "|")
    for distance, ratios in DISTANCES.items():
        for kind, chosen in kinds.items():
            some = known[chosen & known["p/n"].isin(ratios)]
            if some.empty:
                continue
            off, error = (math.sqrt((some[c] ** 2).mean()) for c in ("deviation", "error"))
            ends = f"{some['deviation'].min():+.0f} % | {some['deviation'].max():+.0f} %"
            print(f"| {distance} | {kind} | {len(some)} | {off:.1f} % | {error:.1f} % | {ends} |")


def main() -> None:
    """Sweep, and print the tables."""
    settings = SETTINGS | {key: int(value) for key, _, value in (a.partition("=") for a in sys.argv[1:])}
    dim, n = settings["dim"], 2 * settings["dim"]
    widths = ",".join(str(round(n * ratio)) for ratio in RATIOS)
    common = (
        "data=linear_teacher", f"data.dim={dim}", f"data.n_train={n}", "data.n_test=2000", "model.weights=sphere",
        f"data.noise={','.join(map(str, NOISES))}", f"width={widths}", f"seed=range(0,{settings['seeds']})",
        "data.seed=${seed}", "n_jobs=1",
    )  # fmt: skip
    for activation in ("tanh", "relu"):
        spectrum = isotropic(coefficients(activation, DEGREES), dim)
        cells = []
        with tempfile.TemporaryDirectory() as folder:
            for name, overrides in SOLUTIONS.items():
                where = (f"results_dir={folder}", f"name={name.replace('-', '_')}")
                with redirect_stdout(io.StringIO()):
                    rows = sweep(*common, f"model.activation={activation}", *overrides, *where)
                assert (rows["status"] == "ok").all()
                cells.append(table(rows, called, spectrum))
        every = pd.concat(cells, ignore_index=True)
        print(f"\n{activation}, {dim} inputs, n = {n}, {settings['seeds']} seeds")
        for quantity in ("test", "train"):
            show(every, quantity)
        summary(every)


if __name__ == "__main__":
    main()
