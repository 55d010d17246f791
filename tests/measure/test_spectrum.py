"""Singular values, numerical rank and condition numbers against NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dd.measure.spectrum import SMALL, extremes, spectrum


def test_spectrum_of_random_and_deficient_matrices() -> None:
    matrix = torch.randn(30, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert spectrum(matrix).condition == pytest.approx(np.linalg.cond(matrix.numpy()), rel=1e-12)
    deficient = torch.cat([matrix, matrix[:, :5], torch.zeros(30, 3)], dim=1)
    found = spectrum(deficient)
    s = np.linalg.svd(deficient.numpy(), compute_uv=False)
    assert found.rank == np.linalg.matrix_rank(deficient.numpy()) == 20
    assert found.sigma_min == pytest.approx(s[19])
    zero = spectrum(torch.zeros(4, 3))
    assert zero.rank == 0
    assert zero.condition == math.inf


@pytest.mark.parametrize("shape", [(SMALL - 20, 50), (150, 130), (130, 150), (2 * SMALL, 2 * SMALL)])
def test_extremes_are_those_of_the_whole_spectrum(shape: tuple[int, int]) -> None:
    """Large ones by Lanczos; rows and columns of zeros do not count."""
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    padded = torch.zeros(shape[0] + 3, shape[1] + 2, dtype=torch.float64)
    padded[: shape[0], 2:] = matrix
    whole = spectrum(padded)
    found = extremes(padded)
    assert found.rank == whole.rank == min(shape)
    assert found.sigma_max == pytest.approx(whole.sigma_max, rel=1e-10)
    assert found.sigma_min == pytest.approx(whole.sigma_min, rel=1e-8)


def test_extremes_of_a_matrix_in_doubt_are_found_in_full() -> None:
    """Nearly singular beyond what Lanczos on the inverse can tell."""
    matrix = torch.randn(150, 130, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    matrix[:, 0] = matrix[:, 1] + 1e-13 * matrix[:, 2]
    whole, found = spectrum(matrix), extremes(matrix)
    assert found.rank == whole.rank
    assert len(found.values) == found.rank, "all values are there"
    matrix[:, 0] = matrix[:, 1]
    assert extremes(matrix).rank == spectrum(matrix).rank == 129
    assert extremes(torch.zeros(150, 130)).rank == 0


def test_entries_that_are_not_finite_have_no_spectrum() -> None:
    with pytest.raises(torch.linalg.LinAlgError, match="not finite"):
        spectrum(torch.tensor([[1.0, math.inf]]))
