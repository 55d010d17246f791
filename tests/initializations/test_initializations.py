"""Laws of the initial weights.

Covers: dd/components/initialization.py, dd/initializations, dd/streams.py.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from dd.components.initialization import Initialization
from dd.runs.registry import kind, names
from dd.streams import stream
from tests.helpers import run_of

UNITS, PER_UNIT = 600, 400
STANDARD_DEVIATION = {
    "zero": 0.0,
    "fan_in": math.sqrt(1 / 400),
    "he": math.sqrt(2 / 400),
    "glorot": math.sqrt(2 / 1000),
    "glorot_uniform": math.sqrt(2 / 1000),
    "orthogonal": math.sqrt(1 / 600),
    "torch": math.sqrt(1 / 400 / 3),
    "fixed": 0.02,
    "own": math.sqrt(1 / 400 / 3),  # of a read-out that dd adds; a module draws the rest
}


def made(name: str) -> Initialization:
    scheme = kind("init", name)()
    assert isinstance(scheme, Initialization)
    return scheme


def draw(name: str, units: int = UNITS) -> np.ndarray:
    return made(name).weight(stream(0, "test"), units, PER_UNIT, PER_UNIT, UNITS)


def test_every_scheme_has_a_law_here() -> None:
    assert STANDARD_DEVIATION.keys() | {"default"} == set(names("init"))


@pytest.mark.parametrize("name", STANDARD_DEVIATION)
def test_standard_deviation(name: str) -> None:
    weights = draw(name)
    assert weights.shape == (UNITS, PER_UNIT)
    assert weights.std() == pytest.approx(STANDARD_DEVIATION[name], rel=0.01)
    assert abs(weights.mean()) <= 0.01 * STANDARD_DEVIATION[name]


@pytest.mark.parametrize("name", sorted(STANDARD_DEVIATION.keys() - {"orthogonal"}))
def test_a_narrow_layer_is_the_start_of_a_wide_one(name: str) -> None:
    assert np.array_equal(draw(name, 100), draw(name)[:100])


def test_uniform_laws_stay_in_their_interval() -> None:
    for name, bound in (("torch", 1 / 20), ("glorot_uniform", math.sqrt(6 / 1000))):
        weights = np.abs(draw(name))
        assert 0.999 * bound < weights.max() < bound


@pytest.mark.parametrize("shape", [(30, 10), (10, 30), (10, 10)])
def test_orthogonal(shape: tuple[int, int]) -> None:
    weights = made("orthogonal").weight(stream(0, "x"), *shape, shape[1], shape[0])
    gram = weights.T @ weights if shape[0] >= shape[1] else weights @ weights.T
    np.testing.assert_allclose(gram, np.eye(10), atol=1e-12)


def test_torch_scheme_has_the_law_of_nn_linear() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(PER_UNIT, UNITS)
    assert draw("torch").std() == pytest.approx(float(layer.weight.detach().std()), rel=0.01)
    bias = made("torch").bias(stream(0, "b"), 50_000, PER_UNIT)
    assert np.abs(bias).max() == pytest.approx(1 / 20, rel=1e-3)


@pytest.mark.parametrize(("model", "scheme"), [("random_features", "fan_in"), ("two_layer", "torch")])
def test_default_is_the_models_own_and_scale_multiplies(model: str, scheme: str) -> None:
    default, named, scaled = (
        run.model.init([run], 64, 10)
        for extra in ((), (f"init={scheme}",), ("init.scale=3",))
        for run in [run_of(f"model={model}", *extra)]
    )
    for key in default:
        torch.testing.assert_close(default[key], named[key])
        torch.testing.assert_close(scaled[key], 3 * default[key])


def test_seeds_give_different_weights_and_streams_do_not_overlap() -> None:
    assert not np.allclose(stream(0, "a").standard_normal(5), stream(1, "a").standard_normal(5))
    assert not np.allclose(stream(0, "a").standard_normal(5), stream(0, "b").standard_normal(5))
    golden = stream(0, "features.weight").standard_normal(3)
    np.testing.assert_allclose(golden, [0.5054426102377862, -1.677143553822041, -0.1753140080164079], rtol=1e-15)
