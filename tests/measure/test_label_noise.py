"""Clean and noisy training samples apart: against NumPy, for every way to train and to measure."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dd.measure import full_pass
from dd.measure.solution import Solution
from dd.packs.measuring import measured
from dd.packs.place import measure_of
from dd.packs.prepare import prepare
from dd.packs.schedule import train_jobs
from dd.packs.shared import Shared
from dd.problems.problem import load
from dd.runs.settings import Settings
from tests.helpers import row_of, run_of

SMALL = ("width=8", "data.n_train=60", "data.n_test=20", "data.label_noise=0.3", "data.label_noise_over=all")
LINES = {
    "least squares": "optimizer=min_norm",
    "interpolation": "optimizer=min_norm width=200",
    "exact dynamics": "optimizer=gd batch_size=full steps=50",
    "diverged dynamics": "optimizer=gd batch_size=full steps=10000 lr=30",
    "batches": "optimizer=sgd steps=30 batch_size=20",
    "cross-entropy": "optimizer=adam steps=30 loss=cross_entropy batch_size=20",
    "a net": "model=two_layer optimizer=momentum steps=30 batch_size=20",
    "a diverged net": "model=two_layer steps=300 batch_size=20 lr=1e6 lr_unit=absolute",
    "batch statistics": "model=two_layer normalization=batch_norm steps=30 batch_size=20",
    "a deep network": "model=rmt width=2 optimizer=adam steps=3 batch_size=20",
}


@pytest.mark.parametrize("kind", ["none", "basic"])
@pytest.mark.parametrize("line", LINES)
def test_columns_are_those_of_numpy(line: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_pass, "LEAST", 7)
    monkeypatch.setattr(full_pass, "ENTRIES", 1)
    settings = Settings(device="cpu", measure_name=kind)
    run = run_of(*SMALL, *LINES[line].split())
    (job,) = train_jobs([prepare(run, Shared(settings, [run]))])
    solution = job.result
    assert isinstance(solution, Solution)
    assert solution.status == ("diverged" if "diverged" in line else "ok")
    row = measured(job, solution, measure_of(settings))
    network = job.network
    theta = network.named(solution.theta[None].double())
    buffers = {name: value[None].double() for name, value in solution.buffers.items()}
    outputs = network.predict(theta, network.exact_train.inputs, buffers)[0].detach().numpy()
    given = load(run.replace(label_noise=0.0), settings).train_y.numpy().argmax(axis=1)
    trained_on = load(run, settings).train_y.numpy()
    noisy = trained_on.argmax(axis=1) != given
    assert 0 < noisy.sum() < round(0.3 * 60), "redrawing over all leaves some as they were"
    if run.loss == "mse":
        losses = ((outputs - trained_on) ** 2).mean(axis=1)
    else:
        losses = np.log(np.exp(outputs).sum(axis=1)) - (outputs * trained_on).sum(axis=1)
    wrong = outputs.argmax(axis=1) != trained_on.argmax(axis=1)
    for part, mask in (("clean", ~noisy), ("noisy", noisy)):
        assert row[f"train_loss_{part}"] == pytest.approx(losses[mask].mean(), rel=1e-10, abs=1e-24)
        assert row[f"train_error_{part}"] == pytest.approx(wrong[mask].mean(), abs=1e-12)
    for name in ("loss", "error"):
        whole = sum(mask.mean() * row[f"train_{name}_{part}"] for part, mask in (("clean", ~noisy), ("noisy", noisy)))
        assert whole == pytest.approx(row[f"train_{name}"], rel=1e-9, abs=1e-20)


def test_without_noise_they_are_null_and_a_part_without_samples_is() -> None:
    line = ("width=8", "optimizer=min_norm", "data.n_train=60", "data.n_test=20")
    names = [f"train_{name}_{part}" for name in ("loss", "error") for part in ("clean", "noisy")]
    assert all(row_of(*line).get(name) is None for name in names)
    assert all(row_of(*line, "data.targets=linear").get(name) is None for name in names)
    row = row_of(*line, "data.label_noise=1")
    assert row.get("train_loss_clean") is None
    assert row["train_loss_noisy"] == pytest.approx(row["train_loss"], rel=1e-12)
    row = row_of(*line, "data.label_noise=1e-3")
    assert row.get("train_loss_noisy") is None
    assert row["train_loss_clean"] == pytest.approx(row["train_loss"], rel=1e-12)
    assert torch.equal(load(run_of(*line, "data.label_noise=1"), Settings()).noisy, torch.ones(60, dtype=torch.bool))
