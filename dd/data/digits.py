"""Handwritten digits, 8x8, ten classes: the UCI test part that ships inside scikit-learn."""

from __future__ import annotations

import hashlib

import numpy as np

from dd.config import RunConfig, Settings
from dd.data._base import Dataset, Pool
from dd.data._scikit_learn import bundled_table


class Digits(Dataset):
    """1797 samples of 64 pixels with values 0...16; train and test are cut from them."""

    train_samples = 1797

    def inputs(self, run: RunConfig) -> int:
        """64 pixels."""
        return 64

    def image(self, run: RunConfig) -> tuple[int, int, int]:
        """See :meth:`Dataset.image`."""
        return (1, 8, 8)

    def pool(self, run: RunConfig, settings: Settings) -> Pool:
        """Read the table, pixels first, the digit last."""
        table = bundled_table("digits", "digits.csv.gz", delimiter=",")
        x = np.ascontiguousarray(table[:, :-1])
        return Pool(
            x=x,
            y=table[:, -1].astype(np.int64),
            test_x=None,
            test_y=None,
            source="scikit-learn",
            sha256=hashlib.sha256(x.astype("<f8").tobytes()).hexdigest(),
        )
