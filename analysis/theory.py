"""Exact curves and bounds that are laid beside measured ones, where a set-up has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dd.theory.isotropic import min_norm_risk
from dd.theory.label_noise import lower_bound


@dataclass(frozen=True)
class Reference:
    """A theoretical curve of the test loss.

    Attributes:
        label: for the legend.
        width: [points].
        value: [points]; NaN where it is infinite.
        style: of the line.
    """

    label: str
    width: np.ndarray
    value: np.ndarray
    style: str = "-."


def reference(rows: pd.DataFrame) -> Reference | None:
    """Curve of the mean test loss of minimum-norm least squares on a teacher, None where none is known.

    - ``model=linear`` on the Gaussian linear teacher: the exact risk (``dd.theory.isotropic.min_norm_risk``).
    - random features of full rank, of a target that is noise alone: the lower bound of Holzmüller, arXiv 2010.01851
      (``dd.theory.label_noise.lower_bound``).

    Both are for inputs, features and targets as they are: no standardisation, no normalisation, no bias.
    """
    if set(rows["optimizer"]) != {"min_norm"} or rows["n_train"].nunique() != 1 or rows["data"].nunique() != 1:
        return None
    plain = (rows["standardize"] == "none") & (rows["normalization"] == "none") & (rows["targets"] == "given")
    if not plain.all() or rows["model_bias"].any():
        return None
    first = rows.iloc[0]
    n, noise = int(first["n_train"]), float(first.get("data_noise", np.nan))
    if not np.isfinite(noise) or rows["data_noise"].nunique() != 1:
        return None
    if (
        first["data"] == "linear_teacher"
        and set(rows["model"]) == {"linear"}
        and set(rows["data_inputs"]) == {"gaussian"}
    ):
        dims = rows.groupby("width")["data_dim"].first()
        return _curve("exact mean", rows, lambda p: min_norm_risk(n, p, noise, int(dims[p])))
    pure_noise = first["data"] == "hermite_teacher" and not rows[["data_c1", "data_c2", "data_c3"]].any(axis=None)
    full_rank = (rows["feature_rank"] == rows[["n_train", "width"]].min(axis=1)).all()
    if pure_noise and full_rank and set(rows["model"]) == {"random_features"}:
        return replace(_curve("lower bound of the mean", rows, lambda p: noise**2 * lower_bound(n, p)), style=":")
    return None


def _curve(label: str, rows: pd.DataFrame, value: Callable[[int], float]) -> Reference:
    widths = np.unique(rows["width"].to_numpy())
    values = np.array([value(int(p)) for p in widths])
    return Reference(label, widths, np.where(np.isfinite(values), values, np.nan))
