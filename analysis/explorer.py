"""The explorer: every run of every table inside the page, for a reader to lay out in other ways.

Numbers travel as float32 columns, compressed and in base64; ``explorer.js`` unpacks and draws them with uPlot. An axis
is a column of the numbers of its levels, so that it takes next to nothing.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.commands import Settings, settings_of
from analysis.curves import FLOOR, SEEDS, thresholds
from analysis.labels import QUANTITIES, axis_text

DATA_LIMIT = 6_000_000
"""Bytes of all numbers in the page; tables beyond it are named, not carried."""

METRICS = ("test_loss", "test_error", "train_loss", "train_error", "feature_condition")

MOST_STEPS = 40
"""Logged steps that a table keeps, about equally spaced in their logarithms."""

STEP = "step"
"""The axis of logged steps; it is no key of the command line."""

FILES = Path(__file__).parent
UPLOT = FILES / "vendor" / "uplot"


@dataclass(frozen=True)
class Source:
    """What the explorer shows under one name.

    Attributes:
        title: what the reader chooses.
        anchor: of the table's card.
        packed: the table as the page carries it.
    """

    title: str
    anchor: str
    packed: Mapping[str, Any]

    @property
    def size(self) -> int:
        """Bytes of its numbers in the page."""
        return len(self.packed["data"])


def packed(name: str, rows: pd.DataFrame, logged: pd.DataFrame | None = None) -> dict[str, dict[str, Any]]:
    """A table's runs and, where steps were logged, the same along training, by what follows the table's title.

    Args:
        name: the table.
        rows: the runs.
        logged: ``run_id``, ``step`` and metrics of logged steps.
    """
    found = settings_of(rows)
    made = {"": pack(rows, found, name)}
    if logged is not None and len(logged):
        own = rows[["run_id", "status", "interpolation_width"]].assign(_row=rows.index)
        kept = logged[logged["step"].isin(_few(logged["step"]))]
        points = kept[["run_id", "step", *(c for c in METRICS if c in kept)]].merge(own, on="run_id")
        typed = found.typed.loc[points["_row"]].reset_index(drop=True).assign(**{STEP: points["step"].astype(str)})
        default = found.default.loc[points["_row"]].reset_index(drop=True).assign(**{STEP: False})
        made[": along training"] = pack(points, Settings(typed, default), name)
    return made


def _few(steps: pd.Series) -> np.ndarray:
    """Some of the steps that were logged, first and last included."""
    every = np.sort(steps[steps > 0].unique())
    if len(every) <= MOST_STEPS:
        return every
    wanted = np.geomspace(every[0], every[-1], MOST_STEPS)
    return np.unique(every[np.abs(np.log(every[:, None] / wanted)).argmin(0)])


def pack(rows: pd.DataFrame, found: Settings, name: str) -> dict[str, Any]:
    """One table: what its axes are called, which values they have, how its commands begin, and all numbers.

    Args:
        rows: runs, or logged steps; those whose status is not ``ok`` have no numbers.
        found: what was set for each row, in the same order.
        name: the table.
    """
    typed = found.typed
    varying = [key for key in typed if typed[key].nunique() > 1 or key == "width"]
    fixed = [key for key in found.changed() if key not in varying]
    axes, columns = [], []
    for key in varying:
        levels = sorted(typed[key].unique(), key=_place)
        axes.append({"key": key, "label": _label(key), "levels": levels, "numeric": all(map(_is_number, levels)),
                     "role": _role(key)})  # fmt: skip
        columns.append(pd.Categorical(typed[key], levels).codes)
    order = np.lexsort(columns[::-1])  # equal codes stand together, and take little room
    good = (rows["status"] == "ok").to_numpy()
    metrics = [c for c in METRICS if c in rows and rows.loc[good, c].notna().any()]
    columns += [np.where(good, rows[c].to_numpy(dtype=float), np.nan) for c in metrics]
    numbers = np.stack([np.asarray(c, dtype="<f4")[order] for c in columns]) if columns else np.empty((0, 0))
    at = thresholds(rows)
    return {
        "name": name,
        "rows": len(rows),
        "axes": axes,
        "metrics": [{"key": c, "label": QUANTITIES[c]} for c in metrics],
        "fixed": [f"{key}={typed[key].iloc[0]}" for key in fixed],
        "threshold": at[0] if len(at) == 1 else None,
        "data": base64.b64encode(gzip.compress(_planes(numbers), mtime=0)).decode("ascii"),
    }


def _planes(numbers: np.ndarray) -> bytes:
    """The bytes of float32 numbers [columns, rows], by their place in a number: alike bytes compress better."""
    return np.ascontiguousarray(numbers.view(np.uint8).reshape(*numbers.shape, 4).transpose(0, 2, 1)).tobytes()


def _label(key: str) -> str:
    return axis_text(
        key.replace("data.label_noise", "label_noise").replace("data.n_train", "n_train").replace(".", "_")
    )


def _role(key: str) -> str:
    """Whether an axis is a seed, a budget that the slider takes, or another one."""
    if key in ("data.test_seed", *(s.replace("data_seed", "data.seed") for s in SEEDS)):
        return "seed"
    return "budget" if key in (STEP, "steps", "epochs") else "axis"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _place(text: str) -> tuple[float, str]:
    return (float(text), text) if _is_number(text) else (float("inf"), text)


def section(every: Sequence[Source], anchor: str) -> str:
    """The part of the page: controls, the chart's place, the numbers, and the program."""
    kept, left, room = [], [], DATA_LIMIT
    for source in every:
        if source.size <= room:
            kept.append(source)
            room -= source.size
        else:
            left.append(source.title)
    data = {"floor": FLOOR, "tables": [{"title": s.title, "anchor": s.anchor, **s.packed} for s in kept]}
    note = f'<p class="quiet">Left out to keep this page small: {html.escape("; ".join(left))}.</p>' if left else ""
    body = (FILES / "explorer.html").read_text(encoding="utf-8")
    return "\n".join([
        body.replace("$anchor", html.escape(anchor)).replace("$note", note),
        f"<style>{(UPLOT / 'uPlot.min.css').read_text(encoding='utf-8')}</style>",
        f'<script type="application/json" id="explorer-data">{_json(data)}</script>',
        f"<script>/* uPlot\n{(UPLOT / 'LICENSE').read_text(encoding='utf-8')}*/",
        f"{(UPLOT / 'uPlot.iife.min.js').read_text(encoding='utf-8')}</script>",
        f"<script>\n{(FILES / 'explorer.js').read_text(encoding='utf-8')}</script>",
    ])  # fmt: skip


def _json(data: object) -> str:
    """JSON that cannot end the element that it stands in."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
