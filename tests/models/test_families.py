"""Families of deep networks: published numbers of parameters, and forward passes against functions alone.

Covers: dd/models/mlp.py, dd/models/cnn5.py, dd/models/resnet18.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dd.errors import ConfigError
from tests.helpers import row_of, run_of

CIFAR = ("data=cifar10", "data.n_train=500", "data.n_test=100")
FASHION = ("data=fashion_mnist", "data.n_train=500", "data.n_test=100")


@pytest.mark.parametrize(
    ("line", "published"),
    [
        # k = 64: 11.17 million, as listed for pre-activation ResNet18 on CIFAR-10
        ("model=resnet18 width=64", 11_171_146),
        ("model=cnn5 width=64", 27 * 64 + 9 * 64**2 * (2 + 8 + 32) + 15 * 64 * 3 + 5130),
        ("model=mlp model.depth=3 width=100", 3072 * 100 + 100 + 2 * (100**2 + 100) + 1010),
        ("model=mlp model.depth=1 width=100", 3072 * 100 + 100 + 1010),
        ("model=mlp model.depth=2 model.bias=false width=100", 3072 * 100 + 100**2 + 1000),
    ],
)
def test_parameters_are_as_published(line: str, published: int) -> None:
    run = run_of(*CIFAR, *line.split())
    assert run.model.parameter_count(run) == published


def normed(x: Tensor, w: dict[str, Tensor], name: str) -> Tensor:
    """Batch statistics, gain and shift."""
    mean, variance = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), keepdim=True, unbiased=False)
    gain, shift = (w[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias"))
    return (x - mean) / (variance + 1e-5).sqrt() * gain + shift


def cnn5(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    # conv, norm, relu; pools after the second and the third block, the maximum over the rest after the fourth
    for conv, pool in ((0, 1), (3, 2), (7, 2), (11, None)):
        x = F.conv2d(x, w[f"{conv}.weight"], w[f"{conv}.bias"].flatten(), padding=1)
        x = torch.relu(normed(x, w, str(conv + 1)))
        x = x.amax(dim=(2, 3)) if pool is None else F.max_pool2d(x, pool)
    return x


def resnet18(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    x = F.conv2d(x, w["0.weight"], padding=1)
    for block in range(1, 9):
        stride = 2 if block in (3, 5, 7) else 1
        seen = torch.relu(normed(x, w, f"{block}.norm1"))
        kept = F.conv2d(seen, w[f"{block}.shortcut.weight"], stride=stride) if stride == 2 else x
        inner = F.conv2d(seen, w[f"{block}.conv1.weight"], stride=stride, padding=1)
        x = kept + F.conv2d(torch.relu(normed(inner, w, f"{block}.norm2")), w[f"{block}.conv2.weight"], padding=1)
    return x.mean(dim=(2, 3))


def mlp(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    for layer in (0, 2, 4):
        x = torch.tanh(F.linear(x, w[f"{layer}.weight"], w[f"{layer}.bias"].flatten()))
    return x


@pytest.mark.parametrize(
    ("line", "plain"),
    [("model=cnn5", cnn5), ("model=resnet18", resnet18), ("model=mlp model.depth=3 model.activation=tanh", mlp)],
)
@pytest.mark.parametrize("data", [CIFAR, FASHION, ("data=digits", "data.n_train=60", "data.n_test=20")])
def test_features_are_those_of_plain_functions(
    data: tuple[str, ...], line: str, plain: Callable[[Tensor, dict[str, Tensor]], Tensor]
) -> None:
    run = run_of(*data, *line.split(), "width=3")
    trained = run.model.init([run], run.data.input_count, 10)
    x = torch.randn(5, run.data.input_count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    module = run.model.module(run)
    weights = {name: trained[name][0].view(p.shape) for name, p in module.named_parameters()}
    expected = plain(x.view(5, *run.data.image) if run.model.takes_images else x, weights)
    got = run.model.features(run, {}, trained, x[None])[0]
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11)
    assert got.shape[1] == run.model.feature_count(run) == (3 if line.startswith("model=mlp") else 24)


@pytest.mark.parametrize("model", ["cnn5", "resnet18"])
def test_without_batch_norm_there_is_none(model: str) -> None:
    run = run_of(f"model={model}", "width=2", "normalization=none")
    assert not run.model.batch_dependent(run)
    with pytest.raises(ConfigError, match=r"normalization=layer_norm.*use batch_norm or none"):
        run_of(f"model={model}", "normalization=layer_norm")
    with pytest.raises(ConfigError, match=r"data=mnist1d.*needs images"):
        run_of(f"model={model}", "data=mnist1d")


@pytest.mark.parametrize("line", ["model=mlp", "model=cnn5", "model=resnet18 normalization.momentum=0.2"])
def test_they_learn(line: str) -> None:
    row = row_of(*line.split(), "width=6", "data.n_train=100", "data.n_test=50", "optimizer=adam", "epochs=60")
    assert row["status"] == "ok"
    assert row["trainer"] == "single"
    assert float(str(row["train_loss"])) < 0.09, "that of no features"
