"""What stands for 1/s in least squares (``min_norm``, ``ridge``, ``truncated_svd``), against NumPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from dd.components.optimizer import ClosedForm
from dd.runs.registry import kind, names

GENERATOR = np.random.default_rng(0)
DESIGN, TARGETS = GENERATOR.standard_normal((30, 12)), GENERATOR.standard_normal((30, 2))


def solution(name: str, **options: float) -> np.ndarray:
    rule = kind("optimizer", name)(**options)
    assert isinstance(rule, ClosedForm)
    u, s, vh = np.linalg.svd(DESIGN, full_matrices=False)
    return vh.T @ (rule.inverse(torch.tensor(s)).numpy()[:, None] * (u.T @ TARGETS))


def test_every_closed_form_is_compared() -> None:
    found = {n for n in names("optimizer") if issubclass(kind("optimizer", n), ClosedForm)}
    assert found == {"min_norm", "ridge", "truncated_svd"}


def test_min_norm_is_lstsq() -> None:
    np.testing.assert_allclose(solution("min_norm"), np.linalg.lstsq(DESIGN, TARGETS, rcond=None)[0], rtol=1e-10)


@pytest.mark.parametrize("penalty", [0.0, 1e-3, 10.0])
def test_ridge_is_scikit_learns(penalty: float) -> None:
    theirs = Ridge(alpha=penalty, fit_intercept=False, solver="svd").fit(DESIGN, TARGETS).coef_.T
    np.testing.assert_allclose(solution("ridge", penalty=penalty), theirs, rtol=1e-10)
    assert kind("optimizer", "ridge")(penalty=penalty).shrinkage == penalty


def test_truncated_svd_drops_by_share_and_by_rank() -> None:
    s = np.linalg.svd(DESIGN, compute_uv=False)
    half = np.linalg.pinv(DESIGN, rcond=0.5) @ TARGETS
    np.testing.assert_allclose(solution("truncated_svd", cutoff=0.5), half, rtol=1e-10)
    np.testing.assert_allclose(solution("truncated_svd", rank=int((s > 0.5 * s[0]).sum())), half, rtol=1e-10)
    np.testing.assert_allclose(solution("truncated_svd"), solution("min_norm"), rtol=1e-10)
    assert not solution("truncated_svd", rank=0).any()
