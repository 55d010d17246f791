"""data.classes: some classes of a set, counted from 0 anew, before anything else happens to the samples.

Covers: dd/problems/pools.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dd.cli.compose import compose_runs
from dd.cli.grammar import as_typed
from dd.errors import ConfigError
from dd.packs.content import identified
from dd.problems.problem import balanced_order, load
from dd.runs.settings import Settings
from dd.streams import stream
from tests.helpers import dd_run, row_of, run_of

LINE = ("data.classes=0,6", "data.n_train=100", "data.n_test=150", "data.standardize=none")


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_samples_are_those_of_the_classes_alone(noise: float) -> None:
    run = run_of(*LINE, f"data.label_noise={noise}")
    problem = load(run, Settings())
    x, y = load_digits(return_X_y=True)
    x, y = x[(y == 0) | (y == 6)], (y[(y == 0) | (y == 6)] == 6).astype(int)
    test = balanced_order(y, stream(0, "data.split"))[:150]
    rest = np.setdiff1d(np.arange(len(y)), test)
    train = rest[balanced_order(y[rest], stream(0, "data.split.train"))[:100]]
    np.testing.assert_array_equal(problem.test_x, x[test])
    np.testing.assert_array_equal(problem.train_x, x[train])
    np.testing.assert_array_equal(problem.test_y, np.eye(2)[y[test]])
    wrong = problem.train_y.numpy().argmax(1) != y[train]
    assert wrong.sum() == round(noise * 100)
    assert problem.train_y.sum(0).tolist() == ([50, 50] if not noise else problem.train_y.sum(0).tolist())
    assert (run.outputs, problem.outputs, run.data.outputs) == (2, 2, 10)


@pytest.mark.parametrize(
    "line", ["optimizer=min_norm", "model=two_layer steps=9 batch_size=20", "optimizer=gd batch_size=full steps=30"]
)
def test_a_row_has_as_many_outputs_as_classes(line: str) -> None:
    row = row_of(*LINE, *line.split(), "width=10")
    assert row["outputs"] == 2
    assert row["classes"] == "0,6"
    assert row["parameters"] == (10 * 65 + 2 * 11 if "two_layer" in line else 20)
    assert 0 <= row["test_error"] <= 1


def subsets(*overrides: str) -> list[str | None]:
    return [run.classes for run in compose_runs("optimizer=min_norm", "data.n_train=50", "data.n_test=50", *overrides)]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("data.classes=0,6", ["0,6"]),
        ("data.classes=6,0,6", ["0,6"]),
        ("data.classes='0,6'", ["0,6"]),
        ("data.classes=[0,6]", ["0,6"]),
        ("data.classes=[0,6],[1,7,3]", ["0,6", "1,3,7"]),
        ("data.classes='0,6','1,7'", ["0,6", "1,7"]),
        ("data.classes=null", [None]),
        ("data.classes=[0,6],null", ["0,6", None]),
        ("data.classes=9,8,7,6,5,4,3,2,1,0", [None]),
    ],
)
def test_a_list_is_one_subset(typed: str, expected: list[str | None]) -> None:
    assert subsets(typed) == expected


def test_other_keys_are_swept_as_ever() -> None:
    assert [as_typed(t) for t in ("width=1,2", "data.seed=0,1", "optimizer=sgd,adam")] == [
        "width=1,2", "data.seed=0,1", "optimizer=sgd,adam"
    ]  # fmt: skip
    assert len(subsets("data.classes=0,6", "data.seed=0,1")) == 2
    assert run_of("data.n_train=50").run_id == run_of("data.n_train=50", "data.classes=null").run_id
    assert len({run_of(*LINE).run_id, run_of(*LINE, "data.classes=0,7").run_id, run_of(*LINE[1:]).run_id}) == 3


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (("data.classes=3",), r"^data.classes=3 .*takes two classes or more, as 0,6; of 0, 1, 2"),
        (("data.classes=0,10",), r"^data.classes=10 .*data=digits has 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        (("data.classes=[0,1.5]",), r"^data.classes=\[0, 1.5\] .*must be names with commas between them, or a list"),
        (("data.classes=[]",), r"must be names"),
        (("data=diabetes", "data.classes=0,1"), r"^data.classes=0,1 .*data=diabetes has real targets"),
    ],
)
def test_what_is_no_subset_is_one_line(typed: tuple[str, ...], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        subsets(*typed)


def test_sizes_are_checked_against_the_classes() -> None:
    """Digits have 178 zeros and 181 sixes."""
    run = run_of("data.classes=0,6", "data.n_train=209", "data.n_test=150")
    assert identified([run], Settings()) == [run]
    with pytest.raises(ConfigError, match=r"^data.n_train=210: must be <= 209 .*classes 0,6"):
        identified([run.replace(n_train=210)], Settings())
    every = run_of("data.classes=0,6", "data.n_train=all", "data.n_test=all", "optimizer=min_norm")
    assert (every.n_train, every.n_test) == (359 - 72, 72)


def test_the_command_line_reads_one_subset_with_and_without_a_sweep(tmp_path: object) -> None:
    for more in ((), ("-m",)):
        done = dd_run(*more, *LINE, "width=10", "optimizer=min_norm", "name=one", cwd=tmp_path)  # type: ignore[arg-type]
        assert done.returncode == 0, done.stderr
    assert "1 already in the table" in done.stderr or "already in" in done.stderr
