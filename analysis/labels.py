"""Words and numbers as figures and the report show them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

from analysis.curves import GROUPS, LINE_AXES, PANEL_AXES

AXIS_TITLES = {
    "width": "width",
    "n_train": "training samples",
    "optimizer_penalty": "ridge penalty",
    "epoch": "epoch",
}
"""What stands beside the axes of a figure."""

AXIS_WORDS = {
    "n_train": "training samples",
    "n_test": "test samples",
    "loss": "loss function",
}
"""Names of axes in sentences and legends, where they are not the column's with spaces."""

FAMILIES = {
    "random_features": "random features",
    "two_layer": "two-layer nets",
    "linear": "linear regression",
    "rmt": "RMT width variants",
    "module": "networks of one's own",
}
"""Models in the plural."""

BY_NAME = {*GROUPS, "model_activation", "model_path"} - {"schedule"}
"""Axes whose values say by themselves what they are; a schedule's name alone does not."""

DIGEST = re.compile("[0-9a-f]{64}")
"""Of a file: eight digits tell one from another."""

NAMES = {"rmt": "RMT"}
"""Values that are proper names."""

WIDTHS = {"rmt": "width k"}
"""What the width is called where it is not a number of features: k, 2 k, 4 k, ... channels."""

QUANTITIES = {
    "test_error": "test error (0-1)",
    "test_loss": "test loss",
    "train_error": "train error (0-1)",
    "train_loss": "train loss",
    "feature_condition": "condition number of the features",
    "ntk_condition": "condition number of the tangent kernel",
    "hessian_lambda_max": "largest eigenvalue of the Hessian",
}

OWN_SETTINGS = "All settings are dd's own."

GIVEN = re.compile(r"samples_([0-9a-f]{6})[0-9a-f]{10}\.npz")
"""Name of a file of samples that a sweep was given from Python."""

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def plain(x: float, _: object = None) -> str:
    """A number as text: three digits, powers of ten where it is small or large.

    The second argument is the tick's position, which matplotlib passes.

    >>> plain(0.25), plain(2000.0), plain(1e-8), plain(3.2e6)
    ('0.25', '2000', '10⁻⁸', '3.2·10⁶')
    """
    if not math.isfinite(x):
        return str(x)
    if x == 0 or 1e-3 <= abs(x) < 1e5:
        # whole numbers are counts and keep all their digits
        return f"{x:.0f}" if x == round(x) else f"{x:.3g}" if abs(x) < 1000 else f"{x:.0f}"
    power = math.floor(math.log10(abs(x)) + 1e-9)
    lead = f"{x / 10.0**power:.3g}"
    if lead in ("10", "-10"):
        lead, power = lead[:-1], power + 1
    ten = "10" + str(power).translate(_SUPERSCRIPTS)
    return {"1": ten, "-1": "-" + ten}.get(lead, f"{lead}·{ten}")


def at_most(floor: float) -> Callable[..., str]:
    """:func:`plain`, with the floor itself as "at most": what is drawn there is at it or below.

    >>> at_most(1e-10)(1e-10), at_most(1e-10)(0.5)
    ('≤ 10⁻¹⁰', '0.5')
    """

    def text(x: float, _: object = None) -> str:
        return f"≤ {plain(floor)}" if x <= floor * (1 + 1e-9) else plain(x)

    return text


def is_null(value: object) -> bool:
    """Whether a cell of a table holds nothing."""
    return value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def value_text(value: object) -> str:
    """One value of an axis: numbers as :func:`plain`, names with spaces.

    >>> value_text("conjugate_gradient"), value_text(1e5), value_text(True), value_text("my_nets.py:make")
    ('conjugate gradient', '10⁵', 'yes', 'my_nets.py:make')
    """
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | float | np.number):
        return plain(float(value))
    text = str(value)
    if DIGEST.fullmatch(text):
        return text[:8]
    return text if ".py:" in text else NAMES.get(text, text.replace("_", " "))


def sentence(words: str) -> str:
    """Words with a capital at their beginning, the others as they are.

    >>> sentence("random features on MNIST")
    'Random features on MNIST'
    """
    return words[:1].upper() + words[1:]


def x_title(rows: pd.DataFrame, x: str) -> str:
    """What stands beside an axis over these rows, which have a column ``model``.

    >>> x_title(pd.DataFrame({"model": ["rmt", "rmt"]}), "width")
    'width k'
    """
    models = rows["model"].unique()
    return WIDTHS.get(models[0], AXIS_TITLES[x]) if x == "width" and len(models) == 1 else AXIS_TITLES[x]


def axis_text(name: str) -> str:
    """An axis's name in words; options lose their component's.

    >>> axis_text("label_noise"), axis_text("optimizer_penalty"), axis_text("n_train")
    ('label noise', 'penalty', 'training samples')
    """
    if name in AXIS_WORDS:
        return AXIS_WORDS[name]
    if name in LINE_AXES or name in PANEL_AXES:
        return name.replace("_", " ")
    group = next((g for g in GROUPS if name.startswith(g + "_")), None)
    return (name[len(group) + 1 :] if group else name).replace("_", " ")


def legend_of(values: Mapping[str, object]) -> str:
    """Legend entry: components and activations by name, other axes as name and value.

    >>> legend_of({"optimizer": "adam", "lr": 0.01, "normalization": "none"})
    'adam, lr 0.01, no normalization'
    """
    parts = []
    for key, value in values.items():
        if is_null(value):
            continue
        text = value_text(value)
        if text in ("none", "default"):
            parts.append(f"{'no' if text == 'none' else 'default'} {axis_text(key)}")
        else:
            parts.append(text if key in BY_NAME else f"{axis_text(key)} {text}")
    return ", ".join(parts) or "all runs"


def family_of(model: str) -> str:
    """A model family in the plural."""
    return FAMILIES.get(model, value_text(model))


def data_text(rows: pd.DataFrame) -> str:
    """What the samples of some rows are called: the set, a file by its name, classes where some were chosen.

    >>> data_text(pd.DataFrame({"data": ["file"], "data_path": ["raw/wine.csv"], "classes": ["red,white"]}))
    'wine.csv, classes red,white'
    >>> data_text(pd.DataFrame({"data": ["file"], "data_path": ["results/a/data/samples_1228cc9c24ff1636.npz"]}))
    'own samples 1228cc'
    """
    first = rows.iloc[0]
    path, classes = first.get("data_path"), first.get("classes")
    text = value_text(first["data"]) if is_null(path) or rows["data_path"].nunique() > 1 else PurePath(str(path)).name
    if given := GIVEN.fullmatch(text):
        text = f"own samples {given[1]}"
    return text if is_null(classes) or rows["classes"].nunique() > 1 else f"{text}, classes {classes}"


def title_of(rows: pd.DataFrame, x: str = "width") -> str:
    """What all rows of a figure share, in words; x is what its curves run over."""
    first = rows.iloc[0]
    model = value_text(first["model"])
    if isinstance(first.get("model_path"), str) and rows["model_path"].nunique() == 1:
        model = value_text(first["model_path"])
    if isinstance(first.get("model_activation"), str) and rows["model_activation"].nunique() == 1:
        model += f" ({value_text(first['model_activation'])})"
    parts = [data_text(rows), model]
    if x != "n_train" and rows["n_train"].nunique() == 1:
        parts.append(f"n = {first['n_train']}")
    if x != "width" and rows["width"].nunique() == 1:
        parts.append(f"width = {first['width']}")
    if first["label_noise"] > 0 and rows["label_noise"].nunique() == 1:
        parts.append(f"label noise {plain(first['label_noise'])}")
    if first["normalization"] != "none" and rows["normalization"].nunique() == 1:
        parts.append(value_text(first["normalization"]))
    return ", ".join(parts)


def over_seeds(seeds: int) -> str:
    """What a line and its band are."""
    return f"median and 10-90 % band over {seeds} seeds" if seeds > 1 else "one seed"


def levels_text(values: pd.Series, limit: int = 8) -> str:
    """The values that an axis takes: all of them where they are few, else their number and range.

    >>> levels_text(pd.Series([3, 1, 2, 1]))
    '1, 2, 3'
    >>> levels_text(pd.Series(range(10, 200, 10)))
    '19 values from 10 to 190'
    """
    known: list[Any] = sorted(values.dropna().unique())
    texts = [value_text(v) for v in known]
    if values.isna().any():
        texts.append("not set")
    if len(texts) <= limit:
        return ", ".join(texts)
    return f"{len(known)} values from {value_text(known[0])} to {value_text(known[-1])}"
