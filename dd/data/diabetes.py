"""Disease progression of 442 diabetes patients after a year, from ten measurements (Efron et al. 2004)."""

from __future__ import annotations

import hashlib

import numpy as np

from dd.config import RunConfig, Settings
from dd.data._base import Dataset, Pool
from dd.data._scikit_learn import bundled_table


class Diabetes(Dataset):
    """442 samples of ten inputs and one real target; train and test are cut from them.

    Inputs and target have zero mean and unit variance over the whole set: the inputs of
    ``sklearn.datasets.load_diabetes`` times the square root of 442.
    """

    classification = False
    outputs = 1
    train_samples = 442

    def inputs(self, run: RunConfig) -> int:
        """Age, sex, body-mass index, blood pressure and six blood serum measurements."""
        return 10

    def pool(self, run: RunConfig, settings: Settings) -> Pool:
        """Read and standardise the two tables."""
        x = bundled_table("diabetes", "diabetes_data_raw.csv.gz")
        y = bundled_table("diabetes", "diabetes_target.csv.gz")
        return Pool(
            x=(x - x.mean(axis=0)) / x.std(axis=0),
            y=((y - y.mean()) / y.std())[:, None],
            test_x=None,
            test_y=None,
            source="scikit-learn",
            sha256=hashlib.sha256(np.column_stack([x, y]).astype("<f8").tobytes()).hexdigest(),
        )
