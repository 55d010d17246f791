"""Rows computed again in plain PyTorch from ``dd.inspect`` alone: float64, to 1e-9.

Covers: dd/inspection.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import dd
from dd.errors import ConfigError, StoreError
from dd.inspection import Inspected
from tests.models import networks

SMALL = ("data.n_train=60", "data.n_test=40", "data.label_noise=0.2", "dtype=float64", "n_jobs=1", "seed=3")
SWEEPS = {
    "features": ("width=30", "optimizer=momentum", "batch_size=25", "steps=40", "solver=iterative"),
    "nets": (
        "model=two_layer", "model.activation=tanh", "width=9", "optimizer=adam", "lr=0.01", "lr_unit=absolute",
        "loss=cross_entropy", "batch_size=25", "steps=40",
    ),
    "module": (
        "model=module", f"model.path={Path(networks.__file__)}:cnn", "width=4", "optimizer=momentum", "lr=0.05",
        "lr_unit=absolute", "batch_size=25", "steps=20", "schedule=cosine", "schedule.warmup=5",
        "data.augment=crop_flip", "data.standardize=global",
    ),
    "limit": ("width=100", "optimizer=min_norm", "normalization=scale", "model.bias=true"),
    "exact": ("width=20", "optimizer=gd", "batch_size=full", "steps=500"),
}  # fmt: skip

ROOT = Path(__file__).parent.parent

Net = Callable[[dict[str, Tensor], Tensor], Tensor]


def linear(w: dict[str, Tensor], design: Tensor) -> Tensor:
    return design @ w["readout"].T


def two_layers(w: dict[str, Tensor], x: Tensor) -> Tensor:
    return F.linear(torch.tanh(F.linear(x, w["hidden"], w["hidden_bias"])), w["readout"], w["readout_bias"])


def convolutional(w: dict[str, Tensor], x: Tensor) -> Tensor:
    x = F.conv2d(x.view(-1, 1, 8, 8), w["0.weight"], w["0.bias"].flatten(), padding=1)
    x = F.batch_norm(x, None, None, w["1.weight"].flatten(), w["1.bias"].flatten(), training=True)
    x = torch.relu(F.conv2d(F.max_pool2d(torch.relu(x), 2), w["4.weight"], w["4.bias"].flatten()))
    return F.linear(x.flatten(1), w["readout"], w["readout_bias"])


def trained(found: Inspected, net: Net, step: type[torch.optim.Optimizer], **options: float) -> dict[str, Tensor]:
    """Weights after all steps of a run, by torch alone."""
    x = found.x if found.design is None else found.design
    leaves = {name: value.double().clone().requires_grad_(True) for name, value in found.initial.items()}
    optimizer = step(leaves.values(), lr=found.lr, **options)  # type: ignore[call-arg]
    for number in range(1, found.run.steps + 1):
        batch = found.batch(number)
        optimizer.param_groups[0]["lr"] = found.step_size(number)
        optimizer.zero_grad()
        inputs = found.inputs(number) if found.design is None else x[batch]
        loss(found, net(leaves, inputs), found.y[batch]).backward()
        optimizer.step()
    return {name: value.detach() for name, value in leaves.items()}


def loss(found: Inspected, outputs: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(outputs, y) if found.run.loss == "mse" else F.cross_entropy(outputs, y)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, pd.Series]]:
    folder = tmp_path_factory.mktemp("inspected")
    rows = {}
    for name, line in SWEEPS.items():
        rows[name] = dd.sweep(*SMALL, *line, f"results_dir={folder}", f"name={name}").iloc[0]
        assert rows[name]["status"] == "ok", rows[name]["error"]
    return folder, rows


@pytest.mark.parametrize(
    ("name", "net", "step", "options"),
    [
        ("features", linear, torch.optim.SGD, {"momentum": 0.9}),
        ("nets", two_layers, torch.optim.Adam, {}),
        ("module", convolutional, torch.optim.SGD, {"momentum": 0.9}),
        ("exact", linear, torch.optim.SGD, {}),
    ],
)
def test_a_trained_row_follows_from_what_is_told(
    tables: tuple[Path, dict[str, pd.Series]],
    name: str,
    net: Net,
    step: type[torch.optim.Optimizer],
    options: dict[str, float],
) -> None:
    folder, rows = tables
    found = dd.inspect(rows[name]["run_id"], name, folder)
    assert found.noisy is not None
    assert int(found.noisy.sum()) == 12
    weights = trained(found, net, step, **options)
    for key, value in found.final.items():
        torch.testing.assert_close(value.double(), weights[key], rtol=1e-8, atol=1e-10)
    if name != "module":  # whose batch statistics in evaluation are running ones
        for side, x, design, y in (
            ("train", found.x, found.design, found.y), ("test", found.test_x, found.test_design, found.test_y),
        ):  # fmt: skip
            got = loss(found, net(weights, x if design is None else design), y)
            assert float(got) == pytest.approx(rows[name][f"{side}_loss"], rel=1e-9)
        clean = ~found.noisy
        x = found.x if found.design is None else found.design
        part = loss(found, net(weights, x[clean]), found.y[clean])
        assert float(part) == pytest.approx(rows[name]["train_loss_clean"], rel=1e-9)
    norm = torch.cat([value.flatten() for value in weights.values()]).norm()
    assert float(norm) == pytest.approx(rows[name]["weight_norm"], rel=1e-9)


def test_a_closed_form_follows_from_its_design(tables: tuple[Path, dict[str, pd.Series]]) -> None:
    folder, rows = tables
    found = dd.inspect(rows["limit"], results_dir=folder)
    assert found.design is not None
    assert found.test_design is not None
    solution = torch.linalg.pinv(found.design) @ found.y
    outputs = found.test_design @ solution
    assert float(F.mse_loss(outputs, found.test_y)) == pytest.approx(rows["limit"]["test_loss"], rel=1e-8)
    torch.testing.assert_close(found.final["readout"], solution[:-1].T, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(found.final["readout_bias"], solution[-1], rtol=1e-8, atol=1e-10)
    assert sorted(found.frozen) == ["features"]
    assert found.frozen["features"].shape == (64, 100)
    assert found.lr is None
    with pytest.raises(ConfigError, match="takes no steps"):
        found.batch(1)


def test_batches_of_an_epoch_are_a_permutation(tables: tuple[Path, dict[str, pd.Series]]) -> None:
    folder, rows = tables
    found = dd.inspect(rows["features"], results_dir=folder)
    batches = [found.batch(step) for step in range(1, 4)]
    assert [len(batch) for batch in batches] == [25, 25, 10]
    assert sorted(torch.cat(batches).tolist()) == list(range(60))
    assert not torch.equal(found.batch(1), found.batch(4))
    for step in (0, 41):
        with pytest.raises(ConfigError, match=f"step={step}: must be from 1 to 40"):
            found.batch(step)
    assert repr(found).startswith(f"Inspected({rows['features']['run_id']}: model=random_features")


def test_running_statistics_are_told(tables: tuple[Path, dict[str, pd.Series]]) -> None:
    folder, rows = tables
    found = dd.inspect(rows["module"], results_dir=folder)
    assert {name: tuple(value.shape) for name, value in found.statistics.items()} == {
        "1.running_mean": (4,), "1.running_var": (4,),
    }  # fmt: skip


def test_a_run_that_is_not_there(tables: tuple[Path, dict[str, pd.Series]]) -> None:
    for name in ("features", "absent"):
        with pytest.raises(StoreError, match="has no run abc"):
            dd.inspect("abc", name, tables[0])


def test_every_stream_is_documented() -> None:
    page = (ROOT / "docs" / "axes.md").read_text(encoding="utf-8")
    named = set()
    for path in (ROOT / "dd").rglob("*.py"):
        named |= set(
            re.findall(r'(?:stream|GlobalRandom|_draw_inputs)\([\w. ]+,(?: f)? ?"([\w.]+)"', path.read_text("utf-8"))
        )
    assert {"batches", "layers", "teacher.train", "init.hidden.bias"} <= named
    assert not [name for name in named - {"a"} if f"`{name}`" not in page]
