"""data=file: what the samples are is in the identity, and where they lie is not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dd
from analysis.curves import axis_columns, varying_axes
from analysis.labels import title_of
from analysis.tables import load_runs
from dd.cli.compose import compose_jobs
from dd.errors import ConfigError, StoreError
from dd.packs.content import identified
from dd.problems.problem import load
from dd.reproduce import main as reproduce
from dd.runs.settings import Settings
from tests.helpers import dd_run, run_of

RNG = np.random.default_rng(1)
X = RNG.normal(size=(40, 5))
Y = X @ RNG.normal(size=(5, 1)) + 0.1 * RNG.normal(size=(40, 1))
LABELS = np.arange(40) % 3
FAST = ("optimizer=min_norm", "width=3,8", "n_jobs=1")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ids(*overrides: str) -> list[str]:
    run = run_of("data=file", "optimizer=min_norm", *overrides)
    return [run.run_id for run in identified([run], Settings())]


def test_a_moved_file_is_the_same_runs_and_an_edited_one_is_not(tmp_path: Path) -> None:
    np.savez("a.npz", x=X, y=LABELS)
    (before,) = ids("data.path=a.npz")
    Path("sub").mkdir()
    Path("a.npz").rename("sub/b.npz")
    assert ids("data.path=sub/b.npz", "data.task=classification") == [before]
    assert ids(f"data.path={tmp_path}/sub/b.npz") == [before]
    Path("x").mkdir()
    np.save("x/x.npy", X)
    np.save("x/y.npy", LABELS)
    assert ids("data.path=x") == [before], "another format, the same samples"
    pd.DataFrame(X).add_prefix("x").assign(y=LABELS).to_csv("a.csv", index=False)
    assert ids("data.path=a.csv", "data.target=y") == [before]
    other = X.copy()
    other[0, 0] += 1
    np.savez("sub/b.npz", x=other, y=LABELS)
    assert ids("data.path=sub/b.npz") != [before]
    np.savez("c.npz", x=X, y=LABELS)
    np.savez("d.npz", x=X, y=np.array(["a", "b", "c"])[LABELS])
    assert ids("data.path=c.npz") == [before]
    others = ["data.task=regression", "data.path=d.npz", "data.classes=0,1", "data.classes=0,2", "data.n_train=20"]
    assert len({before, *(ids("data.path=c.npz", other)[0] for other in others)}) == 6
    pd.DataFrame(X).add_prefix("x").to_csv("r.csv", index=False)
    found = ids("data.path=r.csv", "data.target=x0,x1", "data.n_train=20")
    assert found != ids("data.path=r.csv", "data.target=x0", "data.n_train=20")


def test_rows_are_those_of_numpy(tmp_path: Path) -> None:
    """Linear regression on a split that the run itself names, from a table of two targets."""
    frame = pd.DataFrame(np.concatenate([X, Y, Y**2], axis=1)).add_prefix("c")
    frame.to_csv("a.csv", index=False)
    line = ("data=file", "data.path=a.csv", "data.target=c5,c6", "model=linear", "width=5", "optimizer=min_norm")
    row = dd.sweep(*line, "n_jobs=1").iloc[0]
    problem = load(identified(*compose_jobs(line))[0], Settings())
    order = [
        int(np.argmin(np.abs(frame["c5"].to_numpy() - y)))
        for y in [*problem.train_y[:, 0].tolist(), *problem.test_y[:, 0].tolist()]
    ]
    assert sorted(order) == list(range(40))
    train, test = order[:32], order[32:]
    z = (X - X[train].mean(0)) / X[train].std(0)
    targets = frame[["c5", "c6"]].to_numpy()
    fit = np.linalg.lstsq(z[train], targets[train], rcond=None)[0]
    assert (row["n_train"], row["n_test"], row["outputs"]) == (32, 8, 2)
    assert row["train_loss"] == pytest.approx(((z[train] @ fit - targets[train]) ** 2).mean(), rel=1e-10)
    assert row["test_loss"] == pytest.approx(((z[test] @ fit - targets[test]) ** 2).mean(), rel=1e-10)


def test_real_targets_with_a_test_part_are_chosen_from_both() -> None:
    np.savez("a.npz", x=X[:30], y=Y[:30], x_test=X[30:], y_test=Y[30:])
    run = run_of("data=file", "data.path=a.npz", "data.n_train=9", "data.n_test=4", "optimizer=min_norm")
    problem = load(identified([run], Settings())[0], Settings())
    assert problem.train_x.shape == (9, 5)
    assert set(problem.train_y.reshape(-1).tolist()) <= set(Y[:30, 0])
    assert set(problem.test_y.reshape(-1).tolist()) <= set(Y[30:, 0])
    more = run.replace(n_train=20)
    larger = load(identified([more], Settings())[0], Settings())
    assert set(problem.train_y.reshape(-1).tolist()) < set(larger.train_y.reshape(-1).tolist()), "nested"


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((), (32, 8)),
        (("data.n_train=10",), (10, 30)),
        (("data.n_test=10",), (30, 10)),
        (("data.n_train=10", "data.n_test=10"), (10, 10)),
        (("data.classes=0,2",), (22, 5)),
        (("data.classes=0,2", "data.n_test=7"), (20, 7)),
    ],
)
def test_all_is_what_is_left(sizes: tuple[str, ...], expected: tuple[int, int]) -> None:
    np.savez("a.npz", x=X, y=LABELS)
    run = run_of("data=file", "data.path=a.npz", "optimizer=min_norm", *sizes)
    assert (run.n_train, run.n_test) == expected


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("data.n_train=40", r"^data.n_test=all .*nothing is left of the 40 samples"),
        ("data.n_train=30 data.n_test=11", r"^data.n_train=30 .*must be <= 29"),
        ("optimizer=sgd", r"^batch_size=50 .*must be <= data.n_train=32, or full"),
        ("data.n_train=some", r"must be an integer >= 1 \[samples\], or all"),
        ("data=linear_teacher data.n_test=all", r"^data.n_test=all .*drawn without end; give a number"),
        ("data.classes=0,1 data.n_train=27 data.n_test=1", r"^data.n_train=27: must be <= 26 .*classes 0,1"),
    ],
)
def test_sizes_that_a_file_does_not_have_are_one_line(line: str, error: str) -> None:
    np.savez("a.npz", x=X, y=LABELS)
    with pytest.raises(ConfigError, match=error):
        ids("data.path=a.npz", *line.split()) if "linear" not in line else run_of(*line.split())


def test_two_files_in_one_sweep_are_not_mixed_up_and_an_edited_one_is_refused() -> None:
    np.savez("a.npz", x=X, y=LABELS)
    np.savez("b.npz", x=X, y=Y)
    both = dd.sweep("data=file", "data.path=a.npz,b.npz", *FAST)
    assert both.groupby("data_path")["outputs"].unique().map(list).to_dict() == {"a.npz": [3], "b.npz": [1]}
    assert both.groupby("data_path")["data_content"].nunique().tolist() == [1, 1]
    alone = dd.sweep("data=file", "data.path=b.npz", *FAST, "name=alone")
    columns = ["run_id", "train_loss", "test_loss"]
    pd.testing.assert_frame_equal(
        both[both["data_path"] == "b.npz"][columns].reset_index(drop=True), alone[columns].reset_index(drop=True)
    )
    rows = load_runs(Path("results"), "default")
    assert "data_path" in varying_axes(rows, ("data",), ("data_",))
    assert title_of(rows[rows["data_path"] == "a.npz"]).startswith("a.npz, random features")
    # the same process notices that a file has become another, with more classes
    np.savez("a.npz", x=X, y=np.arange(40) % 4)
    with pytest.raises(StoreError, match=r"holds rows of data=file .*a.npz is .*use name=<another table>"):
        dd.sweep("data=file", "data.path=a.npz", *FAST)
    assert set(dd.sweep("data=file", "data.path=a.npz", *FAST, "name=other")["outputs"]) == {4}


def test_a_table_goes_on_after_its_file_has_moved() -> None:
    np.savez("a.npz", x=X, y=LABELS)
    first = dd.sweep("data=file", "data.path=a.npz", *FAST)
    os.rename("a.npz", "moved.npz")
    again = dd.sweep("data=file", "data.path=moved.npz", "optimizer=min_norm", "width=3,8,15", "n_jobs=2")
    kept = again[again["run_id"].isin(first["run_id"])]
    assert sorted(kept["finished_at"]) == sorted(first["finished_at"])
    assert len(again) == 3
    rows = load_runs(Path("results"), "default")
    assert set(rows["data_path"]) == {"moved.npz"}, "one condition for the analysis"
    assert varying_axes(rows, (), ("data_",)) == []
    assert "data_path" in axis_columns(rows)
    dd.sweep("data=file", "data.path=moved.npz", *FAST, "force=true")
    assert reproduce(["table=default"]) == 0


def test_the_command_line_takes_a_file() -> None:
    pd.DataFrame(X).add_prefix("x").assign(kind=np.array(["cat", "dog", "emu"])[LABELS]).to_csv("a.csv")
    line = [
        "data=file",
        "data.path=a.csv",
        "data.target=kind",
        "data.classes=dog,cat",
        "optimizer=min_norm",
        "width=3,9",
    ]
    done = dd_run("-m", *line, "n_jobs=1", cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
    rows = dd.load()
    assert set(rows["classes"]) == {"cat,dog"}
    assert set(rows["outputs"]) == {2}
    done = dd_run("-m", *line[:1], "width=3,9", cwd=Path.cwd())
    assert done.returncode == 2
    assert done.stderr.startswith("dd: data.path=null: data=file needs data.path=")


def test_a_class_may_have_no_test_samples_and_may_go() -> None:
    np.savez("a.npz", x=X, y=LABELS, x_test=X[:9], y_test=LABELS[:9] % 2)
    run = run_of("data=file", "data.path=a.npz", "data.classes=1,2", "optimizer=min_norm")
    assert (run.n_train, run.n_test) == (26, 3)
    problem = load(identified([run], Settings())[0], Settings())
    assert problem.test_y.sum(0).tolist() == [3, 0]
    np.savez("a.npz", x=X, y=LABELS % 2)
    with pytest.raises(ConfigError, match=r"^data.classes=1,2: data=file has 0, 1"):
        identified([run.replace(data_seed=1)], Settings())
