"""Handwritten digits, 8x8, ten classes: the UCI test part that ships inside scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dd.components.dataset import Dataset, Pool
from dd.data._bundled import bundled_table
from dd.runs.run import Run
from dd.runs.settings import Settings

SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
"""Of the decompressed table."""


@dataclass(frozen=True)
class Digits(Dataset):
    """1797 samples of 64 pixels with values 0...16; train and test are cut from them."""

    train_samples = 1797
    pool_axes = ()

    @property
    def input_count(self) -> int:
        """64 pixels."""
        return 64

    @property
    def image(self) -> tuple[int, int, int]:
        """See :attr:`Dataset.image`."""
        return (1, 8, 8)

    def pool(self, run: Run, settings: Settings) -> Pool:
        """Read the table, pixels first, the digit last."""
        table, published = bundled_table("digits", "digits.csv.gz", SHA256, delimiter=",")
        return Pool(
            x=np.ascontiguousarray(table[:, :-1]),
            y=table[:, -1].astype(np.int64),
            test_x=None,
            test_y=None,
            source="scikit-learn",
            published=published,
        )
