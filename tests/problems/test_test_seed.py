"""data.test_seed (dd.problems.problem): training sets are redrawn while the test set stays."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from dd.components.dataset import Pool
from dd.data.cifar10 import CIFAR10
from dd.problems.problem import Problem, load
from dd.runs.settings import Settings
from dd.samples.stamps import look_again
from tests.helpers import run_of

RAW = ("data.standardize=none", "batch_size=full")
SETS = {
    "digits": ("data=digits", "data.n_train=90", "data.n_test=300", *RAW),
    "diabetes": ("data=diabetes", "data.n_train=90", "data.n_test=300", *RAW),
    "cifar10": ("data=cifar10", "data.n_train=90", "data.n_test=300", *RAW),
    "linear_teacher": ("data=linear_teacher", "data.n_train=90", "data.n_test=300", *RAW),
    "hermite_teacher": ("data=hermite_teacher", "data.n_train=90", "data.n_test=300", *RAW),
}


def problem(*overrides: str) -> Problem:
    return load(run_of(*overrides), Settings())


def rows(x: object) -> set[bytes]:
    return {row.tobytes() for row in np.asarray(x)}


@pytest.fixture
def _small_cifar10(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for the sets with a test part of their own, all of which are files."""
    generator = np.random.default_rng(0)
    x, y = generator.random((900, 5)), generator.integers(0, 10, 900)
    pool = Pool(x[:500], y[:500], x[500:], y[500:], "made up", published=True)
    monkeypatch.setattr(CIFAR10, "pool", lambda *_: pool)
    monkeypatch.setattr(CIFAR10, "files", lambda *_: [])
    look_again()


@pytest.mark.usefixtures("_small_cifar10")
@pytest.mark.parametrize("data", SETS)
def test_the_test_set_stays_and_training_sets_are_redrawn(data: str) -> None:
    own = problem(*SETS[data], "data.seed=7")
    drawn = [problem(*SETS[data], "data.test_seed=7", f"data.seed={seed}") for seed in (0, 1, 7)]
    for p in drawn:
        assert np.array_equal(p.test_x, own.test_x)
        assert np.array_equal(p.test_y, own.test_y)
        assert not rows(p.train_x) & rows(p.test_x)
    assert rows(drawn[0].train_x) != rows(drawn[1].train_x)
    assert np.array_equal(drawn[2].train_x, own.train_x)
    assert np.array_equal(drawn[2].train_y, own.train_y)


def test_training_sets_on_one_test_set_are_nested_and_balanced() -> None:
    base = ("data=digits", "data.n_test=300", "data.test_seed=7", "data.seed=3", *RAW)
    small, large = (problem(*base, f"data.n_train={n}") for n in (50, 1497))
    assert np.array_equal(small.train_x, large.train_x[:50])
    assert np.array_equal(small.train_y.sum(0), np.full(10, 5))
    assert len(large.train_x) + len(large.test_x) == 1797


def test_label_noise_is_redrawn_with_the_training_set() -> None:
    base = ("data=digits", "data.n_test=300", "data.test_seed=7", "data.label_noise=0.5", *RAW)
    first, second = (problem(*base, f"data.seed={seed}") for seed in (0, 1))
    assert np.array_equal(first.test_y, second.test_y)
    assert not np.array_equal(first.train_y, second.train_y)


def test_a_teacher_keeps_its_direction_and_redraws_noise() -> None:
    base = ("data=linear_teacher", "data.n_train=200", "data.noise=0.3", "data.test_seed=5", *RAW)
    found = []
    for seed in (0, 1):
        p = problem(*base, f"data.seed={seed}")
        direction = np.linalg.lstsq(p.test_x.numpy(), p.test_y.numpy(), rcond=None)[0]
        found.append((direction, p.train_y.numpy() - p.train_x.numpy() @ direction))
    np.testing.assert_allclose(found[0][0], found[1][0], atol=1e-12)
    for _, noise in found:
        assert noise.std() == pytest.approx(0.3, rel=0.15)
    assert abs(np.corrcoef(found[0][1][:, 0], found[1][1][:, 0])[0, 1]) < 0.25


def test_the_data_seed_named_twice_is_the_same_run() -> None:
    assert run_of("data.test_seed=0") == run_of()
    assert run_of("data.seed=4", "data.test_seed=4").run_id == run_of("data.seed=4").run_id
    assert run_of("data.seed=4", "data.test_seed=0").run_id != run_of("data.seed=4").run_id
    assert run_of("data.seed=4", "data.test_seed=0").data_key != run_of("data.seed=4").data_key


@pytest.mark.parametrize(
    ("data", "digest"),
    [("digits", "53e90c3c3bc505db"), ("linear_teacher", "28bd1fa793030330"), ("hermite_teacher", "df61ba2f603fdf0a")],
)
def test_data_at_the_default_are_what_they_were(data: str, digest: str) -> None:
    """Digests taken before there was a test seed; standardised inputs, noisy targets and a test set."""
    noise = ("data.label_noise=0.2",) if data == "digits" else ()
    p = problem(f"data={data}", "data.n_train=90", "data.n_test=70", "data.seed=3", "batch_size=full", *noise)
    content = hashlib.sha256()
    for part in (p.train_x, p.train_y, p.test_x, p.test_y):
        content.update((np.round(part.numpy(), 9) + 0.0).astype("<f8").tobytes())
    assert content.hexdigest()[:16] == digest
