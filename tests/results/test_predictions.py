"""Test outputs of runs: what they reproduce, when they are computed, what an interruption leaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dd.cli.sweeps import run_sweep
from dd.errors import StoreError
from dd.packs.plan import Pack
from dd.packs.solve import Solved, solve
from dd.problems.problem import load
from dd.results import Store, commit
from dd.runs.settings import Settings
from dd.workers.solving import solve_and_store
from tests.helpers import run_of
from tests.results.tables import curve, prediction, row

SMALL = ("data.n_train=40", "data.n_test=30", "batch_size=20", "width=15", "steps=30")
WAYS = {
    "min_norm": ("optimizer=min_norm",),
    "ridge on batch statistics": ("optimizer=ridge", "normalization=batch_norm"),
    "exact": ("optimizer=gd", "batch_size=full"),
    "dual": ("solver=dual", "width=60", "data.label_noise=0.2"),
    "iterated": ("optimizer=adam", "model.bias=true"),
    "diverged": ("lr=1e3", "steps=3000"),
    "nets": ("model=two_layer", "normalization=batch_norm"),
    "real targets": ("data=linear_teacher", "optimizer=momentum"),
}


def settings_in(folder: Path, **changes: object) -> Settings:
    return Settings(
        device="cpu", results_dir=str(folder), name="t", n_jobs=1, **{"measure_predictions": True, **changes}
    )


@pytest.mark.parametrize("way", WAYS)
def test_outputs_reproduce_the_rows_test_loss_and_error(way: str) -> None:
    run = run_of(*SMALL, *WAYS[way])
    solved = Solved()
    solve(Pack((run,)), Settings(device="cpu", measure_predictions=True), solved)
    (found,), (made,) = solved.rows, solved.predictions
    assert found["status"] == ("diverged" if way == "diverged" else "ok")
    assert found["solver"] == (way if way in ("exact", "dual") else "exact" if run.steps is None else "iterative")
    problem = load(run, Settings())
    assert np.array_equal(made.targets, problem.test_y)
    assert made.outputs.shape == made.targets.shape == (30, problem.outputs)
    assert made.outputs.dtype == np.float32
    errors = made.outputs.astype(np.float64) - made.targets
    assert np.mean(errors**2) == pytest.approx(found["test_loss"], rel=2e-6)
    if problem.classification:
        wrong = made.outputs.argmax(axis=1) != made.targets.argmax(axis=1)
        assert wrong.mean() == pytest.approx(found["test_error"])


def test_outputs_of_cross_entropy_are_before_the_softmax() -> None:
    solved = Solved()
    run = run_of(*SMALL, "loss=cross_entropy")
    solve(Pack((run,)), Settings(device="cpu", measure_predictions=True), solved)
    made = solved.predictions[0]
    loss = torch.nn.functional.cross_entropy(torch.tensor(made.outputs), torch.tensor(made.targets.argmax(axis=1)))
    assert float(loss) == pytest.approx(solved.rows[0]["test_loss"], rel=1e-5)


def test_any_reader_gets_outputs_and_targets(results: Path) -> None:
    base = ("optimizer=min_norm", "data.n_train=40", "data.n_test=30", "width=15", "data.test_seed=5")
    runs = [run_of(*base, f"seed={s}", f"data.seed={d}") for s in (0, 1) for d in (0, 1)]
    runs.append(run_of(*base[:-1]))
    run_sweep(runs, settings_in(results))
    table = pd.read_parquet(results / "t/runs").set_index("run_id")
    predictions = pd.read_parquet(results / "t/predictions").set_index("run_id")
    targets = pd.read_parquet(results / "t/targets").set_index("targets_id")
    assert set(predictions.index) == {run.run_id for run in runs} == set(table.index)
    assert len(targets) == 2, "one row a test set"
    for run in runs:
        made = predictions.loc[run.run_id]
        wanted = targets.loc[made.targets_id]
        shape = (wanted.n_test, wanted.outputs)
        assert shape == (30, 10)
        assert np.array_equal(wanted.targets.reshape(shape), load(run, Settings()).test_y)
        loss = np.mean((made.outputs.reshape(shape) - wanted.targets.reshape(shape)) ** 2)
        assert loss == pytest.approx(table.loc[run.run_id, "test_loss"], rel=2e-6)


def test_runs_whose_outputs_are_missing_are_computed_again_where_they_are_asked_for(results: Path) -> None:
    runs = [run_of("optimizer=min_norm", "data.n_train=40", f"width={w}") for w in (5, 6)]
    without = settings_in(results, measure_predictions=False)
    assert run_sweep(runs, without).computed == 2
    assert not (results / "t/predictions").exists()
    assert run_sweep(runs[:1], settings_in(results)).computed == 1
    assert run_sweep(runs, settings_in(results)).computed == 1
    assert run_sweep(runs, settings_in(results)).computed == 0
    assert run_sweep(runs, without).computed == 0
    assert len(pd.read_parquet(results / "t/predictions")) == len(pd.read_parquet(results / "t/runs")) == 2
    forced = settings_in(results, measure_predictions=False, force=True)
    assert run_sweep(runs, forced).computed == 2
    assert not list((results / "t/predictions").glob("*.parquet")), "no outputs beside rows of another computation"


def test_an_interruption_writes_the_outputs_of_the_runs_that_are_done(results: Path) -> None:
    runs = tuple(run_of(*SMALL, "optimizer=muon", f"optimizer.momentum={mu}") for mu in (0.5, 0.6, 0.7, 0.8))
    seen: list[str] = []

    def stop(finished: dict[str, object]) -> None:
        seen.append(str(finished["run_id"]))
        if len(seen) == 2:
            raise KeyboardInterrupt

    Store(results, "t").open()
    with pytest.raises(KeyboardInterrupt):
        solve_and_store(Pack(runs), settings_in(results), stop)
    assert sorted(pd.read_parquet(results / "t/predictions").run_id) == sorted(seen)
    assert run_sweep(runs, settings_in(results)).computed == 2


def test_a_write_that_fails_leaves_no_file_and_no_row(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = commit._write

    def full(path: Path, data: bytes) -> None:
        if path.parent.name == "curves":
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        plain(path, data)

    monkeypatch.setattr(commit, "_write", full)
    with pytest.raises(StoreError, match="No space left"):
        store.append("a", [row("1")], curve("1"), {}, {}, [prediction("1")])
    files = sorted(str(p.relative_to(store.folder)) for p in store.folder.rglob("*") if p.is_file())
    assert files == ["_lock"]
    assert store.finished("basic", predictions=True) == set()
    monkeypatch.undo()
    store.append("b", [row("1")], [], {}, {})
    assert store.finished("basic") == {"1"}
    assert store.finished("basic", predictions=True) == set()
