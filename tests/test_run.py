"""The command line as users type it: each test is a process in an empty folder."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

import dd
from tests.faults.surroundings import rows_are_there, start, workers
from tests.helpers import dd_run

FAST = ("epochs=5", "device=cpu", "n_jobs=1")
VOLATILE = ["seconds", "finished_at"]
NEXT = "next: python -m analysis.figures --results results --out figures"
"""In a folder that is no checkout."""


def table(cwd: Path, name: str = "default") -> pd.DataFrame:
    return pd.read_parquet(cwd / "results" / name / "runs").sort_values("run_id").reset_index(drop=True)


def test_one_run_at_the_defaults(tmp_path: Path) -> None:
    done = dd_run(cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = table(tmp_path).iloc[0]
    assert (row.model, row.width, row.data, row.optimizer) == ("random_features", 100, "digits", "sgd")
    assert (row.epochs, row.steps, row.lr, row.lr_unit) == (500, 5000, 0.5, "sharpness")
    assert row.status == "ok"
    assert 0.01 < row.train_loss < row.test_loss < 0.05
    assert 0.02 < row.test_error < 0.1
    assert row.feature_rank == 100
    curve = pd.read_parquet(tmp_path / "results/default/curves")
    assert curve.step.iloc[[0, -1]].tolist() == [0, 5000]
    assert curve.train_loss.iloc[-1] == pytest.approx(row.train_loss, rel=1e-4)
    assert {p.name for p in tmp_path.iterdir()} == {"results"}, "nothing else is left in the folder"
    again = dd_run(cwd=tmp_path)
    assert re.fullmatch(r"dd: already in .*; force=true computes it again\n", again.stderr)
    assert again.stdout == done.stdout


def test_a_sweep_ends_with_a_table_and_resumes(tmp_path: Path) -> None:
    first = dd_run("-m", "width=range(20,60,20)", "optimizer=sgd,adam", *FAST, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "4 of 4 runs to do" in first.stderr
    lines = first.stdout.splitlines()
    assert lines[0] == "2 widths from 20 to 40; threshold 500: the width that can just fit the training set"
    assert lines[2].split()[:2] == ["optimizer", "runs"]
    assert [line.split()[0] for line in lines[3:5]] == ["adam", "sgd"]
    assert lines[-2:] == ["table: results/default/runs", NEXT]
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "results/default/runs").iterdir()}
    second = dd_run("-m", "optimizer=adam,sgd", "width=20,40,40,60", *FAST, cwd=tmp_path)
    assert "2 of 8 runs to do (2 duplicates left out, 4 already in the table)" in second.stderr
    assert len(table(tmp_path)) == 6
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "results/default/runs").iterdir()}
    assert before.items() <= after.items(), "finished parts are not touched"


def test_order_neighbours_and_processes_change_no_number(tmp_path: Path) -> None:
    sweep = ("width=30,90,200", "optimizer=adam,sgd", "seed=0,1", "epochs=5", "device=cpu")
    assert dd_run("-m", *sweep, "name=a", "n_jobs=1", cwd=tmp_path).returncode == 0
    assert dd_run("-m", *reversed(sweep), "name=b", "n_jobs=2", cwd=tmp_path).returncode == 0
    assert dd_run("-m", "width=90", "optimizer=adam", "seed=1,0", *FAST, "name=c", cwd=tmp_path).returncode == 0
    assert dd_run("-m", *sweep, "name=c", "n_jobs=1", cwd=tmp_path).returncode == 0
    drop = [*VOLATILE, "name"]
    reference = table(tmp_path, "a").drop(columns=drop)
    assert len(reference) == 12
    for name in "bc":
        pd.testing.assert_frame_equal(table(tmp_path, name).drop(columns=drop), reference, check_exact=True)
    curves = [
        pd.read_parquet(tmp_path / f"results/{name}/curves").sort_values(["run_id", "step"], ignore_index=True)
        for name in "ab"
    ]
    pd.testing.assert_frame_equal(*curves, check_exact=True)


def test_force_computes_again(tmp_path: Path) -> None:
    for extra in ((), ("force=true",)):
        assert dd_run("-m", "width=20,30", *FAST, *extra, cwd=tmp_path).returncode == 0
        frame = table(tmp_path)
        assert len(frame) == 2
    assert frame.finished_at.min() > pd.Timestamp.now(tz="UTC") - pd.Timedelta(minutes=1)
    curves = pd.read_parquet(tmp_path / "results/default/curves")
    assert not curves.duplicated(["run_id", "step"]).any()
    assert set(curves.run_id) == set(table(tmp_path).run_id)


BAD = [
    (("width=0",), "width=0 (from the command line): must be an integer >= 1"),
    (("-m", "width=10,0,20"), "width=0 (from the command line): must be an integer >= 1"),
    (("lr=-1",), "lr=-1 (from the command line): must be a number > 0"),
    (("batch_size=600",), "batch_size=600 (from the command line): must be <= data.n_train=500, or full"),
    (("data.n_train=5000",), "data.n_train=5000 (from the command line): must be <= 797"),
    (("optimizer=sdg",), "optimizer=sdg (from the command line): must be one of adagrad, adam"),
    (("-m", "optimizer=sgd,sdg"), "optimizer=sdg (from the command line): must be one of adagrad, adam"),
    (("epochs=5", "steps=5"), "epochs=5 (from the command line): name epochs or steps=5, not both"),
    (("data.n_train=30",), "batch_size=50 (from conf/config.yaml): must be <= data.n_train=30"),
    (("widht=3",), "widht (from the command line): no such key; did you mean width?"),
    (("-m", "widht=3,4"), "widht (from the command line): no such key; did you mean width?"),
    (("optimizer.beta3=0.5",), "optimizer.beta3 (from the command line): no such key; did you mean"),
    (("data=mnist",), "data=mnist: files not found"),
    (("data=mnist", "data.root=garbage"), "train-images-idx3-ubyte: not an IDX file"),
    (("learning_rate=0.1",), "learning_rate (from the command line): no such key; did you mean lr?"),
    (("optimizer.lr=0.1",), "optimizer.lr (from the command line): no such key; did you mean lr?"),
    (("-m", "model.rotary=true,false"), "model.rotary (from the command line): it is an option of model=rmt"),
    (
        ("data.noise=0.1",),
        "data.noise (from the command line): it is an option of data=hermite_teacher, linear_teacher",
    ),
    (("init=he", "init.gain=2"), "init.gain (from the command line): no such key; python -m dd.run --help lists"),
    (("+experiment=iterations",), "experiment=iterations (from the command line): a preset is a sweep and needs -m"),
    (("experiment=iterations",), "experiment=iterations (from the command line): a preset is +experiment=iterations"),
    (
        ("-m", "width=logrange(0,100,5)"),
        "width=logrange(0,100,5) (from the command line): is logrange(start,stop,count)",
    ),
    (("-m", "width=zip(10,20)", "lr=zip(1,2,3)"), "width has 2, lr has 3"),
    (("+widht=3",), "widht=3 (from the command line): no such key; did you mean width?"),
    (("-m", "+widht=3,4"), "widht=3 (from the command line): no such key; did you mean width?"),
    (("seed=10000000000000000000",), "seed=10000000000000000000 (from the command line): must be an integer"),
    (("-m", "width=range(10,30,0)"), "width=range(10,30,0) (from the command line): holds no value to run"),
    (("-m", "width=range(30,10)"), "width=range(30,10) (from the command line): holds no value to run"),
    (("-m", "seed=glob(*)"), "seed=glob(*) (from the command line): holds no value to run"),
    (("optimizer=null",), "optimizer=null (from the command line): must be one of adagrad, adam"),
    (("lr=${nope}",), "lr=${nope} (from the command line): Interpolation key 'nope' not found"),
    (("--nothing",), "unrecognized arguments: --nothing"),
    (("-m", "width=range(1,100000000)"), "sweep=99999999 runs (from the command line): at most "),
    (("device=tpu",), "device=tpu (from the command line): must be one of auto, cpu, cuda"),
    (("-m", "name=a,b"), "name=b (from the command line): one sweep has one name"),
    (("name=../x",), "name=../x (from the command line): must be a plain folder name"),
    (("-m", "+experiment=nothing"), "experiment=nothing (from the command line): must be one of batch_size"),
    (("results_dir=blocked/deeper",), "results_dir=blocked/deeper: cannot write to"),
    (("width=range(10",), "width=range(10 (from the command line): "),
    (("-m", "width=10,range(3"), "width=10,range(3 (from the command line): "),
]


@pytest.mark.parametrize(("arguments", "line"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_is_one_line_before_any_run(arguments: tuple[str, ...], line: str, tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file")
    (tmp_path / "garbage").mkdir()
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / "garbage" / f"{name}-ubyte").write_text("<html>")
    done = dd_run(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert line in done.stderr
    assert done.stderr.startswith("dd: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not (tmp_path / "results").exists()


def test_a_truncated_part_stops_a_sweep_and_nothing_is_lost(tmp_path: Path) -> None:
    assert dd_run("width=20", *FAST, cwd=tmp_path).returncode == 0
    assert dd_run("width=30", *FAST, cwd=tmp_path).returncode == 0
    runs = tmp_path / "results/default/runs"
    broken, whole = sorted(runs.iterdir())
    broken.write_bytes(broken.read_bytes()[:1000])
    content = {p: p.read_bytes() for p in (broken, whole)}
    for extra in ((), ("force=true",)):
        done = dd_run("-m", "width=20,30,40", *FAST, *extra, cwd=tmp_path)
        assert done.returncode == 2
        assert f"{broken.name} is not a readable parquet file" in done.stderr
        assert done.stderr.count("\n") == 1
    assert {p: p.read_bytes() for p in runs.iterdir()} == content
    broken.unlink()
    assert dd_run("-m", "width=20,30,40", *FAST, cwd=tmp_path).returncode == 0
    assert len(table(tmp_path)) == 3


def test_diverged_and_failed_runs_are_rows_and_take_nobody_with_them(tmp_path: Path) -> None:
    sweep = ("-m", "width=20,30", "lr=0.5,50", "steps=2000", "n_jobs=1")
    done = dd_run(*sweep, cwd=tmp_path)
    assert done.returncode == 0, "a diverged run is a result"
    assert table(tmp_path).status.value_counts().to_dict() == {"ok": 2, "diverged": 2}
    assert "(1 diverged)" in done.stdout or "2 (2 diverged)" in done.stdout
    # a net at zero has no curvature: there is no step size in units of it
    failing = ("-m", "model=two_layer", "model.bias=false", "init=zero,torch", "width=4,5", *FAST, "name=f")
    done = dd_run(*failing, cwd=tmp_path)
    assert done.returncode == 1
    frame = table(tmp_path, "f")
    assert frame.status.value_counts().to_dict() == {"ok": 2, "failed": 2}
    assert "positive largest Hessian eigenvalue" in frame.error.dropna().iloc[0]
    assert "2 runs failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Error executing job" not in done.stderr
    again = dd_run(*failing, cwd=tmp_path)
    assert "2 of 4 runs to do (2 already in the table)" in again.stderr, "failed runs are tried again"
    assert len(table(tmp_path, "f")) == 4


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_ctrl_c_keeps_finished_runs_and_says_how_to_go_on(tmp_path: Path, n_jobs: int) -> None:
    sweep = ["-m", "width=range(20,200,20)", "optimizer=adam", "steps=20000", "seed=0,1", f"n_jobs={n_jobs}"]
    process = start(sweep, tmp_path)
    folder = tmp_path / "results/default/runs"
    rows_are_there(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    interrupted = table(tmp_path)
    assert 0 < len(interrupted) < 18
    assert f"interrupted; {len(interrupted)} of 18 runs are in" in errors
    assert "python -m dd.run -m 'width=range(20,200,20)'" in errors
    assert "Traceback" not in errors
    assert not [p for p in folder.iterdir() if not p.name.endswith(".parquet")]
    done = dd_run(*sweep, cwd=tmp_path)
    assert f"{18 - len(interrupted)} of 18 runs to do" in done.stderr
    if n_jobs == 1:
        return
    whole = dd_run(*sweep, "name=whole", "n_jobs=1", cwd=tmp_path)
    assert whole.returncode == 0
    drop = [*VOLATILE, "name"]
    pd.testing.assert_frame_equal(
        table(tmp_path).drop(columns=drop), table(tmp_path, "whole").drop(columns=drop), check_exact=True
    )


def test_a_killed_worker_costs_its_own_pack_only(tmp_path: Path) -> None:
    process = start(["-m", "width=300,301,302,303", "optimizer=adam", "steps=140000", "n_jobs=2"], tmp_path)
    os.kill(workers(process.pid)[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    frame = table(tmp_path)
    assert frame.status.value_counts().to_dict() == {"ok": 3, "failed": 1}
    assert "exit code -9" in frame.error.dropna().iloc[0]


def test_neighbours_of_a_killed_run_are_computed_all_the_same(tmp_path: Path) -> None:
    process = start(["-m", "width=range(20,60,2)", "optimizer=sgd", "steps=75000", "n_jobs=2"], tmp_path)
    os.kill(workers(process.pid)[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert table(tmp_path).status.tolist() == ["ok"] * 20
    assert "20/20 runs" in errors


def test_names_may_look_like_numbers(tmp_path: Path) -> None:
    assert dd_run("width=20", "name=2024", *FAST, cwd=tmp_path).returncode == 0
    assert table(tmp_path, "2024").name.iloc[0] == "2024"


def test_help_explains_axes_and_commands(tmp_path: Path) -> None:
    done = dd_run("--help", cwd=tmp_path)
    assert done.returncode == 0
    expected = [
        "python -m dd.run -m 'width=range(10,2000,50)' optimizer=sgd,adam", "make figures", "data.n_train",
        "random features, hidden units", "integer >= 1 [units]", "optimizer=...", "min_norm", "hermite_teacher",
        "learning_rate", "optimizer.beta1", "[samples]",
    ]  # fmt: skip
    for text in expected:
        assert text in done.stdout, text
    assert list(tmp_path.iterdir()) == []


def test_help_beside_a_component_is_about_it_alone(tmp_path: Path) -> None:
    done = dd_run("optimizer=adam,sgd", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert (
        "optimizer.beta1          decay of the mean gradient; a number >= 0 and <= 0.999999; default 0.9" in done.stdout
    )
    assert "sets lr=0.001, lr_unit=absolute" in done.stdout
    assert "\n  sgd " in done.stdout
    assert "min_norm" not in done.stdout
    assert "data=" not in done.stdout


def test_the_version_is_dds(tmp_path: Path) -> None:
    done = dd_run("--version", cwd=tmp_path)
    assert done.stdout.startswith(f"dd {dd.__version__} (Hydra ")


def test_footer_carries_config_and_environment(tmp_path: Path) -> None:
    assert dd_run("width=20", *FAST, cwd=tmp_path).returncode == 0
    part = next((tmp_path / "results/default/runs").iterdir())
    footer = pq.read_metadata(part).metadata[b"dd"].decode()
    for text in ('"width": 20', '"torch":', '"python":', '"optimizer": "sgd"', '"lr": 0.5'):
        assert text in footer
