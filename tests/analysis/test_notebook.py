"""What a notebook calls: dd.sweep by keywords, dd.plot, dd.peaks, dd.curves, dd.verdict, dd.tidy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from matplotlib import pyplot as plt

import dd
from analysis import peaks
from analysis.tables import load_runs
from dd.errors import ConfigError


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("notebook")
    return dd.sweep(
        width=[10, 30, 60, 100, 300], optimizer=["gd", "min_norm"], batch_size="full", steps=10**6, data_n_train=60,
        seed=range(3), data="digits", results_dir=folder / "results", n_jobs=1,
    )  # fmt: skip


def test_lists_sweep(rows: pd.DataFrame) -> None:
    assert len(rows) == 30
    assert set(rows.n_train) == {60}


def test_peaks_are_those_of_the_command(rows: pd.DataFrame) -> None:
    found = dd.peaks(rows)
    assert sorted(found.condition) == ["gd", "min norm"]
    assert found.loc[found.condition == "min norm", "threshold_counted"].item() == 60
    before = rows.copy()
    dd.peaks(rows)
    pd.testing.assert_frame_equal(rows, before)


def test_a_plot_shows_the_medians(rows: pd.DataFrame) -> None:
    figure = dd.plot(rows)
    (axes,) = [ax for ax in figure.axes if ax.get_ylabel().startswith("test loss")]
    medians = rows[rows.optimizer == "gd"].groupby("width").test_loss.median()
    drawn = [list(line.get_ydata()) for line in axes.lines]
    assert any(values == pytest.approx(list(medians)) for values in drawn if len(values) == len(medians))
    plt.close(figure)


def test_jupyter_is_told_how_to_show_a_plot(
    rows: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jupyter shows the figures of pyplot; the inline backend registers all others when it is imported."""
    (tmp_path / "matplotlib_inline").mkdir()
    for name in ("__init__.py", "backend_inline.py"):
        (tmp_path / "matplotlib_inline" / name).touch()
    for name in [name for name in sys.modules if name.startswith("matplotlib_inline")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    dd.plot(rows)
    assert "matplotlib_inline.backend_inline" not in sys.modules
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    dd.plot(rows)
    assert sys.modules.pop("matplotlib_inline.backend_inline").__file__ == str(
        tmp_path / "matplotlib_inline/backend_inline.py"
    )
    del sys.modules["matplotlib_inline"]


def test_several_set_ups_are_refused_in_one_line(rows: pd.DataFrame) -> None:
    other = rows.assign(label_noise=0.2)
    with pytest.raises(
        ValueError, match=r"the rows differ in .*label_noise; plot one set-up at a time, as rows\[rows\."
    ):
        dd.plot(pd.concat([rows, other]))
    with pytest.raises(ValueError, match="no row has status ok"):
        dd.plot(rows.assign(status="failed"))


def test_tidy_shows_what_varies_then_the_outcomes(rows: pd.DataFrame) -> None:
    shown = dd.tidy(rows)
    assert list(shown.columns[:2]) == ["optimizer", "width"]
    assert list(shown.columns).index("seed") < list(shown.columns).index("train_loss")
    assert "n_train" not in shown, "it is the same in all rows"
    assert shown["test_loss"].notna().all()
    assert len(shown) == len(rows)


def test_curves_and_the_verdict_read_a_table(tmp_path: Path) -> None:
    results = tmp_path / "results"
    made = dd.sweep(width=[20, 40], optimizer="adam", epochs=2, results_dir=results, name="here", n_jobs=1)
    steps = dd.curves("here", results)
    assert set(steps.width) == {20, 40}
    last = steps.sort_values("step").groupby("width").test_loss.last()
    assert list(last) == pytest.approx(list(made.set_index("width").test_loss.sort_index()))
    assert list(dd.verdict("here", results).columns) == ["problem", "conditions", "text"], "two runs are no study"
    pd.testing.assert_frame_equal(dd.peaks(dd.load("here", results)), peaks.table(load_runs(results, "here")))


def test_bad_input_is_one_line_without_what_it_came_from() -> None:
    for keys in ({"width": []}, {"widht": 3}, {"width": "range(1"}, {"width": {"a": 1}}):
        with pytest.raises(ConfigError) as caught:
            dd.sweep(**keys)  # type: ignore[arg-type]
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
        assert caught.value._render_traceback_() == [f"{type(caught.value).__name__}: {caught.value}"], (
            "what a notebook shows"
        )


def test_a_folder_named_analysis_does_not_disturb(tmp_path: Path) -> None:
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis/__init__.py").write_text("mine = 1")
    code = "import dd; r = dd.sweep(width=[20, 40], optimizer='min_norm', n_jobs=1); print(len(dd.peaks(r)))"
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", f"import sys; sys.path.append({root!r}); {code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "1"
    command[-1] = command[-1].replace("import dd;", "import analysis; import dd;")
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "is loaded as analysis" in done.stderr
