"""dd.sweep(..., data=...): a user's arrays have a table, resume and workers like any other data.

Covers: dd/cli/kept.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

import dd
from dd.cli.given import overrides_for
from dd.errors import ConfigError, StoreError
from dd.reproduce import main as reproduce
from dd.results import Store
from tests.helpers import dd_run

RNG = np.random.default_rng(2)
X = RNG.normal(size=(40, 4))
LABELS = np.arange(40) % 4
NAMES = np.array(["a", "b", "c", "d"])[LABELS]
FAST = ("optimizer=min_norm", "width=3,9")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Pairs(Dataset):
    """Items of an array and a label."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[object, object]:
        return self.x[i], self.y[i]


def files() -> list[str]:
    return sorted(path.name for path in Path("results/default/data").iterdir())


def test_a_sweep_of_arrays_goes_on_and_comes_again() -> None:
    first = dd.sweep(*FAST, data=(X, NAMES), n_jobs=2)
    (name,) = files()
    assert set(first["status"]) == {"ok"}
    assert set(first["outputs"]) == {4}
    frame, series = pd.DataFrame(X, index=range(5, 45)), pd.Series(NAMES)
    more = dd.sweep("optimizer=min_norm", "width=3,9,12", data=(frame, series), n_jobs=1)
    assert files() == [name]
    assert sorted(more.merge(first, on="run_id")["finished_at_x"]) == sorted(first["finished_at"])
    assert reproduce(["table=default"]) == 0
    # the file serves the command line, too
    done = dd_run(
        "data=file", f"data.path=results/default/data/{name}", "optimizer=min_norm", "width=3", cwd=Path.cwd()
    )
    assert "already in" in done.stderr
    other = dd.sweep(*FAST, data=(X + 1, NAMES), n_jobs=1)
    assert len(files()) == 2
    assert not set(other["run_id"]) & set(first["run_id"])
    assert len(dd.load()) == 5


def test_the_folder_of_samples_is_no_part_of_the_table() -> None:
    dd.sweep(*FAST, data=(X, LABELS), n_jobs=1)
    for command in ("check", "compact", "repair", "check"):
        done = dd_results(command)
        assert done == 0, command
    dd.sweep(*FAST, "data.n_train=20", data=(X, LABELS), n_jobs=1)
    assert len(Store("results", "default").read()) == 4
    assert len(files()) == 1


def dd_results(command: str) -> int:
    from dd.cli.results import main

    return main([command])


GIVEN = {
    "tensors": (torch.from_numpy(X), torch.from_numpy(LABELS)),
    "lists": (X.tolist(), LABELS.tolist()),
    "a torch data set": TensorDataset(torch.from_numpy(X), torch.from_numpy(LABELS)),
    "pairs": Pairs(X, LABELS),
}


@pytest.mark.parametrize("kind", GIVEN)
def test_samples_of_every_kind_are_one_file(kind: str) -> None:
    lines = [overrides_for(given, FAST) for given in (GIVEN[kind], (X, LABELS))]
    assert lines[0] == lines[1]
    (name,) = files()
    with np.load(f"results/default/data/{name}") as held:
        np.testing.assert_array_equal(held["x"], X)
        np.testing.assert_array_equal(held["y"], LABELS)


@pytest.mark.parametrize("whole", [True, False])
def test_a_test_part_is_kept(whole: bool) -> None:
    parts = (X[:30], NAMES[:30], X[30:], NAMES[30:])
    given = parts if whole else (Pairs(*parts[:2]), Pairs(*parts[2:]))
    rows = dd.sweep(*FAST, "data.label_noise=0.2", data=given, n_jobs=1)
    assert set(rows["n_train"]) == {30}
    assert set(rows["n_test"]) == {10}
    assert rows["train_loss_noisy"].notna().all()


def test_what_training_alone_sees_a_sweep_sees() -> None:
    line = ("model=two_layer", "width=5", "steps=20", "batch_size=10", "lr=0.1", "lr_unit=absolute", "dtype=float64")
    given = (X[:30], NAMES[:30], X[30:], NAMES[30:])
    row = dd.sweep(*line, "data.standardize=none", "trainer=stack", data=given, n_jobs=1).iloc[0]
    assert row["parameters"] == 5 * 5 + 4 * 6
    # the split shuffles, so that batches differ: the loss at the start is the same
    start = dd.sweep(*line, "steps=0", "data.standardize=none", data=given, n_jobs=1).iloc[0]
    (net,) = dd.train(X[:30], NAMES[:30], *line, "steps=0", test=(X[30:], NAMES[30:]))
    assert start["train_loss"] == pytest.approx(net.curve[0].train_loss, rel=1e-12)
    assert start["test_loss"] == pytest.approx(net.curve[0].test_loss, rel=1e-12)


@pytest.mark.parametrize(
    ("given", "overrides", "line"),
    [
        ((X,), (), r"^data=tuple: must be \(x, y\), \(x, y, x_test, y_test\), a torch data set"),
        (X, (), r"^data=ndarray"),
        ((X, LABELS[:9]), (), r"^x=40 samples: must have as many as its targets, 9"),
        ((X, LABELS, X[:, :2], LABELS), (), r"^x_test=2 of float64: must have inputs as x, 4"),
        ((X, LABELS), ("data=digits",), r"^data=digits: dd.sweep has its samples from data="),
        ((X, LABELS), ("+data.path=a",), r"^\+data.path=a: dd.sweep has its samples"),
        ((X, LABELS), ("name=a,b",), r"one sweep has one name"),
        ((X, LABELS), ("widht=3",), r"^widht .*did you mean width"),
        (Pairs(X[:0], LABELS[:0]), (), r"^data=Pairs: holds no samples"),
        (Pairs([np.zeros(3), np.zeros(4)], [0, 1]), (), r"^data=Pairs: its items differ in shape"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_swept_is_one_line(given: object, overrides: tuple[str, ...], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        dd.sweep("width=3", "optimizer=min_norm", *overrides, data=given)


def test_a_folder_that_cannot_be_written_is_one_line() -> None:
    Path("results").write_text("a file")
    with pytest.raises(StoreError, match=r"^results_dir: cannot write the samples to results/default/data"):
        dd.sweep(*FAST, data=(X, LABELS))
