"""The short table at the end of a sweep: where the peak is, how high, and the train loss there."""

from __future__ import annotations

import re
import statistics
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc

from dd.packs.notes import kinds
from dd.results.rebuilt import completed
from dd.runs.axis import Value
from dd.runs.registry import ROOMS
from dd.runs.run import core_axes

MINIMUM_RATIO = 1.1
"""A rise of the median test loss by less than this factor is not called a peak."""

GROUP_LIMIT = 24
"""Lines of the table at most."""

TOLD = frozenset(
    ("width", "status", "optimizer", "train_loss", "test_loss", "min_norm_train_loss", "min_norm_test_loss")
)
"""Columns that the summary reads whatever they hold."""

WORDS = frozenset(("error", "status_note", "test_error", "feature_condition", "feature_rank"))
"""Further columns that :func:`describe` and :func:`remark` read."""

SOURCE = ("data_source", "data_sha256")
"""Columns that look like options of the data but tell where they came from."""

SEEDS = ("seed", "data_seed", "test_seed")

DIGEST = re.compile("[0-9a-f]{64}")

Columns = Mapping[str, Value]


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


def medians(rows: Iterable[Columns], column: str) -> dict[int, float]:
    """Median of a column at each width, ascending; failed and diverged runs and nulls are left out."""
    by_width: dict[int, list[float]] = {}
    for row in rows:
        width, value = row["width"], row[column]
        if row["status"] == "ok" and value is not None:
            assert isinstance(width, int)
            assert isinstance(value, int | float)
            by_width.setdefault(width, []).append(value)
    return {width: statistics.median(by_width[width]) for width in sorted(by_width)}


def shown(table: pa.Table) -> list[dict[str, Value]]:
    """Rows of a sweep as :func:`summary` takes them; columns of one value, which no line of it tells, are left out.

    Args:
        table: rows of ``runs``.
    """
    table = completed(table)
    kept = [name for name in table.column_names if name in TOLD or pc.count_distinct(table[name], "all").as_py() > 1]
    rows: list[dict[str, Value]] = table.select(kept).to_pylist()
    return rows


def find_peak(rows: Sequence[Columns], test: str = "test_loss", train: str = "train_loss") -> Peak | None:
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
    widths, losses = list(heights), list(heights.values())
    up_to, from_on = list(accumulate(losses, min)), list(accumulate(reversed(losses), min))[::-1]
    best: Peak | None = None
    for i in range(1, len(widths) - 1):
        valley = max(up_to[i - 1], from_on[i + 1])
        ratio = losses[i] / valley if valley > 0 else 1.0
        if ratio >= MINIMUM_RATIO and (best is None or ratio > best.ratio):
            best = Peak(widths[i], losses[i], ratio, train_losses.get(widths[i], float("nan")))
    return best


TRAJECTORY = (
    "optimizer", "lr", "lr_unit", "schedule", "batch_size", "steps", "stop_loss", "init", "init_scale", "solver",
    "dtype",
)  # fmt: skip
"""Axes that do not change the min-norm limit."""

CHOSEN = ("data_content", "model_source", "model_readout", "model_bias", "solver", "dtype")
"""Axes that dd may settle by itself for each run: they vary only if they do so where all others agree."""


def owner(column: str) -> str | None:
    """Axis that brings a column with it: an option's component, the optimizer for what it sets by default."""
    if column in TRAJECTORY[1:]:
        return "optimizer"
    return next((g for g in ROOMS if column.startswith(g + "_")), None)


def told(names: Iterable[str]) -> list[str]:
    """Of the columns of a table those that its summary and its description read."""
    return [n for n in names if n in TOLD | WORDS or n in core_axes() or (owner(n) and n not in SOURCE)]


def varying(rows: Sequence[Columns]) -> list[str]:
    """Axes other than width and seeds that take more than one value, optimizer first.

    What a component brings with it (its options, an optimizer's step size) varies only if it does so within one value
    of that component; what dd may settle for each run, where all other axes agree.
    """
    names = [n for n in core_axes() if n not in {"width", "optimizer", *SEEDS}]
    names += [k for k in rows[0] if owner(k) and k not in names and k not in (*SOURCE, *SEEDS)]
    found = []
    for name in (n for n in names if n in rows[0]):
        group = owner(name)
        owners: tuple[str, ...] = (group,) if group else ()
        if name in CHOSEN:
            owners = ("optimizer", "width", *SEEDS, *(n for n in names if n not in CHOSEN[CHOSEN.index(name) :]))
        values: dict[Hashable, set[Value]] = {}
        for row in rows:
            values.setdefault(tuple(row.get(o) for o in owners), set()).add(row[name])
        if any(len(v) > 1 for v in values.values()):
            found.append(name)
    return ["optimizer", *found]


def _cells(label: Sequence[str], rows: Sequence[Columns], test: str, train: str) -> list[str]:
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


def _word(value: Value) -> str:
    """A value in the table; of a digest eight digits."""
    text = "-" if value is None else str(value)
    return text[:8] if DIGEST.fullmatch(text) else text


def summary(rows: Sequence[Columns]) -> str:
    """Text table with one line for each combination of the varying axes, and one for the min-norm limit."""
    if not rows:
        return ""
    axes = varying(rows)
    groups: dict[tuple[Value, ...], list[Columns]] = {}
    for row in rows:
        groups.setdefault(tuple(row[a] for a in axes), []).append(row)
    head = [*axes, "runs", "peak at width", "test loss", "x valley", "train loss there", "lowest test loss"]
    lines = [head]
    for values, members in list(groups.items())[:GROUP_LIMIT]:
        lines.append(_cells([_word(v) for v in values], members, "test_loss", "train_loss"))
    limits: dict[tuple[Value, ...], list[Columns]] = {}
    for row in rows:
        # one limit for each problem: it does not depend on how the read-out is trained
        key = tuple(
            "" if a in TRAJECTORY or a.startswith(("optimizer_", "schedule_", "init_")) else row[a] for a in axes
        )
        if row["optimizer"] != "min_norm" and row["min_norm_test_loss"] is not None:
            limits.setdefault(key, []).append(row)
    for key, members in list(limits.items())[:GROUP_LIMIT]:
        label = ["(min-norm limit)", *(_word(v) for v in key[1:])]
        lines.append(_cells(label, members, "min_norm_test_loss", "min_norm_train_loss"))
        lines[-1][len(axes)] = ""
    wide = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = "\n".join("  ".join(cell.ljust(n) for cell, n in zip(line, wide, strict=True)).rstrip() for line in lines)
    hidden = len(groups) - GROUP_LIMIT
    return text + (f"\n... and {hidden} more lines; see the table" if hidden > 0 else "")


def describe(row: Columns) -> str:
    """One run in words."""
    if row["status"] == "failed":
        return f"failed: {row['error']}"
    if row["train_loss"] is None or row["test_loss"] is None:
        return f"{row['status']}: no loss was finite"
    text = f"train loss {row['train_loss']:.4g}, test loss {row['test_loss']:.4g}"
    if row.get("test_error") is not None:
        text += f", test error {row['test_error']:.3f}"
    if row.get("feature_condition") is not None:
        text += f", feature condition {row['feature_condition']:.3g} (rank {row['feature_rank']})"
    return text if row["status"] == "ok" else f"{row['status']}: last finite values {text}"


def remark(notes: Sequence[str | None]) -> str | None:
    """One line about the notes of a sweep's runs, None if there are none; of one run the note itself.

    Args:
        notes: the column ``status_note``.

    >>> remark(["dead units: 2 of 9", None, "dead units: 1 of 9; near-constant inputs: 5 of 64"])
    '2 runs have dead units, 1 has near-constant inputs: see status_note'
    """
    if len(notes) == 1:
        return notes[0]
    said = [f"{count} {'has' if count == 1 else 'have'} {kind}" for kind, count in kinds(notes).items()]
    if not said:
        return None
    said[0] = said[0].replace(" ", " run " if said[0].startswith("1 ") else " runs ", 1)
    return f"{', '.join(said)}: see status_note"
