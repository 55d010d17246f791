"""Split, label noise, standardisation.

Covers: dd/components/dataset.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler

from dd.components.model import with_ones
from dd.problems import problem as problem_module
from dd.problems.problem import load, noisy_labels, split, standardize
from dd.runs.settings import Settings
from tests.helpers import run_of

LABELS = load_digits().target


def test_split_is_balanced_disjoint_and_seeded() -> None:
    train, test = split(LABELS, 500, 1000, seed=0)
    assert np.array_equal(np.bincount(LABELS[train]), np.full(10, 50))
    assert np.array_equal(np.bincount(LABELS[test]), np.full(10, 100))
    assert not set(train) & set(test)
    again, _ = split(LABELS, 500, 1000, seed=0)
    assert np.array_equal(train, again)
    assert set(split(LABELS, 500, 1000, seed=1)[0]) != set(train)


def test_training_sets_are_nested_and_test_set_stays() -> None:
    small, test_small = split(LABELS, 123, 1000, seed=3)
    large, test_large = split(LABELS, 700, 1000, seed=3)
    assert np.array_equal(small, large[:123])
    assert np.array_equal(test_small, test_large)
    assert np.ptp(np.bincount(LABELS[small], minlength=10)) <= 1


def test_split_uses_every_sample_at_the_limit() -> None:
    train, test = split(LABELS, 797, 1000, seed=0)
    assert len(set(train) | set(test)) == 1797


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 1.0])
def test_noise_replaces_the_exact_share_by_other_classes(share: float) -> None:
    clean = LABELS[:500].astype(np.int64)
    noisy = noisy_labels(clean, 10, share, "other", seed=0)
    assert np.sum(noisy != clean) == round(share * 500)
    assert noisy.min() >= 0
    assert noisy.max() <= 9


def test_noise_over_all_classes_keeps_a_tenth_of_the_redrawn() -> None:
    clean = np.zeros(20_000, dtype=np.int64)
    noisy = noisy_labels(clean, 10, 0.5, "all", seed=0)
    assert np.mean(noisy != clean) == pytest.approx(0.5 * 0.9, abs=0.01)
    assert np.bincount(noisy[:10_000], minlength=10)[1:].std() < 60


def test_more_noise_keeps_the_noise_there_was() -> None:
    clean = LABELS[:500].astype(np.int64)
    little, much = (noisy_labels(clean, 10, q, "other", seed=5) for q in (0.1, 0.3))
    changed = little != clean
    assert np.array_equal(little[changed], much[changed])


def test_samples_held_out_are_balanced_disjoint_nested_and_noisy() -> None:
    line = ("data.label_noise=0.3", "data.standardize=none")
    whole = load(run_of(*line, "data.n_train=400"), Settings())
    for held in (40, 80):
        cut = load(run_of(*line, f"data.n_train={400 - held}", f"data.n_validation={held}"), Settings())
        assert cut.validation_x is not None
        assert cut.validation_y is not None
        assert cut.noisy is not None
        assert whole.noisy is not None
        assert torch.equal(torch.cat([cut.validation_x, cut.train_x]), whole.train_x)
        assert torch.equal(torch.cat([cut.validation_y, cut.train_y]), whole.train_y)
        assert torch.equal(cut.noisy, whole.noisy[held:])
        assert torch.equal(cut.test_x, whole.test_x)
        clean = load(run_of("data.n_train=400"), Settings()).train_y[:held].sum(dim=0)
        assert clean.tolist() == [held / 10] * 10


@pytest.mark.parametrize("kind", ["global", "feature", "sphere"])
def test_samples_held_out_are_standardised_by_those_trained_on(kind: str) -> None:
    cut = load(run_of(f"data.standardize={kind}", "validation=0.2"), Settings())
    raw = load(run_of("data.standardize=none", "validation=0.2"), Settings())
    assert raw.validation_x is not None
    expected = standardize(raw.train_x.numpy().copy(), raw.validation_x.numpy().copy(), kind)[1]
    assert torch.equal(cut.validation_x, torch.from_numpy(expected))  # type: ignore[arg-type]


def test_teachers_draw_samples_held_out_with_their_noise() -> None:
    whole, cut = (load(run_of("data=linear_teacher", *line), Settings()) for line in ((), ("validation=0.1",)))
    assert cut.validation_y is not None
    assert torch.equal(torch.cat([cut.validation_y, cut.train_y]), whole.train_y)
    assert torch.equal(cut.test_y, whole.test_y)


def test_linear_targets_are_those_of_all_samples() -> None:
    line = ("data.targets=linear", "data.standardize=none")
    whole, cut = (load(run_of(*line, *more), Settings()) for more in ((), ("validation=0.1",)))
    assert cut.validation_y is not None
    torch.testing.assert_close(torch.cat([cut.validation_y, cut.train_y]), whole.train_y, rtol=1e-9, atol=1e-11)


def test_test_labels_stay_clean() -> None:
    noisy = load(run_of("data.label_noise=1"), Settings())
    clean = load(run_of(), Settings())
    assert np.array_equal(noisy.test_y, clean.test_y)
    assert np.array_equal(noisy.train_x, clean.train_x)
    assert not np.any(noisy.train_y.argmax(1).numpy() == clean.train_y.argmax(1).numpy())


def test_standardize_feature_is_scikit_learns() -> None:
    x = load_digits().data
    ours = standardize(x[:500].copy(), x[500:].copy(), "feature")
    scaler = StandardScaler().fit(x[:500])
    varying = x[:500].std(axis=0) > 0
    assert not varying.all(), "digits have constant pixels"
    for mine, theirs in zip(ours, (x[:500], x[500:]), strict=True):
        np.testing.assert_allclose(mine[:, varying], scaler.transform(theirs)[:, varying], atol=1e-12)
        assert np.all(mine[:, ~varying] == 0)


def test_standardize_sphere_and_global() -> None:
    x = load_digits().data
    train, test = standardize(x[:500].copy(), x[500:].copy(), "sphere")
    for part in (train, test):
        np.testing.assert_allclose(np.linalg.norm(part, axis=1), 8.0, rtol=1e-12)
    centred = x[:500] - x[:500].mean(axis=0)
    cosine = np.sum(train * centred, axis=1) / 8 / np.linalg.norm(centred, axis=1)
    np.testing.assert_allclose(cosine, 1.0, rtol=1e-12)
    raw = x[:500].copy()
    raw[0, 0] = 0.0
    train, _, zero = standardize(raw.copy(), x[500:].copy(), "global", np.zeros((1, x.shape[1])))
    assert zero[0, 0] == train[0, 0], "further samples are standardised by the training set, too"
    assert train.mean() == pytest.approx(0, abs=1e-12)
    assert train.std() == pytest.approx(1)


def test_large_inputs_have_their_column_of_ones_behind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of("data.n_train=50", "data.n_test=20")
    small = problem_module._build(run, Settings())
    monkeypatch.setattr(problem_module, "LARGE", 0)
    large = problem_module._build(run, Settings())
    for name in ("train_x", "test_x"):
        x, plain = getattr(large, name), getattr(small, name)
        assert torch.equal(x, plain)
        wide = with_ones(x)
        assert wide.data_ptr() == x.data_ptr(), "no copy"
        assert torch.equal(wide, torch.cat([plain, torch.ones(len(plain), 1).double()], dim=1))
        assert with_ones(plain).data_ptr() != plain.data_ptr()
    other = torch.arange(12.0).view(3, 4)[:, :-1]
    assert torch.equal(with_ones(other), torch.cat([other, torch.ones(3, 1)], dim=1)), "what lies behind is no ones"
