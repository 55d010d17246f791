"""Rows of solved runs: norms, and what a closed form trains.

Covers: dd/measure/outcome.py, dd/measure/solution.py.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import dd
from dd.measure import hessian
from dd.packs import prepare
from dd.packs.plan import Pack
from dd.packs.solve import Solved, solve
from dd.results.schema import CONDITIONING, RANKS
from dd.runs import logs
from dd.runs.settings import Settings
from tests.helpers import network_of, row_of, run_of, solve_rows, trained


def test_norms_are_those_of_the_solution() -> None:
    row = row_of("width=30", "optimizer=min_norm")
    assert row["gradient_norm"] < 1e-12
    run = run_of("width=30", "steps=20", "dtype=float64", "lr_unit=absolute", "lr=0.1")
    row = solve_rows(run)[0]
    network = network_of(run)
    theta = trained(network, 0.1).theta
    design, targets = network.exact_train.inputs[0], network.exact_train.targets
    readout = theta.view(10, 30).T
    gradient = 2 * design.T @ (design @ readout - targets) / targets.numel()
    assert row["weight_norm"] == pytest.approx(float(readout.norm()), rel=1e-12)
    assert row["gradient_norm"] == pytest.approx(float(gradient.norm()), rel=1e-10)


@pytest.mark.parametrize("normalization", ["layer_norm", "batch_norm", "standardize"])
def test_closed_forms_train_the_readout_alone(normalization: str) -> None:
    row = row_of("optimizer=min_norm", "width=50", "data.n_train=300", f"normalization={normalization}")
    assert row["parameters"] == 500
    assert row["gradient_norm"] < 1e-11
    assert row["feature_condition_init"] == row["feature_condition"]
    assert row["min_norm_test_loss"] == row["test_loss"]


@pytest.mark.parametrize(
    "line",
    [
        ("model=two_layer", "optimizer=momentum"),
        ("model=two_layer", "normalization=batch_norm"),
        ("optimizer=adam", "lr_unit=absolute", "lr=0.01"),
        ("optimizer=sgd",),
        ("optimizer=min_norm",),
        ("optimizer=gd", "batch_size=full"),
    ],
    ids=" ".join,
)
def test_without_measurements_the_outcome_is_the_same(line: tuple[str, ...]) -> None:
    run = run_of(
        *line, "width=8", "data.n_train=60", "data.n_test=40", *(("steps=30",) if "min_norm" not in line[0] else ())
    )
    basic, alone = Solved(), Solved()
    solve(Pack((run,)), Settings(device="cpu"), basic)
    solve(Pack((run,)), Settings(device="cpu", measure_name="none"), alone)
    (row,), (full,) = alone.rows, basic.rows
    assert alone.curves == []
    for key in ("train_loss", "test_loss", "train_error", "test_error", "weight_norm", "steps_done", "lr_absolute"):
        assert row.get(key) == full.get(key), key
    assert row["measure"] == "none"
    unknown = {*CONDITIONING, *RANKS} - {"sharpness_init", "interpolation_width"}
    assert all(row.get(key) is None for key in (*unknown, "gradient_norm", "min_norm_test_loss"))


def test_the_last_row_of_a_curve_is_on_all_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "SUBSET", 10)
    monkeypatch.setattr(logs, "SHARE", 0.05)
    line = ("model=two_layer", "width=8", "data.n_train=60", "data.n_test=40", "lr_unit=absolute")
    for lr, status in (("0.1", "ok"), ("30", "diverged")):
        solved = Solved()
        solve(Pack((run_of(*line, "epochs=50", f"lr={lr}"),)), Settings(device="cpu"), solved)
        (row,), last = solved.rows, solved.curves[-1]
        assert row["status"] == status
        assert {point["curve_samples"] for point in solved.curves[:-1]} == {10}
        if last["step"] == row["steps_done"]:
            assert last["curve_samples"] == 60
            assert all(last[key] == row[key] for key in ("train_loss", "test_loss", "train_error", "test_error"))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 5)), rng.integers(0, 2, 60)
    (net,) = dd.train(x, y, "model=two_layer", "width=8", "epochs=50", "lr=0.1", "lr_unit=absolute", "batch_size=10")
    outputs = net(x).double()
    loss = float((outputs - torch.nn.functional.one_hot(torch.from_numpy(y)).double()).square().mean())
    assert (net.curve[0].curve_samples, net.curve[-1].curve_samples) == (10, 60)
    assert net.curve[-1].train_loss == pytest.approx(loss, rel=1e-5)


def test_the_best_step_is_that_of_the_curve() -> None:
    """Against the table of curves, of every trainer that logs one; closed forms have none."""
    line = ("data.n_train=60", "data.n_test=40", "data.label_noise=0.2", "width=30", "batch_size=10")
    runs = [
        run_of(*line, *more)
        for more in (
            ("optimizer=adam", "epochs=50"),
            ("optimizer=adam", "epochs=50", "validation=0.2"),
            ("model=two_layer", "epochs=50", "lr=1.5"),
            ("model=two_layer", "normalization=layer_norm", "epochs=50"),
            ("optimizer=gd", "batch_size=full", "steps=1000"),
            ("solver=dual", "epochs=9"),
            ("lr=300", "epochs=50"),
            ("optimizer=min_norm",),
        )
    ]
    solved = Solved()
    solve(Pack(tuple(runs)), Settings(device="cpu"), solved)
    rows, curves = pd.DataFrame(solved.rows).set_index("run_id"), pd.DataFrame(solved.curves)
    best = curves.loc[curves.groupby("run_id")["test_loss"].idxmin()].set_index("run_id")
    stepped = rows[rows["steps"].notna()]
    assert len(best) == len(stepped) == len(runs) - 1
    assert set(rows["status"]) == {"ok", "diverged"}
    assert stepped["best_test_loss"].eq(best["test_loss"].reindex(stepped.index)).all()
    assert stepped["best_step"].eq(best["step"].reindex(stepped.index)).all()
    assert (stepped["best_step"] < stepped["steps_done"]).sum() > 2
    assert rows.loc[rows["steps"].isna(), ["best_test_loss", "best_step"]].isna().all(axis=None)
    held = rows[rows["validation"] > 0]
    lowest = curves.loc[curves["validation_loss"].idxmin()]
    assert held["steps_done"].tolist() == [lowest["step"]]
    assert held["validation_loss"].tolist() == pytest.approx([lowest["validation_loss"]], rel=1e-5)
    assert curves.loc[curves["run_id"] != held.index[0], "validation_loss"].isna().all()


def test_runs_with_the_same_start_measure_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"feature_spectrum": 0, "sharpness": 0}

    def counting(module: object, name: str) -> None:
        plain = getattr(module, name)

        def counted(*arguments: object) -> object:
            counts[name] += 1
            return plain(*arguments)

        monkeypatch.setattr(module, name, counted)

    counting(prepare, "feature_spectrum")
    counting(hessian, "sharpness")
    line = ("model=two_layer", "data.n_train=60", "data.n_test=40", "steps=3")
    starts = [run_of(*line, f"width={w}", f"seed={s}") for w in (3, 5) for s in (0, 1)]
    others = [run.replace(lr=lr, loss=loss) for run in starts for lr in (0.1, 0.2) for loss in ("mse", "cross_entropy")]
    together = {row["run_id"]: row for row in solve_rows(*others)}
    assert counts == {"feature_spectrum": 4, "sharpness": 8}
    for run in others:
        alone = solve_rows(run)[0]
        same = together[run.run_id]
        assert {k: v for k, v in alone.items() if k != "seconds"} == {k: v for k, v in same.items() if k != "seconds"}


def test_starts_of_other_precision_are_others() -> None:
    runs = [
        run_of("model=two_layer", "width=6", "data.n_train=60", "steps=3", f"dtype=float{bits}") for bits in (32, 64)
    ]
    together = solve_rows(*runs)
    for run, row in zip(runs, together, strict=True):
        (alone,) = solve_rows(run)
        assert alone["feature_condition_init"] == row["feature_condition_init"]
        assert alone["lr_absolute"] == row["lr_absolute"]
    assert together[0]["feature_condition_init"] != together[1]["feature_condition_init"]


def test_a_diverged_run_among_good_ones_leaves_their_rows_alone() -> None:
    line = ("model=two_layer", "data.n_train=60", "data.n_test=40", "epochs=20", "lr_unit=absolute")
    good, bad = (run_of(*line, f"lr={lr}", "width=6") for lr in (0.1, 50))
    rows = {row["run_id"]: row for row in solve_rows(bad, good)}
    assert rows[bad.run_id]["status"] == "diverged"
    alone = solve_rows(good)[0]
    assert {k: v for k, v in rows[good.run_id].items() if k != "seconds"} == {
        k: v for k, v in alone.items() if k != "seconds"
    }
