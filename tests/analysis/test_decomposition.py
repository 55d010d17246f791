"""From tables with test outputs to the parts of the test loss and their figure."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from analysis.components import estimate
from analysis.decomposition import LABELS, NotCrossed, decompose, draw_decomposition, main
from dd.cli.sweeps import run_sweep
from dd.runs.settings import Settings
from tests.helpers import run_of

BASE = ("data.n_train=30", "data.n_test=25", "data.label_noise=0.1")
WIDTHS = (10, 20, 45)
PARTS = ("bias_squared", "variance_data", "variance_init", "variance_interaction")


def sweep(
    folder: Path, name: str, *overrides: str, test_seed: int | None = 0, seeds: int = 4, **settings: object
) -> None:
    """Three training sets crossed with some seeds; the data seed 0 is also the test seed, which is then null."""
    base = run_of(*BASE, *overrides)
    runs = [
        base.replace(width=width, seed=s, data_seed=d, test_seed=test_seed if d else None)
        for width in WIDTHS for d in range(3) for s in range(seeds)
    ]  # fmt: skip
    chosen = {"measure_predictions": True, **settings}
    run_sweep(runs, Settings(device="cpu", results_dir=str(folder), name=name, n_jobs=1, **chosen))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    sweep(folder, "crossed", "optimizer=min_norm")
    sweep(folder, "crossed", "optimizer=ridge", "optimizer.penalty=5")
    return folder


def test_every_point_is_decomposed(results: Path) -> None:
    table = decompose(results, "crossed").set_index(["optimizer", "width"])
    assert sorted(table.index) == [(o, w) for o in ("min_norm", "ridge") for w in WIDTHS]
    assert set(table.data_seeds) == {3}
    assert set(table.seeds) == {4}
    rows = pd.read_parquet(results / "crossed/runs")
    assert rows.test_seed.isna().sum() == 4 * 3 * 2, "null for the data seed that is the test seed"
    losses = rows.groupby(["optimizer", "width"]).test_loss.mean()
    pd.testing.assert_series_equal(table.test_loss, losses, rtol=1e-6)
    pd.testing.assert_series_equal(table.ensemble_1, losses, rtol=1e-6, check_names=False)
    np.testing.assert_allclose(table[list(PARTS)].sum(axis=1), table.test_loss)
    for key in (*PARTS, "test_loss", "ensemble_limit"):
        assert (table[f"{key}_low"] < table[f"{key}_high"]).all()


def test_a_point_is_made_of_its_own_outputs_and_targets(results: Path) -> None:
    """By hand, from parquet files alone."""
    rows = pd.read_parquet(results / "crossed/runs")
    rows = rows[(rows.optimizer == "ridge") & (rows.width == 20)].set_index("run_id")
    outputs = pd.read_parquet(results / "crossed/predictions").set_index("run_id").outputs
    (targets,) = pd.read_parquet(results / "crossed/targets").targets
    errors = np.empty((3, 4, len(targets)))
    for run_id, row in rows.iterrows():
        errors[row.data_seed, row.seed] = outputs[run_id].astype(float) - targets
    table = decompose(results, "crossed").set_index(["optimizer", "width"])
    for key in PARTS:
        assert table.loc[("ridge", 20), key] == pytest.approx(getattr(estimate(errors), key)[0]), key
    both = (errors[:, [0, 1]].mean(axis=1), errors[:, [0, 2]].mean(axis=1), errors[:, [0, 3]].mean(axis=1),
            errors[:, [1, 2]].mean(axis=1), errors[:, [1, 3]].mean(axis=1), errors[:, [2, 3]].mean(axis=1))  # fmt: skip
    assert table.loc[("ridge", 20), "ensemble_2"] == pytest.approx(np.mean(np.square(both)))


def test_points_that_are_no_complete_cross_are_left_out(results: Path, tmp_path: Path) -> None:
    sweep(tmp_path, "t", "optimizer=min_norm")
    lone = run_of(*BASE, "optimizer=min_norm", "width=60")
    kept = Settings(device="cpu", results_dir=str(tmp_path), name="t", n_jobs=1, measure_predictions=True)
    run_sweep([lone, lone.replace(seed=1), lone.replace(data_seed=1, test_seed=0)], kept)
    without = Settings(device="cpu", results_dir=str(tmp_path), name="t", n_jobs=1)
    run_sweep([lone.replace(data_seed=1, test_seed=0, seed=1)], without)
    assert decompose(tmp_path, "t").width.tolist() == list(WIDTHS)
    part = next((tmp_path / "t/predictions").glob("*.parquet"))
    part.with_name("unwritten.parquet").write_bytes(part.read_bytes())
    whole = decompose(results, "crossed").query("optimizer == 'min_norm'").drop(columns="optimizer_penalty")
    pd.testing.assert_frame_equal(decompose(tmp_path, "t"), whole.reset_index(drop=True), check_exact=True)


@pytest.mark.parametrize(
    ("overrides", "settings", "line"),
    [
        ((), {"test_seed": None}, "no curve point has the test outputs"),
        ((), {"measure_predictions": False}, "measure.predictions=true data.test_seed=0"),
        (("loss=cross_entropy", "optimizer=sgd", "steps=2"), {}, "no curve point"),
        (("data.label_noise=0", "data.targets=linear"), {}, "test targets at width 10 differ between data seeds"),
    ],
)
def test_other_tables_are_refused(
    overrides: tuple[str, ...], settings: dict[str, object], line: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    sweep(tmp_path, "t", "optimizer=min_norm", "batch_size=full", *overrides, seeds=2, **settings)
    with pytest.raises(NotCrossed, match=line):
        decompose(tmp_path, "t")
    capsys.readouterr()
    assert main(["--results", str(tmp_path), "--name", "t", "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert line in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_artists_hold_the_table(results: Path) -> None:
    table = decompose(results, "crossed")
    figure = draw_decomposition(table)
    assert [ax.get_title() for ax in figure.axes[:2]] == ["min norm", "ridge"]
    for i, optimizer in enumerate(("min_norm", "ridge")):
        members = table[table.optimizer == optimizer]
        above, below = figure.axes[i], figure.axes[2 + i]
        assert above.get_xscale() == above.get_yscale() == below.get_yscale() == "log"
        lines = {line.get_label(): line for line in above.get_lines()}
        for key, (label, _) in LABELS.items():
            told = (members[f"{key}_low"] > 0).to_numpy()
            drawn = np.asarray(lines[label].get_ydata(), dtype=float)
            assert lines[label].get_xdata().tolist() == list(WIDTHS)
            np.testing.assert_allclose(drawn[told], members[key][told])
            assert np.isnan(drawn[~told]).all()
        assert len(above.collections) == len(LABELS)
        labels = [line.get_label() for line in below.get_lines()][:4]
        assert labels == ["single run", "ensemble of 2", "limit of ensembles", labels[3]]
        np.testing.assert_allclose(below.get_lines()[1].get_ydata(), members.ensemble_2)
        assert any(list(line.get_xdata()) == [30, 30] for line in above.get_lines()), "the threshold"
    plt.close(figure)


def test_the_command_draws_every_table_with_outputs(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--results", str(results), "--out", str(tmp_path)]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.split()]
    assert [p.name for p in printed] == ["crossed-decomposition.png", "crossed-decomposition.pdf"]
    assert all(p.stat().st_size > 10_000 for p in printed)
