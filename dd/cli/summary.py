"""The short table at the end of a sweep: where the test loss rises most, how high, and the train loss there."""

from __future__ import annotations

import math
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
"""A rise of the median test loss by less than this factor is not told of."""

GROUP_LIMIT = 24
"""Lines of the table at most."""

TOLD = frozenset((
    "width", "status", "optimizer", "train_loss", "test_loss", "min_norm_train_loss", "min_norm_test_loss",
    "interpolation_width", "feature_condition", "measure", "seed", "data_seed", "epochs",
))  # fmt: skip
"""Columns that the summary reads whatever they hold."""

WORDS = frozenset(("error", "status_note", "test_error", "feature_rank", "model"))
"""Further columns that :func:`describe` and :func:`remark` read."""

SOURCE = ("data_source", "data_sha256")
"""Columns that look like options of the data but tell where they came from."""

SEEDS = ("seed", "data_seed", "test_seed")

DIGEST = re.compile("[0-9a-f]{64}")

Columns = Mapping[str, Value]


@dataclass(frozen=True)
class Peak:
    """Peak of one curve of median test loss against x: the width, or the number of training samples.

    Attributes:
        x: where it is.
        test_loss: median over seeds there.
        ratio: height over the higher one of the two valleys beside it.
        train_loss: median over seeds there.
    """

    x: int
    test_loss: float
    ratio: float
    train_loss: float


def axis_of(rows: Sequence[Columns]) -> str:
    """Axis along which a sweep has its curves: ``n_train`` where that is swept at one width, else ``width``."""
    counts = {row.get("n_train") for row in rows}
    return "n_train" if len(counts) > 2 and len({row["width"] for row in rows}) == 1 else "width"


def medians(rows: Iterable[Columns], column: str, axis: str = "width") -> dict[int, float]:
    """Median of a column at each x, ascending; failed and diverged runs and nulls are left out."""
    by_x: dict[int, list[float]] = {}
    for row in rows:
        x, value = row[axis], row[column]
        if row["status"] == "ok" and value is not None:
            assert isinstance(x, int)
            assert isinstance(value, int | float)
            by_x.setdefault(x, []).append(value)
    return {x: statistics.median(by_x[x]) for x in sorted(by_x)}


def shown(table: pa.Table) -> list[dict[str, Value]]:
    """Rows of a sweep as :func:`summary` takes them; columns of one value, which no line of it tells, are left out.

    Args:
        table: rows of ``runs``.
    """
    table = completed(table)
    kept = [name for name in table.column_names if name in TOLD or pc.count_distinct(table[name], "all").as_py() > 1]
    rows: list[dict[str, Value]] = table.select(kept).to_pylist()
    return rows


def find_peak(
    rows: Sequence[Columns], test: str = "test_loss", train: str = "train_loss", axis: str = "width"
) -> Peak | None:
    """Find the x whose median test loss rises most above the valleys on both sides of it.

    Args:
        rows: rows of one curve.
        test: column of the test loss.
        train: column of the train loss.
        axis: column of x.

    Returns:
        The peak, or None if the loss nowhere rises by ``MINIMUM_RATIO`` and falls again.

    >>> rows = [dict(width=w, status="ok", test_loss=t, train_loss=0.) for w, t in [(1, 2.), (2, 1.), (3, 8.), (4, .5)]]
    >>> find_peak(rows).x, find_peak(rows).ratio
    (3, 8.0)
    """
    heights, train_losses = medians(rows, test, axis), medians(rows, train, axis)
    places, losses = list(heights), list(heights.values())
    up_to, from_on = list(accumulate(losses, min)), list(accumulate(reversed(losses), min))[::-1]
    best: Peak | None = None
    for i in range(1, len(places) - 1):
        valley = max(up_to[i - 1], from_on[i + 1])
        ratio = losses[i] / valley if valley > 0 else 1.0
        if ratio >= MINIMUM_RATIO and (best is None or ratio > best.ratio):
            best = Peak(places[i], losses[i], ratio, train_losses.get(places[i], float("nan")))
    return best


TRAJECTORY = (
    "optimizer", "lr", "lr_unit", "schedule", "batch_size", "steps", "epochs", "stop_loss", "init", "init_scale",
    "solver", "dtype",
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


def varying(rows: Sequence[Columns], axis: str = "width") -> list[str]:
    """Axes other than x, width and seeds that take more than one value, optimizer first.

    What a component brings with it (its options, an optimizer's step size) varies only if it does so within one value
    of that component; what dd may settle for each run, where all other axes agree; what follows the number of training
    samples, within one number.
    """
    names = [n for n in core_axes() if n not in {"width", axis, "optimizer", *SEEDS}]
    passes = axis == "n_train" and len({row.get("epochs") for row in rows}) < len({row.get("steps") for row in rows})
    if passes:  # so many passes are other steps for each number of samples
        names.append("epochs")
    names += [k for k in rows[0] if owner(k) and k not in names and k not in (*SOURCE, *SEEDS)]
    found = []
    for name in (n for n in names if n in rows[0] and not (passes and n == "steps")):
        group = owner(name)
        owners = (axis, *([group] if group else [])) if axis == "n_train" else (group,) if group else ()
        if name in CHOSEN:
            owners = ("optimizer", "width", axis, *SEEDS, *(n for n in names if n not in CHOSEN[CHOSEN.index(name) :]))
        values: dict[Hashable, set[Value]] = {}
        for row in rows:
            values.setdefault(tuple(row.get(o) for o in owners), set()).add(row[name])
        if any(len(v) > 1 for v in values.values()):
            found.append(name)
    return ["optimizer", *found]


@dataclass(frozen=True)
class Line:
    """One line of the table: the runs of one combination of the varying axes.

    Attributes:
        label: the axes' values, as they are shown.
        runs: their number, and how many of them failed or diverged; of the min-norm limit empty.
        xs: those with a finite test loss, ascending.
        threshold: x at which the model can just fit the training set; None where it is not known.
        x: where the test loss rises most; where it rises nowhere, the swept x nearest the threshold.
        rises: whether it rises there by :data:`MINIMUM_RATIO` and falls again.
        test: median test loss there; NaN where there is none.
        train: median train loss there.
        valley: the higher one of the lowest test losses on both sides of it; NaN without an x on both sides.
        lowest: the lowest median test loss, and its x.
        condition: median condition number of the features there.
    """

    label: tuple[str, ...]
    runs: str
    xs: tuple[int, ...]
    threshold: float | None
    x: int | None
    rises: bool
    test: float
    train: float
    valley: float
    lowest: tuple[float, int] | None
    condition: float

    @property
    def ratio(self) -> float:
        """Test loss over that of the valley."""
        return self.test / self.valley if self.valley > 0 else math.nan

    @classmethod
    def of(cls, label: Sequence[str], rows: Sequence[Columns], axis: str = "width", limit: bool = False) -> Line:
        """The line of some rows, or of the min-norm limit of their problem."""
        test, train = ("min_norm_test_loss", "min_norm_train_loss") if limit else ("test_loss", "train_loss")
        heights = medians(rows, test, axis)
        threshold = threshold_of(rows, axis)
        peak = find_peak(rows, test, train, axis)
        x = peak.x if peak else nearest(heights, threshold)
        sides = [
            min((loss for at, loss in heights.items() if x is not None and (at < x if left else at > x)),
                default=math.nan) for left in (True, False)
        ]  # fmt: skip
        here = [row for row in rows if row[axis] == x]
        least = min(heights, key=lambda at: heights[at]) if heights else None
        runs = "" if limit else str(len(rows))
        for status in ("failed", "diverged"):
            if not limit and (count := sum(row["status"] == status for row in rows)):
                runs += f" ({count} {status})"
        return cls(
            label=tuple(label),
            runs=runs,
            xs=tuple(heights),
            threshold=threshold,
            x=x,
            rises=peak is not None,
            test=math.nan if x is None else heights[x],
            train=next(iter(medians(here, train).values()), math.nan),
            valley=math.nan if any(map(math.isnan, sides)) else max(sides),
            lowest=None if least is None else (heights[least], least),
            condition=next(iter(medians(here, "feature_condition").values()), math.nan),
        )

    def cells(self) -> list[str]:
        """The line without threshold and condition number."""
        lowest = "-" if self.lowest is None else f"{self.lowest[0]:.3g} at {self.lowest[1]}"
        ratio = "-" if math.isnan(self.ratio) else f"x{self.ratio:.3g}"
        x = "-" if self.x is None else str(self.x)
        numbers = [number(self.test), number(self.valley), ratio, number(self.train, 2)]
        return [*self.label, self.runs, x, *numbers, lowest]


def number(value: float, digits: int = 3) -> str:
    """A number in the table.

    >>> number(0.12345), number(float("nan")), number(1e8, 2)
    ('0.123', '-', '1e8')
    """
    return "-" if math.isnan(value) else f"{value:.{digits}g}".replace("e+0", "e").replace("e+", "e")


def nearest(xs: Iterable[int], threshold: float | None) -> int | None:
    """The x nearest a threshold; without a threshold, or without any x, None."""
    return None if threshold is None else min(xs, key=lambda x: abs(x - threshold), default=None)


def threshold_of(rows: Iterable[Columns], axis: str) -> float | None:
    """The x at which the model can just fit the training set.

    Along ``n_train`` it is the number of samples whose ``interpolation_width`` is the width: on the line through the
    two numbers nearest to it.

    >>> rows = [dict(width=100, n_train=n, interpolation_width=n - 1.0) for n in (20, 60, 140)]
    >>> threshold_of(rows, "n_train"), threshold_of(rows[:1], "width"), threshold_of(rows[:1], "n_train")
    (101.0, 19.0, None)
    """
    known = [row for row in rows if row["interpolation_width"] is not None]
    if axis == "width":
        return statistics.median({_float(row, "interpolation_width") for row in known}) if known else None
    samples = {_float(row, "interpolation_width"): _float(row, "n_train") for row in known}
    if len(samples) < 2:
        return None
    width = _float(known[0], "width")
    one, two = sorted(samples, key=lambda fitting: abs(fitting - width))[:2]
    return samples[one] + (width - one) * (samples[two] - samples[one]) / (two - one)


def _float(row: Columns, column: str) -> float:
    value = row[column]
    assert isinstance(value, int | float)
    return float(value)


def _word(value: Value) -> str:
    """A value in the table; of a digest eight digits.

    >>> _word(10**12), _word(1500), _word(None), _word(0.05)
    ('1e12', '1500', '-', '0.05')
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 10**5 and float(f"{value:.3g}") == value:
        return number(value)
    text = "-" if value is None else str(value)
    return text[:8] if DIGEST.fullmatch(text) else text


def _order(values: Sequence[Value]) -> list[tuple[bool, bool, Value]]:
    """What rows are sorted by: numbers before words, and what is not there first."""
    return [(value is not None, isinstance(value, str), 0 if value is None else value) for value in values]


@dataclass(frozen=True)
class Summary:
    """What a sweep has found.

    Attributes:
        axis: along which the curves are, ``width`` or ``n_train``.
        axes: names of the other axes that vary, seeds apart.
        lines: one for each combination of their values, sorted.
        limits: the same for the min-norm limit, one for each problem.
        seeds: pairs of seeds (``seed``, ``data_seed``).
        conditioning: whether the condition number of the features is told.
    """

    axis: str
    axes: tuple[str, ...]
    lines: tuple[Line, ...]
    limits: tuple[Line, ...]
    seeds: int
    conditioning: bool

    @classmethod
    def of(cls, rows: Sequence[Columns]) -> Summary:
        """Summary of some rows (at least one)."""
        axis = axis_of(rows)
        if axis == "n_train":  # a full batch is another number of samples for each of them
            rows = [{**row, "batch_size": "full"} if row.get("batch_size") == row["n_train"] else row for row in rows]
        axes = varying(rows, axis)
        groups: dict[tuple[Value, ...], list[Columns]] = {}
        limits: dict[tuple[Value, ...], list[Columns]] = {}
        for row in rows:
            values = tuple(row[a] for a in axes)
            groups.setdefault(values, []).append(row)
            if row["optimizer"] != "min_norm" and row["min_norm_test_loss"] is not None and row["status"] == "ok":
                # one limit for each problem: it does not depend on how the read-out is trained
                key = tuple("" if _of_training(a) else value for a, value in zip(axes, values, strict=True))
                limits.setdefault(key, []).append(row)
        return cls(
            axis=axis,
            axes=tuple(axes),
            lines=tuple(Line.of([_word(v) for v in key], groups[key], axis) for key in sorted(groups, key=_order)),
            limits=tuple(
                Line.of(["(min-norm limit)", *(_word(v) for v in key[1:])], limits[key], axis, limit=True)
                for key in sorted(limits, key=_order)
            ),
            seeds=len({(row.get("seed"), row.get("data_seed")) for row in rows}),
            conditioning=any(row.get("measure") == "full" for row in rows) or not CONDITIONING.isdisjoint(axes),
        )

    def table(self) -> str:
        """The lines as text, with a line that explains the columns."""
        every = [*self.lines[:GROUP_LIMIT], *self.limits[:GROUP_LIMIT]]
        own_thresholds = len({line.threshold for line in self.lines if line.threshold is not None}) > 1
        cells = [[*self.axes, "runs", self.axis, "test", "valley", "ratio", "train", "lowest"]]
        cells += [line.cells() for line in every]
        # beside each other: where it is, and where it should be
        for row, line in zip(cells, (None, *every), strict=True):
            if self.conditioning:
                row.insert(-1, "κ" if line is None else number(line.condition))
            if own_thresholds:
                at = len(self.axes) + 1
                row.insert(
                    at, "threshold" if line is None else "-" if line.threshold is None else f"{line.threshold:.4g}"
                )
        wide = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines = ["  ".join(cell.ljust(n) for cell, n in zip(row, wide, strict=True)).rstrip() for row in cells]
        hidden = len(self.lines) - GROUP_LIMIT
        return "\n".join(
            [*lines, *([f"... and {hidden} more lines; see the table"] if hidden > 0 else []), self._legend()]
        )

    def _legend(self) -> str:
        """What the columns are."""
        said = [
            f"{self.axis}: where test loss rises most, else nearest the threshold; test, train: median losses there",
            "valley: lowest test loss left or right of it, whichever is higher; ratio: test/valley",
        ]
        return "\n".join([*said, *["κ: condition number of the features there"] * self.conditioning])


CONDITIONING = frozenset(("normalization", "standardize", "model_activation", "model_weights"))
"""Axes that are about the conditioning of the features."""


def _of_training(axis: str) -> bool:
    """Whether an axis leaves the min-norm limit as it is."""
    return axis in TRAJECTORY or axis.startswith(("optimizer_", "schedule_", "init_"))


def describe(row: Columns) -> str:
    """One run in words, its model and width first."""
    return f"{row['model']}, width {row['width']}: {_outcome(row)}"


def _outcome(row: Columns) -> str:
    """What became of one run."""
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
