"""How every figure looks: colours, markers, logarithmic axes, and the files they are saved to.

Colours are those of Okabe & Ito, or a sequential map for an ordered axis; both are safe for the colour-blind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import TICKDOWN, TICKLEFT
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from PIL import Image

from analysis import glyphs
from analysis.curves import FLOOR
from analysis.labels import at_most, plain
from analysis.tex import write_pgf


@dataclass(frozen=True)
class Look:
    """How the figure of the panels is laid out.

    Attributes:
        width: of the figure, inches.
        panels: columns to draw, in order; None: all that the rows have.
        titled: whether what is fixed stands above.
    """

    width: float = 7.0
    panels: tuple[str, ...] | None = None
    titled: bool = True

    @property
    def columns(self) -> int:
        """Panels side by side: one needs some three inches."""
        return 2 if self.width >= 5 else 1

    def size(self, panels: int, columns: int, entries: int = 0) -> tuple[float, float]:
        """Inches of a figure of some panels, above a legend of some lines."""
        beside = self.width / columns
        return self.width, -(-panels // columns) * (0.55 * beside + 0.45) + 0.17 * entries + (
            0.4 if self.titled else 0.1
        )

    def legend_columns(self, labels: Sequence[str]) -> int:
        """Columns of a legend: as many as the width holds, four at most. A legend is filled column by column."""
        for count in range(min(4, len(labels)), 1, -1):
            lines = -(-len(labels) // count)
            parts = [labels[i : i + lines] for i in range(0, len(labels), lines)]
            if sum(HANDLE + max(map(len, part)) for part in parts) <= LETTERS * self.width:
                return count
        return 1


HANDLE, LETTERS = 6, 17
"""Letters that the handle of an entry of a legend takes, and letters in an inch."""

SCREEN = Look()

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
MARKERS = "osD^vP*X"
GREY = "#555555"
SEQUENTIAL = "viridis"

SLACK = 1 + 1e-9
"""Relative slack of ticks at the limits."""

SHEET = Path(__file__).parent / "paper.mplstyle"

BELOW = "below"
"""Marks the triangles of values that lie below the axis (``gid``)."""

LIMIT = "limit"
"""Marks the lines of the minimum-norm solution (``gid``)."""

THEORY = "theory"
"""Marks the lines of random-matrix theory (``gid``) among others of their style."""

THRESHOLD = "threshold"
"""Marks the lines at the threshold (``gid``)."""

glyphs.remember()


@dataclass(frozen=True)
class Drawing:
    """A figure on disk.

    Attributes:
        png: for the screen; a PDF of the same name lies beside it.
        caption: what it shows, full sentences. The first one says which figure it is, and serves those who do not see
            it.
    """

    png: Path
    caption: str

    @property
    def alt(self) -> str:
        """The first sentence of the caption."""
        return self.caption.partition(". ")[0].rstrip(".")

    @property
    def files(self) -> tuple[Path, Path]:
        """The PNG and the PDF."""
        return self.png, self.png.with_name(self.png.name.removesuffix(".png") + ".pdf")


def sheet() -> AbstractContextManager[None]:
    """The style of all figures, for as long as the block lasts."""
    return style.context(SHEET)


def subplots(lines: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure and its axes [lines, columns], as ``pyplot.subplots`` gives them.

    Not by pyplot, which opens windows with the backend that the user has chosen.
    """
    figure = Figure(figsize=options.pop("figsize"))
    FigureCanvasAgg(figure)
    return figure, figure.subplots(lines, columns, squeeze=False, **options)


def colours(lines: Sequence[Mapping[str, object]]) -> list[Any]:
    """One colour a line: sequential for one ordered axis, else Okabe & Ito's."""
    axes = {key for values in lines for key in values}
    if len(axes) == 1 and len(lines) > 2 and all(isinstance(v, int | float) for x in lines for v in x.values()):
        return [mpl.colormaps[SEQUENTIAL](x) for x in np.linspace(0, 0.88, len(lines))]
    return [OKABE_ITO[i % len(OKABE_ITO)] for i in range(len(lines))]


def log_ticks(axis: Axis, low: float, high: float, *, most: int = 7, floor: float | None = None) -> None:
    """Ticks of a logarithmic axis with limits ``low`` and ``high``: about as many labels as fit, in plain numbers.

    Values at ``floor`` stand for all below it, and its label says so. By default this is ``FLOOR`` where
    :func:`mark_below` has marked a value of this axis.
    """
    if floor is None and axis.axes.yaxis is axis and is_marked(axis.axes.get_shared_y_axes().get_siblings(axis.axes)):
        floor = FLOOR
    decades = np.log10(high / low)
    choices = ((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0), (1.0, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0, 3.0))
    subs = next((s for s in choices if decades * len(s) <= most), (1.0,))
    if decades < 0.35:  # hardly a digit apart: steps of a half lie between
        subs = tuple(np.arange(2, 20) / 2)
    at = np.asarray(LogLocator(subs=subs, numticks=most + 2).tick_values(low, high))
    # the locator itself would give ticks beyond the limits, too, and matplotlib would place them each time
    at = at[(low / SLACK <= at) & (at <= high * SLACK)]
    clipped = floor is not None and low <= floor <= high
    if clipped and floor is not None:
        at = np.append(at[np.abs(np.log10(at / floor)) > 0.5], floor)
    axis.set_major_locator(FixedLocator(np.sort(at).tolist()))
    axis.set_major_formatter(FuncFormatter(at_most(floor) if clipped and floor is not None else plain))
    axis.set_minor_formatter(NullFormatter())


def set_limits(ax: Axes, seen: Sequence[np.ndarray]) -> None:
    """Logarithmic y limits around all finite positive values, none of them below ``FLOOR``."""
    values = np.concatenate([v[np.isfinite(v) & (v > 0)] for v in seen]) if seen else np.array([])
    if len(values):
        low, high = max(values.min(), FLOOR), max(values.max(), FLOOR)
        span = max((high / low) ** 0.06, 1.1)
        ax.set_ylim(low / span, high * span)


def mark_below(ax: Axes, x: np.ndarray, values: np.ndarray, colour: Any) -> None:
    """Open triangles that point down where a value is below ``FLOOR`` or below the axis, whose limits are set."""
    low, high = ax.get_ylim()
    below = (values < FLOOR) | (values < low)
    if below.any():
        edge = max(FLOOR, low * (high / low) ** 0.015)
        ax.plot(x[below], np.full(below.sum(), edge), ls="", marker="v", ms=4, mfc="white", mec=colour, mew=0.8,
                zorder=5, clip_on=False, gid=BELOW)  # fmt: skip


def is_marked(axes: Iterable[Axes], gid: str = BELOW) -> bool:
    """Whether some axes have a line with this mark."""
    return any(line.get_gid() == gid for ax in axes for line in ax.get_lines())


def below_handles(figure: Figure) -> list[Line2D]:
    """Entry of a legend for the triangles of :func:`mark_below`; none where there are none."""
    look: dict[str, Any] = {"color": GREY, "ls": "", "marker": "v", "ms": 4, "mfc": "white", "mew": 0.8}
    return [Line2D([], [], label=f"{at_most(FLOOR)(FLOOR)}, or zero", **look)] if is_marked(figure.axes) else []


def mark_thresholds(ax: Axes, at: Sequence[float], *, named: bool) -> None:
    """Dotted vertical lines where the model can just fit the training set, as far as they are within the limits."""
    low, high = ax.get_xlim()
    inside = [x for x in at if low <= x <= high]
    for x in inside:
        ax.axvline(x, color=GREY, ls=":", lw=1, zorder=1, gid=THRESHOLD)
    if named and inside:
        names = sorted({f"{x:.0f}" if abs(x - round(x)) < 1e-9 else f"{x:.1f}" for x in inside}, key=float)
        text = "threshold " + (", ".join(names) if len(names) <= 3 else f"{names[0]} … {names[-1]}")
        centre = float(np.exp(np.mean(np.log(inside))))
        # text beside the edge must not leave the panel
        share = np.log(centre / low) / np.log(high / low)
        side = "left" if share < 0.2 else "right" if share > 0.8 else "center"
        ax.annotate(text, (centre, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points",
                    ha=side, va="bottom", fontsize=7, color=GREY)  # fmt: skip


def save(figure: Figure, stem: Path) -> Path:
    """Write ``<stem>.png``, in 256 colours, and ``<stem>.pdf``; returns the PNG's path.

    The layout is settled once for both, and neither file holds a date: the same table gives the same bytes.
    """
    _settle(figure)
    png = stem.with_name(stem.name + ".png")
    asked = mpl.rcParams["savefig.dpi"]
    dpi = figure.dpi if asked == "figure" else asked
    # not by savefig, which draws all once more to find a layout
    canvas = FigureCanvasAgg(figure)
    figure.dpi = dpi
    canvas.draw()
    with Image.fromarray(np.asarray(canvas.buffer_rgba())) as image:
        reduced = image.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        reduced.save(png, dpi=(dpi, dpi))
    FigureCanvasPdf(figure).print_pdf(stem.with_name(stem.name + ".pdf"), metadata={"CreationDate": None})
    return png


def save_print(figure: Figure, path: Path) -> None:
    """Write one file for print, in the format that its name ends with; it holds no date.

    Raises:
        FormatError: a PGF file, and no LaTeX is installed, or it cannot set a text.
    """
    if path.suffix == ".pgf":
        write_pgf(figure, path)
        return
    with mpl.rc_context({"svg.hashsalt": path.name}):
        figure.savefig(path, metadata={"CreationDate": None} if path.suffix == ".pdf" else {"Date": None})


def _settle(figure: Figure) -> None:
    """Settle the layout, and draw the ticks without labels as one line of marks an axis.

    To matplotlib each tick is an object with lines and labels of its own. On logarithmic axes most of the time of a
    figure goes into those without labels, which move nothing.
    """
    axes = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    axes = [axis for axis in axes if isinstance(axis.get_minor_formatter(), NullFormatter)]
    locators = [axis.get_minor_locator() for axis in axes]
    for axis in axes:
        axis.set_minor_locator(NullLocator())
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine("none")
    # axes that share a scale share the locator: all are back before any is asked, and all are asked before any goes
    for axis, locator in zip(axes, locators, strict=True):
        axis.set_minor_locator(locator)
    places = [axis.get_minorticklocs() for axis in axes]
    for axis, at in zip(axes, places, strict=True):
        axis.set_minor_locator(NullLocator())
        low, high = sorted(axis.get_view_interval())
        _mark(axis, at[(low <= at) & (at <= high)])


def _mark(axis: Axis, at: np.ndarray) -> None:
    """Marks like small ticks, outside the lower or the left edge."""
    ax, edge = axis.axes, np.zeros(len(at))
    look: dict[str, Any] = {
        "color": mpl.rcParams["xtick.color"],
        "ms": mpl.rcParams["xtick.minor.size"],
        "mew": mpl.rcParams["xtick.minor.width"],
    }
    if axis is ax.xaxis:
        x, y, look["marker"], transform = at, edge, TICKDOWN, ax.get_xaxis_transform("tick1")
    else:
        x, y, look["marker"], transform = edge, at, TICKLEFT, ax.get_yaxis_transform("tick1")
    ax.add_artist(Line2D(x, y, ls="", transform=transform, clip_on=False, zorder=axis.get_zorder(), **look))
