"""How every figure looks: colours, markers, logarithmic axes, and the files they are saved to.

Colours are those of Okabe & Ito, or a sequential map for an ordered axis; both are safe for the colour-blind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
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
from analysis.labels import plain

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
MARKERS = "osD^vP*X"
GREY = "#555555"
SEQUENTIAL = "viridis"

SLACK = 1 + 1e-9
"""Relative slack of ticks at the limits."""

SHEET = Path(__file__).parent / "paper.mplstyle"

glyphs.remember()


@dataclass(frozen=True)
class Drawing:
    """A figure on disk.

    Attributes:
        png: for the screen; a PDF of the same name lies beside it.
        caption: what it shows, a full sentence or more.
    """

    png: Path
    caption: str

    @property
    def files(self) -> tuple[Path, Path]:
        """The PNG and the PDF."""
        return self.png, self.png.with_name(self.png.name.removesuffix(".png") + ".pdf")


def colours(lines: Sequence[Mapping[str, object]]) -> list[Any]:
    """One colour a line: sequential for one ordered axis, else Okabe & Ito's."""
    axes = {key for values in lines for key in values}
    if len(axes) == 1 and len(lines) > 2 and all(isinstance(v, int | float) for x in lines for v in x.values()):
        return [mpl.colormaps[SEQUENTIAL](x) for x in np.linspace(0, 0.88, len(lines))]
    return [OKABE_ITO[i % len(OKABE_ITO)] for i in range(len(lines))]


def log_ticks(axis: Axis, low: float, high: float, *, most: int = 7) -> None:
    """Ticks of a logarithmic axis with limits ``low`` and ``high``: about as many labels as fit, in plain numbers."""
    decades = np.log10(high / low)
    choices = ((1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0), (1.0, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0, 3.0))
    subs = next((s for s in choices if decades * len(s) <= most), (1.0,))
    if decades < 0.35:  # hardly a digit apart: steps of a half lie between
        subs = tuple(np.arange(2, 20) / 2)
    at = np.asarray(LogLocator(subs=subs, numticks=most + 2).tick_values(low, high))
    # the locator itself would give ticks beyond the limits, too, and matplotlib would place them each time
    axis.set_major_locator(FixedLocator(at[(low / SLACK <= at) & (at <= high * SLACK)].tolist()))
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_formatter(NullFormatter())


def set_limits(ax: Axes, seen: Sequence[np.ndarray]) -> None:
    """Logarithmic y limits around all finite positive values, none of them below ``FLOOR``."""
    values = np.concatenate([v[np.isfinite(v) & (v > 0)] for v in seen]) if seen else np.array([])
    if len(values):
        low, high = max(values.min(), FLOOR), max(values.max(), FLOOR)
        span = max((high / low) ** 0.06, 1.1)
        ax.set_ylim(low / span, high * span)


def mark_thresholds(ax: Axes, at: Sequence[float], *, named: bool) -> None:
    """Dotted vertical lines where the model can just fit the training set, as far as they are within the limits."""
    low, high = ax.get_xlim()
    inside = [x for x in at if low <= x <= high]
    for x in inside:
        ax.axvline(x, color=GREY, ls=":", lw=1, zorder=1)
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
    """Write ``<stem>.png``, in 256 colours, and ``<stem>.pdf``; closes the figure and returns the PNG's path.

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
    plt.close(figure)
    return png


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
