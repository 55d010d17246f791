"""The packed trainer by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import dd
from dd.errors import ConfigError
from dd.solvers.batches import batch_orders
from tests.helpers import dd_run

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(60, 3, generator=GENERATOR, dtype=torch.float64)
Y = torch.stack([X.sin().sum(1), X.prod(1)], dim=1)
COMMON = ("model=two_layer", "lr_unit=absolute", "epochs=20", "batch_size=20", "dtype=float64")


def test_an_ensemble_of_widths_step_sizes_and_optimizers_equals_plain_torch_nets() -> None:
    nets = dd.train(X, Y, *COMMON, "width=4,32", "lr=0.01,0.1", "optimizer=sgd,adam", test=(X[:7], Y[:7]))
    assert len({(n.run.width, n.run.lr, n.run.optimizer) for n in nets}) == 8
    starts = dd.train(X, Y, *COMMON, "epochs=null", "steps=0", "width=4,32", "lr=0.01", "optimizer=sgd")
    by_width = {n.run.width: n.weights for n in starts}
    for net in nets:
        plain = nn.Sequential(nn.Linear(3, net.run.width), nn.ReLU(), nn.Linear(net.run.width, 2)).double()
        start = by_width[net.run.width]
        plain.load_state_dict(
            {"0.weight": start["hidden"], "0.bias": start["hidden_bias"], "2.weight": start["readout"],
             "2.bias": start["readout_bias"]}
        )  # fmt: skip
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[net.run.optimizer]
        optimizer = kind(plain.parameters(), net.run.lr)
        orders = batch_orders(net.run)
        for _ in range(20):
            for batch in torch.from_numpy(next(orders)).split(20):
                optimizer.zero_grad()
                nn.functional.mse_loss(plain(X[batch]), Y[batch]).backward()
                optimizer.step()
        torch.testing.assert_close(net.weights["hidden"], plain[0].weight.detach(), rtol=1e-9, atol=1e-11)
        new = torch.randn(5, 3, generator=GENERATOR, dtype=torch.float64)
        torch.testing.assert_close(net(new), plain(new).detach(), rtol=1e-9, atol=1e-11)
        assert net.curve[-1].test_loss == pytest.approx(float((net(X[:7]) - Y[:7]).square().mean()))
        assert net.axes["width"] == net.run.width


@pytest.mark.parametrize("model", ["random_features", "random_features normalization=standardize model.bias=true"])
def test_min_norm_on_arrays_is_least_squares(model: str) -> None:
    (fit,) = dd.train(X.numpy(), Y.numpy(), *f"model={model}".split(), "optimizer=min_norm", "width=200")
    torch.testing.assert_close(fit(X), Y, rtol=1e-8, atol=1e-8)
    assert fit.steps_done is None
    assert fit.weights["readout"].shape == (2, 200)


def test_classes_are_classified() -> None:
    labels = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
    (net,) = dd.train(X, labels, *COMMON, "epochs=300", "width=50", "optimizer=adam", "lr=0.01", "loss=cross_entropy")
    assert net.curve[-1].train_error == 0
    assert net(X).argmax(1).tolist() == labels.tolist()


def test_nothing_is_written(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    dd.train(X, Y, "width=5", "steps=3", "batch_size=10")
    assert not list(__import__("pathlib").Path(str(tmp_path)).iterdir())


@pytest.mark.parametrize(
    ("x", "y", "overrides", "key"),
    [
        (X, Y[:5], (), "x"),
        (X[:, 0], Y, (), "x"),
        (X * np.nan, Y, (), "x"),
        (X, Y, ("loss=cross_entropy",), "loss"),
        (X, Y, ("data=digits",), "data"),
        (X, Y, ("batch_size=61",), "batch_size"),
        (X, -torch.ones(60).long(), (), "y"),
        (X, Y, ("width=0",), "width"),
        (X, Y, ("plan_only=true",), "plan_only"),
        (X, Y, ("+experiment=label_noise",), "data"),
        (X, Y, ("device=cuda",), "device"),
        (X, Y.reshape(60, 2, 1), (), "y"),
        (X, "none", (), "y"),
        (X * 1j, Y, (), "x"),
        (X, torch.arange(60) * 1000, (), "y"),
    ],
)
def test_bad_input_is_one_error_that_names_the_key(
    x: torch.Tensor, y: torch.Tensor, overrides: tuple[str, ...], key: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{key}[= ]"):
        dd.train(x, y, *overrides)


def test_a_test_set_is_a_pair() -> None:
    with pytest.raises(ConfigError, match=r"^test="):
        dd.train(X, Y, test=X)  # type: ignore[arg-type]


def test_a_wide_neighbours_infinite_features_do_not_touch_a_narrow_run() -> None:
    x = X.clone()
    x[:, 1] *= 1e39
    fixed = (
        "model=linear",
        "optimizer=sgd",
        "lr_unit=absolute",
        "lr=0.01",
        "steps=10",
        "dtype=float32",
        "batch_size=20",
    )
    (alone,) = dd.train(x, Y, *fixed, "width=1")
    assert alone.status == "ok"
    with pytest.raises(RuntimeError, match="not finite in float32"):
        dd.train(x, Y, *fixed, "width=1,2")


def test_a_run_without_curvature_says_so() -> None:
    with pytest.raises(RuntimeError, match="lr_unit=sharpness needs"):
        dd.train(torch.zeros(20, 2), torch.zeros(20, 1), "model=linear", "width=2", "steps=2", "batch_size=20")


def test_the_command_line_says_where_tensors_belong(tmp_path: object) -> None:
    done = dd_run("data=tensors", cwd=tmp_path)  # type: ignore[arg-type]
    assert done.returncode == 2
    assert done.stderr.startswith("dd: data=tensors")
    assert "dd.train" in done.stderr
