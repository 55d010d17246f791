"""Parts of the test loss: against the analysis of variance, known components and least squares."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from analysis.components import Components, components, error_products, estimate, resampled

PARTS = ("bias_squared", "variance_data", "variance_init", "variance_interaction")


def simulated(
    generator: np.random.Generator, shape: tuple[int, int, int], bias: float, data: float, init: float, both: float
) -> np.ndarray:
    """Errors of a two-way random-effects model with given bias and standard deviations."""
    d, s, t = shape
    return (
        bias
        + data * generator.standard_normal((d, 1, t))
        + init * generator.standard_normal((1, s, t))
        + both * generator.standard_normal((d, s, t))
    )


def test_parts_are_those_of_the_analysis_of_variance() -> None:
    errors = simulated(np.random.default_rng(0), (4, 3, 5), 0.3, 1, 2, 0.5)
    d, s, _ = errors.shape
    mean = errors.mean(axis=(0, 1))
    rows, columns = errors.mean(axis=1), errors.mean(axis=0)
    ms_data = s * ((rows - mean) ** 2).sum(axis=0) / (d - 1)
    ms_init = d * ((columns - mean) ** 2).sum(axis=0) / (s - 1)
    rest = errors - rows[:, None] - columns[None] + mean
    ms_both = (rest**2).sum(axis=(0, 1)) / ((d - 1) * (s - 1))
    data, init, both = (ms_data - ms_both) / s, (ms_init - ms_both) / d, ms_both
    expected = [mean**2 - data / d - init / s - both / (d * s), data, init, both]
    got = estimate(errors)
    for key, values in zip(PARTS, expected, strict=True):
        assert getattr(got, key)[0] == pytest.approx(values.mean(), rel=1e-12), key


def test_they_add_up_to_the_mean_test_loss() -> None:
    errors = simulated(np.random.default_rng(1), (5, 7, 11), 0.1, 1, 1, 1)
    assert estimate(errors).test_loss[0] == pytest.approx(np.mean(errors**2), rel=1e-13)


@pytest.mark.parametrize("shape", [(2, 2, 200_000), (3, 2, 200_000), (30, 20, 2000)])
def test_known_components_are_recovered(shape: tuple[int, int, int]) -> None:
    """Two data seeds and two seeds suffice for estimates without bias."""
    got = estimate(simulated(np.random.default_rng(2), shape, 0.8, 1.2, 0.7, 1.5))
    for key, truth in zip(PARTS, (0.8, 1.2, 0.7, 1.5), strict=True):
        assert getattr(got, key)[0] == pytest.approx(truth**2, abs=0.05), key


def test_an_ensembles_loss_is_the_mean_over_all_choices_of_members() -> None:
    errors = simulated(np.random.default_rng(3), (3, 6, 4), 0.5, 1, 1, 1)
    got = estimate(errors)
    for members in range(1, 7):
        losses = [np.mean(errors[:, list(chosen)].mean(axis=1) ** 2) for chosen in combinations(range(6), members)]
        assert got.ensemble_loss(members)[0] == pytest.approx(np.mean(losses), rel=1e-12)
    assert got.ensemble_loss(np.inf)[0] == pytest.approx(got.bias_squared[0] + got.variance_data[0])


def test_least_squares_on_random_subsets_of_gaussian_inputs() -> None:
    """Data set d, subset s of p of the inputs: what a subset leaves out is noise to it."""
    dim, p, n, noise = 12, 4, 40, 0.7
    generator = np.random.default_rng(4)
    slope = generator.standard_normal(dim)
    test = generator.standard_normal((2000, dim))
    subsets = [generator.choice(dim, p, replace=False) for _ in range(40)]
    errors = np.empty((40, 40, len(test)))
    for d in range(40):
        x = generator.standard_normal((n, dim))
        y = x @ slope + noise * generator.standard_normal(n)
        for s, chosen in enumerate(subsets):
            errors[d, s] = test[:, chosen] @ np.linalg.lstsq(x[:, chosen], y, rcond=None)[0] - test @ slope
    got = estimate(errors)
    signal, share = slope @ slope, p / dim
    variance = (noise**2 + (1 - share) * signal) * p / (n - p - 1)
    assert got.bias_squared[0] == pytest.approx((1 - share) ** 2 * signal, rel=0.1)
    assert got.variance_init[0] == pytest.approx(share * (1 - share) * signal, rel=0.1)
    assert got.variance_data[0] + got.variance_interaction[0] == pytest.approx(variance, rel=0.1)


def test_least_squares_without_anything_to_draw_has_variance_from_data_alone() -> None:
    n, p, noise = 30, 10, 0.5
    generator = np.random.default_rng(5)
    test = generator.standard_normal((1000, p))
    fits = []
    for _ in range(300):
        x = generator.standard_normal((n, p))
        fits.append(test @ np.linalg.lstsq(x, noise * generator.standard_normal(n), rcond=None)[0])
    got = estimate(np.repeat(np.array(fits)[:, None], 2, axis=1))
    assert got.variance_data[0] == pytest.approx(noise**2 * p / (n - p - 1), rel=0.1)
    for key in ("bias_squared", "variance_init", "variance_interaction"):
        assert getattr(got, key)[0] == pytest.approx(0, abs=2e-3), key


def test_weights_count_pairs_of_different_runs() -> None:
    generator = np.random.default_rng(6)
    errors = generator.standard_normal((3, 4, 5))
    w, v = generator.exponential(size=3), generator.exponential(size=4)
    sums = {key: np.zeros(2) for key in ("apart", "data", "seed", "run")}
    for d in range(3):
        for e in range(3):
            for s in range(4):
                for t in range(4):
                    kind = {(False, False): "apart", (True, False): "data", (False, True): "seed"}.get((d == e, s == t))
                    weight = w[d] * (1 if d == e else w[e]) * v[s] * (1 if s == t else v[t])
                    sums[kind or "run"] += weight * np.array([np.mean(errors[d, s] * errors[e, t]), 1])
    mean = {key: value / weight for key, (value, weight) in sums.items()}
    got = components(error_products(errors), w[None], v[None])
    assert got.bias_squared[0] == pytest.approx(mean["apart"])
    assert got.variance_data[0] == pytest.approx(mean["data"] - mean["apart"])
    assert got.variance_init[0] == pytest.approx(mean["seed"] - mean["apart"])
    assert got.test_loss[0] == pytest.approx(mean["run"])


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    generator = np.random.default_rng(7)
    truth = Components(*(np.array([x]) for x in (0.25, 1.0, 0.5, 2.0)))
    covered = dict.fromkeys((*PARTS, "test_loss"), 0)
    repeats = 200
    for _ in range(repeats):
        errors = simulated(generator, (10, 10, 3), 0.5, 1, np.sqrt(0.5), np.sqrt(2))
        spread = resampled(errors, 200)
        for key in covered:
            low, high = np.quantile(getattr(spread, key), [0.05, 0.95])
            covered[key] += low <= getattr(truth, key)[0] <= high
    shares = {key: count / repeats for key, count in covered.items()}
    assert all(0.75 <= share <= 0.99 for share in shares.values()), shares
