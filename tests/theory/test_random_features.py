"""Ridge regression on random features: reference values, an independent formula, simulations, dd's own runs.

Covers: dd/theory/spectrum.py.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dd.theory import units
from dd.theory.activations import coefficients
from dd.theory.flow import flow_risk
from dd.theory.random_features import Risk, ridge_risk, ridgeless_nu
from dd.theory.spectrum import FeatureSpectrum, isotropic, of_kernel
from tests.helpers import run_of, solve_rows
from tests.theory.simulation import erf_features

RIDGES = (0, 1e-6, 1e-3, 1e-1)
REFERENCE = {  # activation, psi1: excess test | train at the ridges of Mei & Montanari; psi2 = 2, noise variance 0.25
    ("relu", 0.5): ((0.983304, 0.983302, 0.981211, 0.872646), (0.693734, 0.693734, 0.693738, 0.712622)),
    ("relu", 1.0): ((1.145812, 1.145785, 1.119671, 0.701142), (0.348953, 0.348953, 0.349046, 0.449279)),
    ("relu", 1.8): ((4.810113, 4.799561, 2.125343, 0.539775), (0.050601, 0.050601, 0.060379, 0.294453)),
    ("relu", 2.0): ((math.inf, 65.129399, 2.167214, 0.515405), (0, 0.000879, 0.027775, 0.275376)),
    ("relu", 4.0): ((0.658525, 0.658477, 0.616563, 0.398733), (0, 0, 0.000560, 0.195620)),
    ("tanh", 0.5): ((0.828615, 0.828613, 0.826580, 0.743507), (0.606721, 0.606721, 0.606728, 0.633095)),
    ("tanh", 1.0): ((0.727078, 0.727044, 0.696825, 0.502721), (0.244269, 0.244269, 0.244562, 0.373102)),
    ("tanh", 1.8): ((3.034007, 3.015246, 0.876835, 0.356480), (0.032840, 0.032840, 0.048685, 0.255753)),
    ("tanh", 2.0): ((math.inf, 25.337360, 0.859898, 0.339022), (0, 0.000984, 0.030662, 0.243035)),
    ("tanh", 4.0): ((0.516902, 0.516778, 0.430163, 0.267018), (0, 0, 0.002846, 0.192901)),
}


def mei_montanari(psi1: float, psi2: float, ridge: float, activation: str, linear: float, noise: float) -> float:
    """Excess risk by the polynomials of Mei & Montanari, arXiv 1908.05355; Newton from a large ridge."""
    mu1, star = math.sqrt(coefficients(activation).power[1]), math.sqrt(coefficients(activation).rest)
    z2 = (mu1 / star) ** 2
    wanted = math.sqrt(psi1 * psi2 * ridge) / star
    nu1, nu2 = 0j, 0j
    for height in np.geomspace(1e3, wanted, 400):
        xi = 1j * height
        if nu1 == 0:
            nu1, nu2 = -psi1 / xi, -psi2 / xi
        for _ in range(60):
            # two equations nu_i (xi + nu_j + z2 nu_j/(1 - z2 nu1 nu2)) + psi_i = 0
            rest = 1 - z2 * nu1 * nu2
            both = nu1 * nu2 * (1 + z2 / rest)
            value = np.array([nu1 * xi + both + psi1, nu2 * xi + both + psi2])
            slope = 1 + z2 / rest + nu1 * nu2 * z2**2 / rest**2
            jacobian = np.array([[xi + nu2 * slope, nu1 * slope], [nu2 * slope, xi + nu1 * slope]])
            step = np.linalg.solve(jacobian, value)
            nu1, nu2 = nu1 - step[0], nu2 - step[1]
            if abs(step).max() < 1e-16 * abs(nu1):
                break
    c = (nu1 * nu2).real
    p1, p2, z4, z6 = psi1, psi2, z2**2, z2**3
    e0 = (
        -(c**5) * z6 + 3 * c**4 * z4 + (p1 * p2 - p2 - p1 + 1) * c**3 * z6 - 2 * c**3 * z4 - 3 * c**3 * z2
        + (p1 + p2 - 3 * p1 * p2 + 1) * c**2 * z4 + 2 * c**2 * z2 + c**2 + 3 * p1 * p2 * c * z2 - p1 * p2
    )  # fmt: skip
    e1 = p2 * c**3 * z4 - p2 * c**2 * z2 + p1 * p2 * c * z2 - p1 * p2
    e2 = (
        c**5 * z6 - 3 * c**4 * z4 + (p1 - 1) * c**3 * z6 + 2 * c**3 * z4 + 3 * c**3 * z2
        + (-p1 - 1) * c**2 * z4 - 2 * c**2 * z2 - c**2
    )  # fmt: skip
    return linear * e1 / e0 + noise * e2 / e0


def risk_of(activation: str, psi1: float, ridge: float, target: tuple[float, ...] = (1.0,)) -> Risk:
    """The theory at psi2 = 2; ``ridge`` as Mei & Montanari have it."""
    d, n = 100, 200
    spectrum = isotropic(coefficients(activation), d, target, centred=True)
    return ridge_risk(spectrum, n, round(psi1 * d), n * ridge / d, 0.25)


@pytest.mark.parametrize(("activation", "psi1"), REFERENCE)
def test_ridge_has_its_reference_values(activation: str, psi1: float) -> None:
    test, train = REFERENCE[activation, psi1]
    risks = [risk_of(activation, psi1, ridge) for ridge in RIDGES]
    np.testing.assert_allclose([r.excess for r in risks], test, atol=6e-7)
    np.testing.assert_allclose([r.train for r in risks], train, atol=6e-7)
    assert all(r.total == r.excess + 0.25 for r in risks)


@pytest.mark.parametrize("ridge", [1e-6, 1e-4, 1e-1])
@pytest.mark.parametrize("psi1", [0.5, 1, 2, 2.2, 3, 10])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_risk_is_that_of_mei_and_montanari(activation: str, psi1: float, ridge: float) -> None:
    expected = mei_montanari(psi1, 2.0, ridge, activation, 1.0, 0.25)
    assert risk_of(activation, psi1, ridge).excess == pytest.approx(expected, rel=1e-12)


def test_a_nonlinear_part_acts_as_noise_and_stays() -> None:
    # Mei & Montanari: R = F1² E1/E0 + (noise + F*²) E2/E0 + F*²
    expected = mei_montanari(3, 2.0, 1e-2, "tanh", 2.0, 0.25 + 0.7) + 0.7
    assert risk_of("tanh", 3, 1e-2, (2.0, 0.7)).excess == pytest.approx(expected, rel=1e-12)


def test_the_scale_of_features_does_not_matter_without_ridge() -> None:
    spectrum = isotropic(coefficients("relu"), 50)
    larger = replace(spectrum, eigenvalues=7 * spectrum.eigenvalues, tail=7 * spectrum.tail)
    for p in (40, 300):
        assert ridge_risk(larger, 100, p, 0.0, 0.1).excess == pytest.approx(
            ridge_risk(spectrum, 100, p, 0.0, 0.1).excess
        )


def test_features_of_few_directions_are_least_squares_in_them() -> None:
    # linear features of 30 inputs: ordinary least squares once p >= 30; what is not linear is noise
    spectrum = isotropic(coefficients("linear"), 30, (1.0, 0.5))
    got = ridge_risk(spectrum, 120, 80, 0.0, 0.25)
    assert ridgeless_nu(spectrum, 120, 80) == 0
    assert got.bias == pytest.approx(0.5 / (1 - 0.25))
    assert got.variance == pytest.approx(0.25 * 0.25 / 0.75)
    assert got.train == pytest.approx(0.75 * 0.75)
    nearly = ridge_risk(spectrum, 120, 80, 1e-10, 0.25)
    assert (nearly.bias, nearly.variance, nearly.train) == pytest.approx((got.bias, got.variance, got.train), rel=1e-6)


def test_higher_degrees_keep_the_power_of_features() -> None:
    for degree in (1, 2, 3, 5):
        spectrum = isotropic(coefficients("relu", degree), 20)
        assert spectrum.trace == pytest.approx(0.5)
    # harmonic polynomials of degree 2 in 20 variables
    spectrum = isotropic(coefficients("relu", 2), 20, (1.0, 0.3, 0.2))
    assert spectrum.multiplicity.tolist() == [1, 20, 209]
    assert spectrum.power.tolist() == [0, 1.0, 0.3]
    assert spectrum.tail_power == pytest.approx(0.2)


def test_quadratic_features_are_learned_from_as_many_samples_as_they_are() -> None:
    # dd at 12 inputs, 77 harmonic polynomials of degree 2: samples and features outnumber them
    run = run_of("data=hermite_teacher", "data.dim=12", "data.n_train=400", "data.c1=0.6", "data.c2=0.8",
                 "data.inputs=sphere", "data.noise=0.3", "model.weights=sphere", "optimizer=min_norm",
                 "width=1500")  # fmt: skip
    rows = solve_rows(*(run.replace(seed=seed, data_seed=seed) for seed in range(6)))
    measured = np.mean([row["test_loss"] for row in rows])
    resolved, plain = (
        ridge_risk(isotropic(coefficients("relu", degree), 12, (0.36, 0.64)), 400, 1500, 0.0, 0.09).excess
        for degree in (4, 1)
    )
    assert measured == pytest.approx(resolved, rel=0.15)
    assert plain > 3 * resolved


@pytest.mark.parametrize(
    ("arguments", "words"), [((10, 5, -1.0), "lam=-1.0 must be >= 0"), ((30, 5), "n=30 must be < 30")]
)
def test_bad_numbers_are_refused(arguments: tuple[float, ...], words: str) -> None:
    spectrum = of_kernel(np.eye(30), np.ones((30, 1)))
    with pytest.raises(ValueError, match=words):
        ridge_risk(spectrum, *arguments)


def test_ridge_is_that_of_a_simulation() -> None:
    d, n, p, ridge = 200, 400, 200, 0.02
    spectrum = isotropic(coefficients("erf"), d)
    draws = [erf_features(d, n, p, seed)(lambda s: s / (s**2 + ridge)) for seed in range(4)]
    expected = ridge_risk(spectrum, n, p, ridge, 0.25)
    weights = np.array([1, 0.25, 0])
    assert np.mean([e.test @ weights for e in draws]) == pytest.approx(expected.excess, rel=0.01)
    assert np.mean([e.train @ weights for e in draws]) == pytest.approx(expected.train, rel=0.01)
    assert np.mean([e.test[0] for e in draws]) == pytest.approx(expected.bias, rel=0.01)
    assert np.mean([e.test[1] for e in draws]) * 0.25 == pytest.approx(expected.variance, rel=0.01)


def finite_population(
    size: int, n: int, p: int, ridge: float, seed: int, signal: float, noise: float
) -> tuple[float, float]:
    """Test and train errors where n of ``size`` samples are drawn without replacement, averaged over signs and noise.

    Kernel and features are Gaussian equivalents: random orthonormal eigenvectors, features of covariance K.
    """
    generator = np.random.default_rng(seed)
    values = decaying(size)
    vectors = np.linalg.qr(generator.standard_normal((size, size)))[0] * math.sqrt(size)
    features = vectors * np.sqrt(values) @ generator.standard_normal((size, p)) / math.sqrt(p)
    z, rest = features[:n], features[n:]
    u, s, vh = np.linalg.svd(z, full_matrices=False)
    hat = u @ ((s**2 / (s**2 + ridge))[:, None] * u.T)
    predict = rest @ (vh.T @ ((s / (s**2 + ridge))[:, None] * u.T))
    target = vectors * np.sqrt(signal * values / values.sum())  # one column a direction, of random sign
    test = np.sum((predict @ target[:n] - target[n:]) ** 2) + noise * np.sum(predict**2)
    train = np.sum((hat @ target[:n] - target[:n]) ** 2) + noise * np.sum((hat - np.eye(n)) ** 2)
    return test / (size - n), train / n


def decaying(size: int) -> np.ndarray:
    """Eigenvalues that fall as a power."""
    return 1 / np.arange(1.0, size + 1) ** 1.2


@pytest.mark.parametrize(("p", "ridge"), [(60, 0.0), (400, 0.0), (60, 0.05), (200, 0.05)])
def test_a_finite_population_is_drawn_without_replacement(p: int, ridge: float) -> None:
    size, n, noise = 400, 200, 0.3
    values = decaying(size)
    spectrum = FeatureSpectrum(values, np.ones(size), values / values.sum(), population=size)
    expected = ridge_risk(spectrum, n, p, ridge, noise)
    draws = [finite_population(size, n, p, ridge, seed, 1.0, noise) for seed in range(5)]
    assert np.mean([d[0] for d in draws]) == pytest.approx(expected.excess, rel=0.03)
    independent = ridge_risk(replace(spectrum, population=math.inf), n, p, ridge, noise)
    # far from what independent samples would have: the test can fail
    assert abs(independent.excess / expected.excess - 1) > 0.06
    if expected.train > 0:
        assert np.mean([d[1] for d in draws]) == pytest.approx(expected.train, rel=0.03)


@pytest.mark.parametrize(("p", "ridge"), [(60, 0.0), (300, 0.0), (60, 0.05), (200, 0.05)])
def test_new_targets_may_be_others_than_those_of_training(p: int, ridge: float) -> None:
    """Training targets f = 0.7 h, new ones h + 0.3 k, as with labels that noise has shrunk; no replacement."""
    size, n, noise = 400, 200, 0.1
    values = decaying(size)
    learned, new, extra = [], [], 0.3 / size
    for seed in range(6):
        generator = np.random.default_rng(seed)
        vectors = np.linalg.qr(generator.standard_normal((size, size)))[0] * math.sqrt(size)
        features = vectors * np.sqrt(values) @ generator.standard_normal((size, p)) / math.sqrt(p)
        u, s, vh = np.linalg.svd(features[:n], full_matrices=False)
        predict = features[n:] @ (vh.T @ ((s / (s**2 + ridge))[:, None] * u.T))
        old = 0.7 * vectors * np.sqrt(values / values.sum())  # one column a direction, of random sign
        other = old / 0.7 + vectors * math.sqrt(extra)
        gone = predict @ old[:n]
        variance = noise * np.sum(predict**2) / (size - n)
        learned.append(np.sum((gone - old[n:]) ** 2) / (size - n) + variance)
        new.append(np.sum((gone - other[n:]) ** 2) / (size - n) + variance)
    power = values / values.sum()
    plain = FeatureSpectrum(values, np.ones(size), 0.49 * power, population=size)
    # g = 0.3 h + 0.3 k, in each direction along f
    gap = 0.3 * np.sqrt(power) + math.sqrt(extra)
    spectrum = replace(plain, cross=0.7 * np.sqrt(power) * gap, apart=float(np.sum(gap**2)))
    before, got = ridge_risk(plain, n, p, ridge, noise), ridge_risk(spectrum, n, p, ridge, noise)
    assert np.mean(learned) == pytest.approx(before.excess, rel=0.03)
    assert np.mean(new) == pytest.approx(got.excess, rel=0.03)
    assert (got.variance, got.train) == (before.variance, before.train)
    assert abs(got.excess / before.excess - 1) > 0.15  # the test can fail
    independent = replace(spectrum, population=math.inf)
    late, limit = flow_risk(independent, n, p + 1, 1e16, noise), ridge_risk(independent, n, p + 1, 0.0, noise)
    assert late.excess == pytest.approx(limit.excess, rel=1e-6)
    assert flow_risk(spectrum, n, p, 1e-9).excess == pytest.approx(np.sum((0.7 * np.sqrt(power) + gap) ** 2), rel=1e-6)


@pytest.mark.parametrize("centred", [False, True])
def test_scaled_features_have_variance_one(centred: bool) -> None:
    plain = isotropic(coefficients("relu", 3), 50, centred=centred)
    scaled = isotropic(coefficients("relu", 3), 50, centred=centred, scaled=True)
    variance = 0.5 - 1 / (2 * math.pi)
    assert scaled.trace == pytest.approx(plain.trace / variance)
    assert ridge_risk(scaled, 100, 80, 0.1 / variance, 0.2).excess == pytest.approx(
        ridge_risk(plain, 100, 80, 0.1, 0.2).excess
    )


def test_without_ridge_a_finite_population_is_one_factor() -> None:
    size, n = 500, 200
    values = decaying(size)
    spectrum = FeatureSpectrum(values, np.ones(size), values, population=size)
    for p in (50, 150, 300, 2000):
        got = ridge_risk(spectrum, n, p)
        independent = ridge_risk(replace(spectrum, population=math.inf), n, p)
        assert got.excess == pytest.approx(independent.excess / (1 - min(n, p) / size))
        assert got.train == pytest.approx(independent.train / (1 - min(n, p) / size))


TEACHER = ("data=linear_teacher", "data.dim=100", "data.n_train=120", "data.n_test=1000", "model.weights=sphere")


@pytest.mark.parametrize(("optimizer", "penalty"), [("min_norm", 0.0), ("ridge", 20.0)])
@pytest.mark.parametrize("width", [50, 240])
def test_dd_measures_what_the_theory_says(optimizer: str, penalty: float, width: int) -> None:
    chosen = ("optimizer=min_norm",) if penalty == 0 else ("optimizer=ridge", f"optimizer.penalty={penalty}")
    run = run_of(*TEACHER, *chosen, f"width={width}", "model.activation=tanh")
    rows = solve_rows(*(run.replace(seed=seed, data_seed=seed) for seed in range(30)))
    expected = ridge_risk(isotropic(coefficients("tanh"), 100), 120, width, units.ridge(penalty, width), 0.25)
    for column, value in (("test_loss", expected.excess), ("train_loss", expected.train)):
        measured = np.array([row[column] for row in rows])
        error = measured.std() / math.sqrt(len(rows))
        # three standard errors, and 2 % for d = 100
        assert abs(measured.mean() - units.mean_loss(value, 1)) < 3 * error + 0.02 * value + 1e-20
        assert error < 0.06 * value + 1e-20
