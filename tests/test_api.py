"""dd from a notebook, and the plan."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import dd
from dd.errors import ConfigError, StoreError
from tests.helpers import dd_run


def test_sweep_returns_the_rows_that_the_command_line_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = dd.sweep("width=range(20,60,20)", "optimizer=sgd,adam", "epochs=3", "name=here", n_jobs=1)
    assert dd_run("-m", "width=20,40", "optimizer=adam,sgd", "epochs=3", "name=there", cwd=tmp_path).returncode == 0
    there = dd.load("there")
    drop = ["name", "seconds", "finished_at"]
    frames = [f.sort_values("run_id", ignore_index=True).drop(columns=drop) for f in (table, there)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)


def test_sweep_resumes_and_returns_its_own_rows_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    dd.sweep("width=20,30", "epochs=2", n_jobs=1)
    again = dd.sweep("width=30,40", "epochs=2", n_jobs=1)
    assert sorted(again.width) == [30, 40]
    assert "1 of 2 runs to do" in capsys.readouterr().err
    assert len(dd.load()) == 3


@pytest.mark.hydra
def test_presets_and_interpolations_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = dd.sweep("+experiment=linear_teacher", "width=20,60", "data.seed=${seed}", "seed=1,2", n_jobs=1)
    assert set(rows.name) == {"linear_teacher"}
    assert sorted(zip(rows.width, rows.data_seed, strict=True)) == [(20, 1), (20, 2), (60, 1), (60, 2)]


@pytest.mark.hydra
@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (("width=0",), r"width=0 \(from the command line\): must be an integer >= 1"),
        (("optimizer=sdg",), "must be one of adagrad"),
        (("widht=1,2",), "did you mean width"),
        (("width=range(1",), "range"),
        (("lr=range(0.1,0.2,0)",), "holds no value to run"),
    ],
)
def test_bad_input_raises_one_line(
    overrides: tuple[str, ...], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=text) as caught:
        dd.sweep(*overrides)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="name=none makes it"):
        dd.load("none", tmp_path)


def test_plan_only_computes_nothing(tmp_path: Path) -> None:
    done = dd_run("-m", "width=range(100,2000,100)", "optimizer=sgd,adam", "plan_only=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("38 runs in ")
    assert lines[1:4] == ["  optimizer  adam, sgd", "  width      19 values from 100 to 1900", ""]
    assert lines[4].split() == ["seconds", "runs", "widths", "MB", "pack", "trainer"]
    assert not list((tmp_path / "results/default/runs").glob("*.parquet"))


@pytest.mark.hydra
def test_references_to_swept_keys_follow_them_without_composing_every_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    composed = []
    original = ConfigLoaderImpl.load_sweep_config

    def counting(self, *arguments):
        composed.append(arguments)
        return original(self, *arguments)

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", counting)
    runs = dd.sweep(
        "width=20", "optimizer=min_norm", "seed=1,2,3", "data.seed=${seed}", "name=of_${data.n_train}_samples",
        f"results_dir={tmp_path}", n_jobs=1,
    )  # fmt: skip
    assert sorted(zip(runs["seed"], runs["data_seed"], strict=True)) == [(1, 1), (2, 2), (3, 3)]
    assert set(runs["name"]) == {"of_500_samples"}
    assert len(composed) <= 1


@pytest.mark.hydra
def test_a_reference_to_a_key_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="nowhere"):
        dd.sweep("width=20,30", "data.seed=${nowhere}", f"results_dir={tmp_path}")


def test_asking_for_one_measurement_keeps_the_other(tmp_path: Path) -> None:
    line = ("width=20,30", "optimizer=min_norm", f"results_dir={tmp_path}")
    dd.sweep(*line, "measure.predictions=true", n_jobs=1)
    outputs = {path.name for path in (tmp_path / "default" / "predictions").glob("*.parquet")}
    assert outputs
    assert set(dd.sweep(*line, "measure=full", n_jobs=1)["measure"]) == {"full"}
    assert set(dd.sweep(*line, "measure.predictions=true", n_jobs=1)["measure"]) == {"full"}
    kept = pd.read_parquet(tmp_path / "default" / "predictions")
    assert set(kept["run_id"]) == set(dd.load("default", results_dir=tmp_path)["run_id"])


@pytest.mark.hydra
def test_an_addition_of_a_swept_key_has_the_last_word_as_in_hydra(tmp_path: Path) -> None:
    rows = dd.sweep("width=20", "optimizer=min_norm", "seed=1,2", "++seed=7", f"results_dir={tmp_path}", n_jobs=1)
    assert set(rows["seed"]) == {7}


def test_a_sweep_from_python_leaves_the_command_line_working_in_the_same_process(tmp_path: Path) -> None:
    line = "['-m', 'width=5,6', 'epochs=1', 'n_jobs=1']"
    code = f"from dd.api import compose_runs; compose_runs('width=5,6'); from dd.run import main; main({line})"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "results/default/runs" in done.stdout, done.stderr
