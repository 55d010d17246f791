"""What others see of the analysis: matplotlib as they have set it up, and figures that say what is in them.

Covers: analysis/captions.py, analysis/layout.py, analysis/setups.py, analysis/answers.py, analysis/effective.py.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis import answers, figures, setups
from analysis.bundle import draw_bundle
from analysis.curves import FLOOR
from analysis.effective import draw_effective
from analysis.layout import layout_of
from analysis.panels import draw
from analysis.peaks import table
from analysis.scatter import draw_summary
from analysis.style import BELOW, Look, is_marked, sheet
from tests.analysis.synthetic import logged, peaked, runs

UNTOUCHED = """
import importlib, matplotlib, pkgutil
matplotlib.use("svg")
before = {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != "backend"}
import dd, analysis
for package in (analysis,):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
after = {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != "backend"}
assert matplotlib.get_backend() == "svg", matplotlib.get_backend()
assert before == after
from tests.analysis.synthetic import runs
from analysis.setups import draw_table
from pathlib import Path
import sys
draw_table(runs(), "t", Path(sys.argv[1]))
assert matplotlib.get_backend() == "svg"
assert "matplotlib.pyplot" not in sys.modules or not matplotlib.pyplot.get_fignums()
"""


def test_importing_and_drawing_leave_the_backend_and_the_settings_of_matplotlib(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", UNTOUCHED, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "t.png").is_file()


def rounding(row: dict[str, object]) -> dict[str, float]:
    """A train loss that is rounding beyond the threshold, and a train error of zero there."""
    beyond = int(row["width"]) > 50  # type: ignore[call-overload]
    return peaked(row) | ({"train_loss": 1e-28, "train_error": 0.0} if beyond else {})


def marks(figure: Figure) -> list[tuple[str, list[float]]]:
    """Panels with triangles, and where these are along x."""
    return [
        (ax.get_ylabel(), np.asarray(line.get_xdata(), dtype=float).tolist())
        for ax in figure.axes for line in ax.get_lines() if line.get_gid() == BELOW
    ]  # fmt: skip


def drawings() -> Iterator[tuple[str, Figure, list[float]]]:
    """A figure of each module that draws losses on a logarithmic axis, and the widths whose values it cannot show."""
    rows = runs(numbers=rounding, lr=(0.5,))
    yield "panels", draw(rows, "t", ["lr"]), [100.0, 200.0]
    yield "bundle", draw_bundle(rows, "t", ["lr"], look=Look(panels=("train_loss",))), [100.0, 200.0]
    tiny = rows.assign(test_loss=np.where(rows["width"] == 200, 1e-12, rows["test_loss"]))
    closed = tiny.assign(optimizer="ridge", steps=np.nan, effective_parameters_test=rows["width"].astype(float))
    yield "effective", draw_effective(closed, "t", ["lr"]), [200.0]
    steps = logged(rows, (1, 10, 100), lambda step, run: 0.0 if step == 100 else 1 / step)
    yield "epochs", draw(steps, "t", ["lr"], "epoch"), [100.0]


@pytest.mark.parametrize("number", range(4), ids=["panels", "bundle", "effective", "epochs"])
def test_values_below_the_axis_are_marked(number: int) -> None:
    _, figure, where = list(drawings())[number]
    found = marks(figure)
    assert found
    assert all(set(x) == set(where) for _, x in found)


def test_the_tick_at_the_floor_says_at_most_and_the_legend_what_triangles_are() -> None:
    figure = draw(runs(numbers=rounding, lr=(0.1, 0.5)), "t", ["lr"])
    figure.draw_without_rendering()
    ax = next(a for a in figure.axes if a.get_ylabel() == "train loss")
    labels = {tick: text.get_text() for tick, text in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)}
    assert labels[FLOOR] == "≤ 10⁻¹⁰"
    assert "≤ 10⁻¹⁰, or zero" in [t.get_text() for t in figure.legends[0].get_texts()]
    plain = draw(runs(lr=(0.1, 0.5)), "t", ["lr"])
    assert not is_marked(plain.axes)
    assert "≤ 10⁻¹⁰, or zero" not in [t.get_text() for t in plain.legends[0].get_texts()]


def test_conditions_at_the_floor_of_the_train_loss_are_marked_and_no_axis_of_prominences_is_negative() -> None:
    found = pd.DataFrame(
        {"family": "f", "noisy": False, "factor": "steps", "condition": ["a", "b"], "train_loss": [1e-8, 1e-2],
         "height": [2.0, -0.3], "decision": ["peak", "no peak"]}
    )  # fmt: skip
    figure = draw_summary(found)
    ax = figure.axes[0]
    assert ax.get_ylim()[0] < 0
    assert not re.search("prominence", ax.get_ylabel())
    assert marks(figure) == [(ax.get_ylabel(), [1e-8])]
    assert "≤ 10⁻⁸" in [ax.xaxis.get_major_formatter()(x) for x in ax.get_xticks()]


@pytest.mark.usefixtures("unsaved")
@pytest.mark.parametrize("missing", ["test_error", "feature_condition", None])
def test_captions_name_the_panels_that_are_there_and_no_others(missing: str | None, tmp_path: Path) -> None:
    rows = runs(steps=(10, 100, 1000), lr=(0.1, 0.5), optimizer=("sgd", "momentum"), measure=("full",))
    rows = rows.assign(ntk_condition=3.0, hessian_lambda_max=2.0, trained_features=True, feature_condition_init=5.0)
    if missing:
        rows[missing] = np.nan
    words = {"test_error": "test error", "feature_condition": "condition number of the features"}
    drawn = setups.draw_table(rows, "t", tmp_path, logged(rows, (1, 3, 10, 30, 100), lambda s, r: 1.0 / s))
    assert {"budgets", "conditioning"} <= {d.png.stem.rpartition("-")[2] for d in drawn}
    for drawing in drawn:
        if missing and "epoch" not in drawing.alt:
            assert words[missing] not in drawing.caption.lower(), drawing.png.name
    assert len({d.alt for d in drawn}) == len(drawn), "alternative texts differ"
    along = [d.caption for d in drawn if "epoch" not in d.alt]
    assert any(words["test_error"] in caption for caption in along) == (missing != "test_error")


def sizes(figure: Figure) -> list[float]:
    """Sizes of all texts that are seen, in points."""
    figure.draw_without_rendering()
    texts = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]  # type: ignore[attr-defined]
    return [t.get_fontsize() for t in texts]


@pytest.mark.parametrize("width", [2.5, 3.25, 6.75])
def test_print_has_legible_type_at_its_size(width: float) -> None:
    rows = runs(numbers=rounding, steps=(10, 100, 1000))
    look = Look(width, ("test_loss", "train_loss"), titled=False)
    with sheet():
        every = [draw(rows, "title", ["steps"], look=look), draw_bundle(rows, "title", ["steps"], look=look)]
        for figure in every:
            assert figure.get_size_inches()[0] == width
            assert min(sizes(figure)) >= 7
            assert [a.get_ylabel() for a in figure.axes][:2] == ["test loss", "train loss"]
            assert "title" not in [t.get_text() for t in figure.findobj(Text)]  # type: ignore[attr-defined]
            box = figure.get_tightbbox()
            assert box.x0 > -0.02
            assert box.x1 < width + 0.02


@pytest.mark.parametrize("suffix", ["pdf", "svg"])
def test_print_is_written_in_the_format_and_width_that_are_asked_for(suffix: str, tmp_path: Path) -> None:
    rows = runs(label_noise=(0.0, 0.1))
    written = setups.draw_paper(rows, "t", tmp_path, Look(3.25, ("test_loss",), titled=False), suffix)
    assert [path.name for path, _ in written] == [f"t-label_noise={q}.{suffix}" for q in (0.0, 0.1)]
    assert all("test loss against width" in words for _, words in written)
    text = written[0][0].read_bytes()
    size = re.search(rb"/MediaBox \[ 0 0 (\S+)" if suffix == "pdf" else rb'width="([\d.]+)pt"', text)
    assert size is not None
    assert float(size[1]) == pytest.approx(3.25 * 72)
    setups.draw_paper(rows, "t", tmp_path / "..", Look(3.25, ("test_loss",), titled=False), suffix)
    assert (tmp_path / ".." / written[0][0].name).read_bytes() == text, "the same table gives the same bytes"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--width", "3"], "--width belongs to --for paper"),
        (["--for", "paper", "--panels", "loss"], "'loss' is no panel; there are test_error, test_loss"),
        (["--for", "paper", "--width", "99"], "99 is no width from 2.5 to 12.0 inches"),
    ],
)
def test_options_that_cannot_be_are_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        figures.main(arguments)
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_the_style_serves_others_by_its_name() -> None:
    with plt.style.context("analysis.paper"):
        assert plt.rcParams["axes.labelsize"] == 8
        assert plt.rcParams["pdf.fonttype"] == 42


def test_an_answer_counts_peaks_and_finds_the_axis_that_they_go_with() -> None:
    def numbers(row: dict[str, object]) -> dict[str, float]:
        found = peaked(row)
        return found if row["steps"] == 1000 else found | {"test_loss": 1 / float(row["width"])}  # type: ignore[arg-type]

    rows = runs(seeds=5, numbers=numbers, steps=(10, 100, 1000), lr=(0.1, 0.5))
    words = answers.answer(table(rows))
    assert words.startswith(
        "The test loss peaks along the width in 2 of 6 curves. The largest height over both valleys is ×"
    )
    assert "at width 50 (threshold: 50), for " in words
    assert words.endswith("Curves with a peak by steps: 10: 0 of 2; 100: 0 of 2; 1000: 2 of 2.")


def test_an_answer_from_one_seed_says_that_it_is_no_test() -> None:
    words = answers.answer(table(runs(seeds=1)))
    assert words.startswith("Whether the test loss peaks along the width is undecided: the curve is not tested, or not")
    assert "1 seed, fewer than 3" in words


def test_a_table_without_a_judged_curve_has_an_answer() -> None:
    assert answers.answer(None) == answers.answer(pd.DataFrame()) == "No peaks were judged here."


def test_a_layout_takes_few_curves_as_lines_and_many_as_a_bundle() -> None:
    assert not layout_of(runs(lr=(0.1, 0.5))).crowded
    assert layout_of(runs(seeds=1, lr=(0.1, 0.2, 0.3), steps=(1, 2, 3), init_scale=(0.0, 1.0, 2.0))).crowded
