"""Label-noise errors against simulations, and against each other where theory relates them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from analysis.conditions import noise_floor
from dd.problems.problem import noisy_labels
from dd.theory.label_noise import expected, gaussian, lower_bound, sphere
from tests.helpers import run_of, solve_rows

REPEATS = 2000


def simulated(z: np.ndarray, second_moment: np.ndarray) -> tuple[float, float]:
    """Mean of tr(Z⁺ᵀ Sigma Z⁺) over designs [repeats, n, p], and its standard error."""
    inverse = np.linalg.pinv(z)
    errors = np.einsum("rin,ij,rjn->r", inverse, second_moment, inverse)
    return errors.mean(), errors.std() / math.sqrt(len(errors))


@pytest.mark.parametrize(("n", "p"), [(10, 1), (10, 4), (20, 10), (10, 20), (4, 30), (1, 5)])
def test_gaussian_features_have_their_exact_error(n: int, p: int) -> None:
    z = np.random.default_rng(0).standard_normal((REPEATS, n, p))
    mean, error = simulated(z, np.eye(p))
    assert abs(mean - gaussian(n, p)) < 4 * error
    assert error < 0.05 * mean


@pytest.mark.parametrize("radius", [1.0, 7.0])
@pytest.mark.parametrize(("n", "p"), [(10, 20), (4, 30), (2, 8), (1, 5)])
def test_features_on_a_sphere_have_their_exact_error(n: int, p: int, radius: float) -> None:
    z = np.random.default_rng(1).standard_normal((REPEATS, n, p))
    z *= radius / np.linalg.norm(z, axis=2, keepdims=True)
    mean, error = simulated(z, np.eye(p) * radius**2 / p)
    assert abs(mean - sphere(n, p)) < 4 * error + 1e-12
    assert error < 0.05 * mean


@pytest.mark.parametrize(("n", "p"), [(10, 3), (10, 7), (10, 14), (10, 25)])
@pytest.mark.parametrize("features", ["cube", "heavy tails", "correlated", "tanh"])
def test_no_features_are_below_the_bound(features: str, n: int, p: int) -> None:
    generator = np.random.default_rng(2)
    mixing = generator.standard_normal((p, p)) * np.linspace(0.2, 3, p)

    def draw(samples: int) -> np.ndarray:
        x = generator.standard_normal((samples, p))
        return {
            "cube": generator.uniform(-1, 1, (samples, p)),
            "heavy tails": generator.standard_t(5, (samples, p)),
            "correlated": x @ mixing + 1,
            "tanh": np.tanh(x @ mixing),
        }[features]

    many = draw(50_000)
    mean, error = simulated(draw(REPEATS * n).reshape(REPEATS, n, p), many.T @ many / len(many))
    assert mean + 4 * error > lower_bound(n, p)


def test_the_bound_is_n_at_the_threshold_and_the_same_from_both_sides() -> None:
    for n in (1, 5, 30):
        assert lower_bound(n, n) == n
    assert lower_bound(30, 20) == pytest.approx(20 / 11)
    assert lower_bound(20, 30) == pytest.approx(20 / 11)


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_exact_errors_lie_above_the_bound(n: int) -> None:
    for p in range(1, 100):
        assert gaussian(n, p) > lower_bound(n, p)
        if p >= n:
            assert lower_bound(n, p) <= sphere(n, p) <= gaussian(n, p)


def test_high_dimensional_spheres_are_gaussian() -> None:
    assert sphere(100, 10_000) == pytest.approx(gaussian(100, 10_000), rel=1e-3)


def test_spheres_below_the_threshold_are_refused() -> None:
    with pytest.raises(ValueError, match="p=4 must be >= n=5"):
        sphere(5, 4)


@pytest.mark.parametrize("width", [5, 40])
def test_a_teacher_of_noise_alone_has_the_label_noise_error(width: int) -> None:
    run = run_of("model=linear", "data=hermite_teacher", "data.c1=0", "data.c2=0", "data.noise=1", "data.dim=40",
                 "data.n_train=15", f"width={width}", "optimizer=min_norm")  # fmt: skip
    losses = [row["test_loss"] for row in solve_rows(*(run.replace(data_seed=seed) for seed in range(120)))]
    assert abs(np.mean(losses) - gaussian(15, width)) < 4 * np.std(losses) / math.sqrt(len(losses))


@pytest.mark.parametrize(
    ("over", "share"), [("other", 0.3), ("all", 0.3), ("other", 0.9), ("all", 1.0), ("other", 0.0)]
)
def test_noisy_labels_have_the_mean_and_variance_of_dd(over: str, share: float) -> None:
    classes, count = 5, 200_000
    labels = np.arange(count) % classes
    noisy = np.eye(classes)[noisy_labels(labels, classes, share, over, 0)]
    mean, variance = expected(np.eye(classes), share, over)
    for k in range(classes):
        own = noisy[labels == k]
        np.testing.assert_allclose(own.mean(axis=0), mean[k], atol=0.01)
        assert own.var(axis=0).sum() == pytest.approx(variance, abs=0.01)
    floor = noise_floor(pd.Series([share]), pd.Series([over]), pd.Series([classes]))
    assert variance == pytest.approx(classes * floor.iloc[0])
