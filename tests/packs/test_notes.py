"""Dead units of solved runs, counted again in plain PyTorch, and what is noted of them: dd.packs.notes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import dd
from dd.components.divisors import NEAR
from dd.components.normalization import Normalization
from dd.inspection import Inspected
from dd.normalizations.batch_norm import BatchNorm
from dd.packs.notes import kinds
from dd.runs.run import Run
from dd.runs.settings import Settings
from tests.helpers import problem_of, row_of, run_of, solve_rows
from tests.models import networks
from tests.page import example

FALSE_PEAK = (
    "+experiment=two_layer_normalization", "normalization=batch_norm", "width=12", "data.label_noise=0", "seed=1",
    "dtype=float64", "n_jobs=1",
)  # fmt: skip


def retrained(found: Inspected) -> tuple[nn.Sequential, nn.BatchNorm1d]:
    """A two-layer net with batch norm after all full-batch steps of momentum, by torch alone; in evaluation."""
    width = found.initial["hidden"].shape[0]
    hidden, norm = nn.Linear(found.x.shape[1], width), nn.BatchNorm1d(width, found.run.normalization.eps)
    readout = nn.Linear(width, found.y.shape[1])
    net = nn.Sequential(hidden, nn.ReLU(), norm, readout).double()
    with torch.no_grad():
        for layer, name in ((hidden, "hidden"), (readout, "readout")):
            layer.weight.copy_(found.initial[name])
            layer.bias.copy_(found.initial[f"{name}_bias"])
    optimizer = torch.optim.SGD(net.parameters(), found.lr, momentum=found.run.optimizer.momentum)
    for _ in range(found.run.steps):
        optimizer.zero_grad()
        F.mse_loss(net(found.x), found.y).backward()
        optimizer.step()
    return net.eval(), norm


def test_the_false_peak_is_flagged(tmp_path: Path) -> None:
    """A unit that is dead on the training set fires on test samples: its share alone makes the test loss 40 times."""
    row = dd.sweep(*FALSE_PEAK, f"results_dir={tmp_path}", "name=peak").iloc[0]
    found = dd.inspect(row, results_dir=tmp_path)
    net, norm = retrained(found)
    assert norm.running_var is not None
    assert row["dead_units"] == int((norm.running_var <= 1e-5).sum()) == 3
    assert row["status"] == "ok"
    assert row["status_note"] == (
        "dead units: 3 of 12 hidden units, of variance <= eps on the training set (batch_norm divides them by about "
        "sqrt(eps))"
    )
    hidden = torch.relu(net[0](found.x)).detach()
    test_hidden = torch.relu(net[0](found.test_x)).detach()
    never = (hidden == hidden[0]).all(dim=0)
    assert int(never.sum()) == 3, "they are dead on every training sample"
    fires = never & (test_hidden > 0).any(dim=0)
    assert int(fires.sum()) == 1
    with torch.no_grad():
        loss = float(F.mse_loss(net(found.test_x), found.test_y))
        without = F.mse_loss(net[3](norm(test_hidden * ~fires)), found.test_y)
    assert loss == pytest.approx(row["test_loss"], rel=1e-6)
    assert loss > 1.5
    assert float(without) < 0.06


@pytest.mark.parametrize("measure", ["none", "basic"])
def test_without_dead_units_there_is_no_note(measure: str) -> None:
    run = run_of("model=two_layer", "model.activation=tanh", "normalization=batch_norm", "width=9", "steps=20")
    (row,) = solve_rows(run, settings=Settings(device="cpu", measure_name=measure))
    assert (row["dead_units"], row["status_note"]) == (0, None)


@pytest.mark.parametrize("line", [("optimizer=min_norm",), ("steps=200", "lr=0.1"), ("steps=5",)], ids=" ".join)
def test_features_that_are_constant_on_the_training_set(line: tuple[str, ...]) -> None:
    """Frozen ReLU features of few samples: a closed form has their variances, running ones start at one and fall."""
    base = ("width=300", "data.n_train=20", "data.n_test=40", "data.standardize=none", "batch_size=full", *line)
    base = (*base, "normalization=batch_norm")
    problem, run = problem_of(*base), run_of(*base)
    weight = torch.from_numpy(run.model.draw_frozen(run, problem.inputs)["features"])
    batch = torch.relu(problem.train_x @ weight).var(dim=0, unbiased=True)
    variance = batch * 19 / 20 if run.steps is None else 0.9**run.steps + (1 - 0.9**run.steps) * batch
    (row,) = solve_rows(run)
    assert row["dead_units"] == int((variance <= 1e-5).sum())
    assert (row["dead_units"] > 0) is (run.steps != 5), "after five steps 0.77 is left of the start"
    if row["dead_units"]:
        assert f"{row['dead_units']} of 300 features" in row["status_note"]


@pytest.mark.parametrize("model", ["random_features", "two_layer"])
@pytest.mark.parametrize("solver", ["optimizer=momentum", "optimizer=adam batch_size=10", "optimizer=min_norm"])
def test_which_normalizations_count(model: str, solver: str) -> None:
    line = (f"model={model}", *solver.split(), "width=7", "data.n_train=50", "data.n_test=20")
    steps = () if "min_norm" in solver else ("epochs=2",)
    if model == "two_layer" and not steps:
        return
    counted = {"none": None, "layer_norm": None, "standardize": 0, "scale": 0, "batch_norm": 0}
    found = {name: row_of(*line, *steps, f"normalization={name}")["dead_units"] for name in counted}
    assert found["batch_norm"] is not None
    assert found | {"batch_norm": 0} == counted


def test_dead_channels_of_a_module(tmp_path: Path) -> None:
    line = ("model=module", f"model.path={Path(networks.__file__)}:masked", "width=6", "data.n_train=60",
            "data.n_test=40", "batch_size=full", "steps=150", "lr=0.05", "lr_unit=absolute", "n_jobs=1")  # fmt: skip
    row = dd.sweep(*line, f"results_dir={tmp_path}", "name=masked").iloc[0]
    assert row["dead_units"] == 2, "so many inputs of its batch norm never change"
    found = dd.inspect(row, results_dir=tmp_path)
    assert [value <= 1e-5 for value in found.statistics["2.running_var"].tolist()] == [True] * 2 + [False] * 4
    assert "2 of 6 channels" in row["status_note"]


@dataclass(frozen=True)
class Silent(BatchNorm, name="silent"):
    """Batch norm with an ``apply`` of its own."""

    def apply(self, *arguments: object, **more: object) -> torch.Tensor:  # type: ignore[override]
        return super().apply(*arguments, **more)  # type: ignore[arg-type]


def test_a_normalization_that_dd_does_not_know_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    rms_norm = example("dd/normalizations/rms_norm.py", monkeypatch).RMSNorm()
    run = run_of("model=two_layer", "width=12", "data.n_train=60", "data.n_test=40", "batch_size=full", "steps=150")
    rows = {one.name: with_normalization(run, one) for one in (rms_norm, Silent(), BatchNorm())}
    assert {name: row["dead_units"] is None for name, row in rows.items()} == {
        "rms_norm": True, "silent": True, "batch_norm": False,
    }  # fmt: skip
    assert rows["silent"]["test_loss"] == rows["batch_norm"]["test_loss"]


def with_normalization(run: Run, normalization: Normalization) -> dict[str, object]:
    (row,) = solve_rows(replace(run, normalization=normalization))
    assert row["status"] == "ok", row["error"]
    return row


@pytest.mark.parametrize("kind", ["feature", "global", "none"])
def test_inputs_that_hardly_vary_are_noted_where_each_is_divided_by_its_own_deviation(kind: str) -> None:
    line = ("width=20", "data.n_train=200", "data.n_test=700", "optimizer=min_norm")
    row = row_of(*line, f"data.standardize={kind}")
    plain, scaled = problem_of(*line, "data.standardize=none"), problem_of(*line, "data.standardize=feature")
    deviations = plain.train_x.numpy().std(axis=0)
    thin = (deviations > 0) & (deviations < NEAR * np.median(deviations[deviations > 0]))
    assert 2 < thin.sum() < 10
    largest = scaled.test_x.abs().amax(dim=0).numpy()
    assert largest[thin].max() > 25 > largest[~thin].max(), "they are what becomes large"
    assert row["status_note"] == (
        f"near-constant inputs: {thin.sum()} of 64, of deviation < 5% of the median (data.standardize=feature divides "
        "by it)" if kind == "feature" else None
    )  # fmt: skip


def test_features_that_hardly_vary_are_noted_where_nothing_is_added_to_their_deviation() -> None:
    line = ("width=300", "data.n_train=20", "data.n_test=40", "optimizer=min_norm", "data.standardize=none")
    problem, run = problem_of(*line), run_of(*line)
    weight = torch.from_numpy(run.model.draw_frozen(run, problem.inputs)["features"])
    deviations = torch.relu(problem.train_x @ weight).numpy().std(axis=0)
    varying = deviations[deviations > 1e-12]
    count = int((varying < NEAR * np.median(varying)).sum())
    assert count > 0
    for name in ("scale", "standardize"):
        row = row_of(*line, f"normalization={name}")
        assert row["dead_units"] == 0, "constant features become zero"
        assert row["status_note"] == (
            f"near-constant features: {count} of 300 features, of deviation < 5% of the median ({name} divides by it)"
        )


def test_notes_are_joined() -> None:
    line = ("model=module", f"model.path={networks.__file__}:masked", "width=6", "batch_size=full", "steps=150")
    row = row_of(*line, "data.n_train=100", "data.n_test=40", "data.standardize=feature", "lr=0.05", "lr_unit=absolute")
    first, second = str(row["status_note"]).split("; ")
    assert first.startswith("dead units: 2 of 6 channels, ")
    assert second.startswith("near-constant inputs: ")
    assert kinds([str(row["status_note"])]) == {"dead units": 1, "near-constant inputs": 1}


def test_kinds_of_notes_are_counted_once_a_run() -> None:
    cells = ["dead units: 3 of 9 (a)", None, "dead units: 1 of 9 (a); near-constant inputs: 2 of 64 (b)", None]
    assert kinds(cells) == {"dead units": 2, "near-constant inputs": 1}
    assert not kinds([None])


def test_the_table_has_both_columns(tmp_path: Path) -> None:
    rows = dd.sweep(*FALSE_PEAK[:-3], "seed=1", "normalization=none,batch_norm", "n_jobs=1", f"results_dir={tmp_path}")
    by_name = rows.set_index("normalization")
    assert pd.isna(by_name.loc["none", "dead_units"])
    assert by_name.loc["none", "status_note"] is None or pd.isna(by_name.loc["none", "status_note"])
    assert by_name.loc["batch_norm", "dead_units"] == 3
