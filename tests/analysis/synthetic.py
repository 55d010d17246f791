"""Made-up tables: the columns of real ones, with numbers that a test can work out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

WIDTHS = (10, 20, 50, 100, 200)
THRESHOLD = 50.0

FIXED = {
    "status": "ok", "model": "random_features", "model_activation": "tanh", "data": "digits", "n_train": 50,
    "n_test": 100, "label_noise": 0.0, "label_noise_over": "other", "data_seed": 0, "standardize": "none",
    "init": "default", "init_scale": 1.0, "normalization": "none", "optimizer": "gd", "lr": 0.5, "lr_unit": "sharpness",
    "batch_size": 50, "steps": 100, "stop_loss": np.nan, "loss": "mse", "solver": "exact",
    "dtype": "float64", "optimizer_penalty": np.nan, "outputs": 10, "min_norm_train_loss": 1e-28,
    "min_norm_test_loss": 2.0, "min_norm_test_error": 0.5, "interpolation_width": THRESHOLD,
    "hessian_condition": np.nan, "preconditioned_condition": np.nan, "hessian_lambda_max": np.nan,
    "ntk_condition": np.nan, "ntk_condition_init": np.nan, "measure": "basic", "git_commit": "0123456789abcdef",
    "device": "cpu", "seconds": 1.0, "finished_at": pd.Timestamp("2026-01-02", tz="UTC"),
}  # fmt: skip


def peaked(row: dict[str, object]) -> dict[str, float]:
    """A peak at the threshold, a train loss that falls with the width; seeds differ by factors."""
    x = np.log(float(row["width"]) / THRESHOLD)  # type: ignore[arg-type]
    factor = 1 + 0.1 * int(row["seed"])  # type: ignore[call-overload]
    return {
        "test_loss": factor * (0.1 + np.exp(-(x**2) * 4)),
        "test_error": factor * (0.1 + 0.2 * np.exp(-(x**2) * 4)),
        "train_loss": factor * 1e-2 * np.exp(-x),
        "train_error": 0.01 * factor,
        "feature_condition": 100 * factor * np.exp(-np.abs(x)),
    }


def runs(
    widths: Sequence[int] = WIDTHS,
    seeds: int = 3,
    numbers: Callable[[dict[str, object]], dict[str, float]] = peaked,
    **axes: Sequence[object],
) -> pd.DataFrame:
    """Every combination of widths, seeds and other axes; ``numbers`` gives the outcome of a row."""
    rows = []
    for i, values in enumerate(itertools.product(widths, range(seeds), *axes.values())):
        row: dict[str, Any] = FIXED | dict(zip(("width", "seed", *axes), values, strict=True))
        row["epochs"] = row["steps"] * row["batch_size"] / row["n_train"]
        rows.append(row | numbers(row) | {"run_id": f"r{i}"})
    return pd.DataFrame(rows)


def logged(rows: pd.DataFrame, steps: Sequence[int], loss: Callable[[int, pd.Series], float]) -> pd.DataFrame:
    """Logged steps of runs, with the runs' columns; all losses and errors are ``loss(step, run)``."""
    found = []
    for _, run in rows.iterrows():
        for step in (s for s in steps if s <= run["steps"]):
            value = loss(step, run)
            measured = dict.fromkeys(("train_loss", "train_error", "test_loss", "test_error"), value)
            found.append(run.to_dict() | {"step": step, "epoch": float(step)} | measured)
    return pd.DataFrame(found)
