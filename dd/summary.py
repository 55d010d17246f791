"""The short table at the end of a sweep: where the peak is, how high, and the train loss there."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dd.config import core_axes

MINIMUM_RATIO = 1.1
"""A rise of the median test loss by less than this factor is not called a peak."""

GROUP_LIMIT = 24
"""Lines of the table at most."""

SEEDS = ("seed", "data_seed")


@dataclass(frozen=True)
class Peak:
    """Peak of one curve of median test loss against width.

    Attributes:
        width: where it is.
        test_loss: median over seeds there.
        ratio: height over the higher one of the two valleys beside it.
        train_loss: median over seeds there.
    """

    width: int
    test_loss: float
    ratio: float
    train_loss: float


def medians(rows: Iterable[Mapping[str, Any]], column: str) -> dict[int, float]:
    """Median of a column over the finished runs of each width, widths ascending; nulls are left out."""
    by_width: dict[int, list[float]] = {}
    for row in rows:
        if row["status"] != "failed" and row[column] is not None:
            by_width.setdefault(row["width"], []).append(row[column])
    return {width: statistics.median(by_width[width]) for width in sorted(by_width)}


def find_peak(rows: Sequence[Mapping[str, Any]], test: str = "test_loss", train: str = "train_loss") -> Peak | None:
    """Find the width whose median test loss rises most above the valleys on both sides of it.

    Args:
        rows: rows of one curve.
        test: column of the test loss.
        train: column of the train loss.

    Returns:
        The peak, or None if the loss nowhere rises by ``MINIMUM_RATIO`` and falls again.

    >>> rows = [dict(width=w, status="ok", test_loss=t, train_loss=0.) for w, t in [(1, 2.), (2, 1.), (3, 8.), (4, .5)]]
    >>> find_peak(rows).width, find_peak(rows).ratio
    (3, 8.0)
    """
    heights, train_losses = medians(rows, test), medians(rows, train)
    widths = list(heights)
    best: Peak | None = None
    for i in range(1, len(widths) - 1):
        left, right = min(heights[w] for w in widths[:i]), min(heights[w] for w in widths[i + 1 :])
        valley = max(left, right)
        height = heights[widths[i]]
        ratio = height / valley if valley > 0 else 1.0
        if ratio >= MINIMUM_RATIO and (best is None or ratio > best.ratio):
            best = Peak(widths[i], height, ratio, train_losses.get(widths[i], float("nan")))
    return best


def varying(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Axes other than width and seeds that take more than one value, optimizer first."""
    skip = {"width", *SEEDS, "optimizer", "epochs"}
    # what follows from the optimizer is no axis of its own
    by_optimizer: dict[str, dict[Any, set[Any]]] = {}
    names = [n for n in core_axes() if n not in skip]
    names += [
        k
        for k in rows[0]
        if k.startswith(("model_", "data_", "normalization_", "init_", "optimizer_")) and k not in names
    ]
    for name in names:
        if name in ("data_source", "data_sha256", *SEEDS) or name not in rows[0]:
            continue
        for row in rows:
            by_optimizer.setdefault(name, {}).setdefault(row["optimizer"], set()).add(row[name])
    found = [n for n, per in by_optimizer.items() if any(len(values) > 1 for values in per.values())]
    return ["optimizer", *found]


def _cells(label: Sequence[str], rows: Sequence[Mapping[str, Any]], test: str, train: str) -> list[str]:
    """One line of the table."""
    peak = find_peak(rows, test, train)
    heights = medians(rows, test)
    runs = str(len(rows))
    for status in ("failed", "diverged"):
        if count := sum(row["status"] == status for row in rows):
            runs += f" ({count} {status})"
    lowest = min(heights, key=lambda w: heights[w]) if heights else None
    found = ["none", "-", "-", "-"] if peak is None else [
        str(peak.width), f"{peak.test_loss:.3g}", f"{peak.ratio:.3g}", f"{peak.train_loss:.2g}"
    ]  # fmt: skip
    return [*label, runs, *found, "-" if lowest is None else f"{heights[lowest]:.3g} at {lowest}"]


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Text table with one line for each combination of the varying axes, and one for the min-norm limit."""
    if not rows:
        return ""
    axes = varying(rows)
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[a] for a in axes), []).append(row)
    head = [*axes, "runs", "peak at width", "test loss", "x valley", "train loss there", "lowest test loss"]
    lines = [head]
    for values, members in list(groups.items())[:GROUP_LIMIT]:
        lines.append(_cells(["-" if v is None else str(v) for v in values], members, "test_loss", "train_loss"))
    if medians(rows, "min_norm_test_loss") and {row["optimizer"] for row in rows} != {"min_norm"}:
        label = ["(min-norm limit)"] + [""] * (len(axes) - 1)
        lines.append(_cells(label, rows, "min_norm_test_loss", "min_norm_train_loss"))
        lines[-1][len(axes)] = ""
    wide = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = "\n".join("  ".join(cell.ljust(n) for cell, n in zip(line, wide, strict=True)).rstrip() for line in lines)
    hidden = len(groups) - GROUP_LIMIT
    return text + (f"\n... and {hidden} more lines; see the table" if hidden > 0 else "")


def describe(row: Mapping[str, Any]) -> str:
    """One run in words."""
    if row["status"] == "failed":
        return f"failed: {row['error']}"
    text = f"train loss {row['train_loss']:.4g}, test loss {row['test_loss']:.4g}"
    if row.get("test_error") is not None:
        text += f", test error {row['test_error']:.3f}"
    if row.get("feature_condition") is not None:
        text += f", feature condition {row['feature_condition']:.3g} (rank {row['feature_rank']})"
    return text if row["status"] == "ok" else f"{row['status']}: last finite values {text}"
