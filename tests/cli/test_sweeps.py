"""What is checked before a sweep, and what it answers: dd.cli.sweeps."""

from __future__ import annotations

from pathlib import Path

import pytest

import dd
from dd.cli.compose import compose_jobs
from dd.cli.sweeps import check_settings, run_sweep
from dd.errors import ConfigError
from tests.helpers import dd_run

SMALL = ("width=5,6", "steps=3", "data.n_train=20", "data.n_test=10", "batch_size=10", "n_jobs=1")


def test_a_trainer_by_name_trains_every_run_and_is_in_the_row(tmp_path: Path) -> None:
    found = {}
    for name in ("auto", "stack"):
        rows = dd.sweep(*SMALL, "optimizer=sgd,adam", f"trainer={name}", f"results_dir={tmp_path}", f"name={name}")
        found[name] = rows.sort_values("run_id", ignore_index=True)
    assert set(found["stack"]["trainer"]) == {"stack"}
    assert set(found["auto"]["trainer"]) == {"engine"}
    assert list(found["auto"]["run_id"]) == list(found["stack"]["run_id"]), "no part of the identity"
    assert found["auto"]["test_loss"].to_numpy() == pytest.approx(found["stack"]["test_loss"].to_numpy(), rel=1e-5)
    assert not found["auto"]["trained_features"].any()


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("trainer=engin",), "trainer=engin: must be one of auto, closed_form, "),
        (("trainer=engine", "optimizer=muon"), "trainer=engine: cannot train this run: "),
        (("-m", "trainer=stack", "optimizer=sgd,min_norm"), "trainer=stack: cannot train this run: "),
    ],
)
def test_a_trainer_that_does_not_take_a_run_is_one_line_before_any_work(
    overrides: tuple[str, ...], line: str, tmp_path: Path
) -> None:
    done = dd_run(*overrides, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"dd: {line}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_dd_train_takes_a_trainer_too() -> None:
    x, y = [[0.1], [0.4], [0.9]], [1.0, 2.0, 0.0]
    fast = ("model=two_layer", "width=2", "steps=2", "batch_size=3", "lr=0.1", "lr_unit=absolute", "dtype=float64")
    auto, stack = (dd.train(x, y, *fast, f"trainer={name}")[0] for name in ("auto", "stack"))
    assert stack.curve[-1].train_loss == pytest.approx(auto.curve[-1].train_loss, rel=1e-12)
    with pytest.raises(ConfigError, match=r"^trainer=exact: cannot train this run"):
        dd.train(x, y, *fast, "trainer=exact")


def test_a_sweep_answers_for_every_distinct_run(tmp_path: Path) -> None:
    runs, settings = compose_jobs([*SMALL, "optimizer=sgd", "seed=0,0", f"results_dir={tmp_path}"])
    check_settings(runs, settings)
    result = run_sweep(runs, settings)
    assert (len(result.runs), len(result.answers), result.computed, result.failed) == (4, 2, 2, 0)
    assert {answer.run_id for answer in result.answers} == {run.run_id for run in runs}
    assert all(answer.status == "ok" and answer.error is None for answer in result.answers)
    again = run_sweep(runs, settings)
    assert (again.computed, again.answers) == (0, result.answers)


def test_inputs_that_hardly_vary_are_warned_of_once_a_sweep(tmp_path: Path) -> None:
    line = ("-m", "width=5", "seed=0,1,2", "optimizer=min_norm", "data.n_train=100", "data.n_test=10", "n_jobs=1")
    for kind, told in (("feature", 1), ("global", 0), ("feature", 1)):
        done = dd_run(*line, f"data.standardize={kind}", f"name={kind}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("see status_note") == told, "also of a table that has all"
    assert "\ndd: 3 runs have near-constant inputs: see status_note\n" in done.stderr
    alone = dd_run("width=5", *line[3:], "data.standardize=feature", "name=alone", cwd=tmp_path)
    assert "dd: near-constant inputs: " in alone.stderr
    assert "data.standardize=feature divides by it" in alone.stderr
