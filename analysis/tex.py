"""Figures for LaTeX: PGF whose text any LaTeX can set, in the main font of its document."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import matplotlib as mpl
from matplotlib.axis import Axis
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

ENGINES = ("pdflatex", "xelatex", "lualatex")
"""Programs that can measure text, in order of preference. The file does not depend on which one did."""

SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "$": r"\textdollar{}",  # matplotlib undoes \$
    **{sign: "\\" + sign for sign in "{}&#%_"},
    **{sign: f"${sign}$" for sign in "<>|"},  # others in TeX's oldest encoding, which is LaTeX's default
    "–": "--",
    "…": r"\ldots{}",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "∝": r"$\propto$",
    "√": r"$\surd$",
    "κ": r"$\kappa$",
    "λ": r"$\lambda$",
    "τ": r"$\tau$",
    "Σ": r"$\Sigma$",
}
"""What LaTeX needs for a sign, whatever its fonts are."""

RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
RAISED_RUN = re.compile("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+")


class FormatError(Exception):
    """A file format that cannot be written here."""


def latex(text: str) -> str:
    r"""A text as LaTeX sets it with any engine and any font.

    >>> print(latex("≤ 3.2·10⁻¹⁰"), latex("my_nets.py"), latex("90 % band"))
    $\leq$ 3.2$\cdot$10\textsuperscript{$-$10} my\_nets.py 90 \% band
    """
    signs = "".join(SIGNS.get(sign, sign) for sign in text)
    return RAISED_RUN.sub(lambda run: rf"\textsuperscript{{{run[0].translate(RAISED).replace('-', '$-$')}}}", signs)


def write_pgf(figure: Figure, path: Path) -> None:
    """Write a figure as PGF. Its texts are LaTeX afterwards, for no other format.

    Raises:
        FormatError: no LaTeX is installed, which measures texts, or it refuses a text.
    """
    engine = next((name for name in ENGINES if shutil.which(name)), None)
    if engine is None:
        engines = ", ".join(ENGINES)
        raise FormatError(f"--format pgf needs one of {engines}, and none is installed; pdf and svg need nothing")
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            _label_in_latex(axis)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(latex(text.get_text()))
        text.set_fontfamily("serif")
    for mesh in figure.findobj(QuadMesh):  # of a colour bar: cells, since \input does not find an image beside the file
        mesh.set(rasterized=False, alpha=1, edgecolor="face", linewidth=0.5)  # cells that overlap leave no gaps
    with mpl.rc_context({"pgf.rcfonts": False, "pgf.texsystem": engine, "font.family": "serif"}):
        try:
            figure.savefig(path)
        except ValueError as error:  # as matplotlib tells that LaTeX refused a text
            path.unlink(missing_ok=True)
            said = next((line[2:] for line in str(error).splitlines() if line.startswith("! ")), "")
            raise FormatError(f"--format pgf: {engine} cannot set a text of {path.name}: {said}") from error


def _label_in_latex(axis: Axis) -> None:
    """Have an axis write its numbers for LaTeX."""
    plain = axis.get_major_formatter()
    axis.set_major_formatter(FuncFormatter(lambda x, position: latex(plain(x, position))))
