"""The blocked products against NumPy, for every remainder of their blocks."""

from __future__ import annotations

import numpy as np
import pytest

from dd.kernels.products import dots, outer_sums

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [1, 17, 512, 513, 1200])
@pytest.mark.parametrize(("batch", "units"), [(1, 1), (2, 5), (5, 4), (6, 6), (7, 11), (50, 10)])
def test_products_are_numpys(batch: int, units: int, columns: int, dtype: type) -> None:
    x = GENERATOR.standard_normal((60, columns + 2)).astype(dtype)
    w = GENERATOR.standard_normal((units, columns + 3)).astype(dtype)
    rows = GENERATOR.permutation(60)[:batch]
    tolerance = 1e-3 if dtype is np.float32 else 1e-11
    out = np.ones((batch, units + 1), dtype)
    dots(x, rows, w, columns, out)
    np.testing.assert_allclose(
        out[:, :units], 1 + x[rows][:, :columns] @ w[:, :columns].T, rtol=tolerance, atol=tolerance
    )
    assert np.all(out[:, units] == 1), "columns beyond the units are left alone"
    sums = np.full((units, columns + 1), 7, dtype)
    outer_sums(out, x, rows, columns, sums)
    np.testing.assert_allclose(
        sums[:, :columns], out[:, :units].T @ x[rows][:, :columns], rtol=tolerance, atol=10 * tolerance
    )
    assert np.all(sums[:, columns] == 7)
