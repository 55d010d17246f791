"""Features that hardly vary: counted by a plain loop, at the edges of the rules, and by components from outside."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from dd.components.divisors import Divisors, near_constant
from dd.components.module import ModuleModel
from dd.components.normalization import Normalization
from dd.normalizations.batch_norm import BatchNorm
from dd.normalizations.layer_norm import LayerNorm
from dd.normalizations.scale import Scale
from dd.normalizations.standardize import Standardize
from tests.helpers import run_of
from tests.models import networks


def test_near_constant_features_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    counts = set()
    for _ in range(20):
        deviations = np.exp(rng.normal(scale=2, size=30)) * (rng.random(30) > 0.2)
        varying = [d for d in deviations.tolist() if d > 0]
        counts.add(near_constant(deviations))
        assert near_constant(deviations) == sum(d < 0.05 * statistics.median(varying) for d in varying)
    assert len(counts) > 2
    assert near_constant(np.zeros(3)) == near_constant(np.array([])) == 0
    assert near_constant(np.array([0.05, 1.0, 1.0])) == 0


def test_dead_is_what_eps_is_at_least_half_of() -> None:
    variance = torch.tensor([0.0, 1e-5, 1.1e-5, 1.0, float("nan")])
    assert Divisors(variance, 1e-5).dead == 2
    assert Divisors(variance, torch.tensor([1e-5, 1e-6, 1.0, 1.0, 1.0])).dead == 3
    assert Divisors(variance, None).dead == 0
    assert Divisors(torch.tensor([0.0, 1e-4, 1.0, 1.0, 1.1]), None).near_constant == 1
    assert Divisors(torch.tensor([0.0, 1e-4, 1.0, 1.0, 1.1]), 1e-5).near_constant == 0, "eps is there for it"


FEATURES = torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
FEATURES[..., 2] = 0.5  # constant
FEATURES[..., 3] *= 1e-3


@pytest.mark.parametrize("normalization", [BatchNorm(), Scale(), Standardize()], ids=lambda one: one.name)
def test_divisors_are_what_features_are_divided_by(normalization: Normalization) -> None:
    buffers = normalization.settled(FEATURES)
    found = normalization.divisors(buffers)
    assert found is not None
    change = FEATURES + torch.tensor([0.0, 1.0])[:, None, None]  # of the second run: by one
    outputs = normalization.apply(change, buffers, {}, training=False)
    slope = (outputs - normalization.apply(FEATURES, buffers, {}, training=False))[1, 0]
    divisors = (found.variance + (found.eps or 0.0)).sqrt()[1, 0]
    expected = torch.where(divisors > 0, 1 / divisors, 0.0)
    torch.testing.assert_close(slope, expected)
    assert (found.count, found.dead) == (8, 4 if normalization.name == "batch_norm" else 0)
    assert found.near_constant == (0 if normalization.name == "batch_norm" else 2)


def test_what_divides_a_sample_by_itself_has_no_divisors() -> None:
    normalization = LayerNorm()
    assert normalization.divisors(normalization.fit(FEATURES)) is None
    same = torch.full((1, 3, 16), 7.0, dtype=torch.float64)
    same[0, 1, 0] += 1e-9
    bounded = normalization.apply(same, {}, {}, training=False)
    assert float(bounded.abs().max()) <= 4.0, "however alike the units of a sample are"


@dataclass(frozen=True)
class Longer(BatchNorm, name="longer"):
    """Batch norm that divides by something else."""

    def apply(
        self, features: Tensor, buffers: dict[str, Tensor], trained: Mapping[str, Tensor], *, training: bool
    ) -> Tensor:
        return super().apply(features, buffers, trained, training=training) / 2


@dataclass(frozen=True)
class Floored(BatchNorm, name="floored"):
    """Another floor, which goes by another method."""

    def scaled(self, centred: Tensor, variance: Tensor, trained: Mapping[str, Tensor]) -> Tensor:
        return centred * variance.clamp(min=1.0).rsqrt()


@dataclass(frozen=True)
class Telling(Longer, name="telling"):
    """The same, and it says so."""

    def divisors(self, buffers: Mapping[str, Tensor]) -> Divisors:
        return Divisors(4 * buffers["variance"], 4 * self.eps)


@dataclass(frozen=True)
class Same(BatchNorm, name="same"):
    """Batch norm by another name."""


def test_a_normalization_from_outside_counts_only_what_it_says_itself() -> None:
    buffers = BatchNorm().settled(FEATURES)
    for silent in (Longer(), Floored()):
        assert silent.divisors(buffers) is None
    for one in (Same(), Telling()):
        found = one.divisors(buffers)
        assert found is not None
        assert found.dead == 4


@pytest.mark.parametrize(
    ("line", "channels"),
    [
        (("model=rmt", "width=2", "normalization=batch_norm"), True),
        (("model=resnet18", "width=2", "normalization=batch_norm", "normalization.eps=0.1"), True),
        (("model=module", f"model.path={networks.__file__}:cnn", "width=4"), True),
        (("model=module", f"model.path={networks.__file__}:own_norm", "width=4"), False),
        (("model=rmt", "width=2", "normalization=layer_norm"), False),
        (("model=mlp", "width=3"), False),
    ],
    ids=lambda value: value[0] + value[1][-12:] if isinstance(value, tuple) else "",
)
def test_channels_of_batch_norms_in_modules(line: tuple[str, ...], channels: bool) -> None:
    run = run_of(*line, "data.standardize=global", "data.n_train=60", "data.n_test=10")
    assert isinstance(run.model, ModuleModel)
    buffers = run.model.buffers(run)
    found = run.model.divisors(run, buffers)
    if not channels:
        assert found is None
        return
    assert found is not None
    variances = [value for name, value in buffers.items() if name.endswith("running_var")]
    assert found.count == sum(value.numel() for value in variances) > 0
    assert found.dead == 0, "they start at one"
    variances[-1].fill_(0.05)
    last = variances[-1].numel()
    again = run.model.divisors(run, buffers)
    assert again is not None
    assert again.dead == (last if "normalization.eps=0.1" in line else 0)
