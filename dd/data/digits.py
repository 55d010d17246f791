"""Handwritten digits, 8x8, ten classes: the UCI test part that ships inside scikit-learn."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
from pathlib import Path

import numpy as np

from dd.config import RunConfig, Settings
from dd.data._base import Dataset, Pool
from dd.errors import DataNotFoundError

FILE = Path("datasets", "data", "digits.csv.gz")


class Digits(Dataset):
    """1797 samples of 64 pixels with values 0...16; train and test are cut from them."""

    train_samples = 1797

    def inputs(self, run: RunConfig) -> int:
        """64 pixels."""
        return 64

    def pool(self, run: RunConfig, settings: Settings) -> Pool:
        """Read the file directly: importing scikit-learn costs more than a short run."""
        spec = importlib.util.find_spec("sklearn")
        if spec is None or not spec.submodule_search_locations:
            raise DataNotFoundError("data", "digits", "needs scikit-learn: pip install scikit-learn")
        path = Path(spec.submodule_search_locations[0]) / FILE
        with gzip.open(path, "rt") as file:
            table = np.loadtxt(file, delimiter=",")
        x = np.ascontiguousarray(table[:, :-1])
        return Pool(
            x=x,
            y=table[:, -1].astype(np.int64),
            test_x=None,
            test_y=None,
            source="scikit-learn",
            sha256=hashlib.sha256(x.astype("<f8").tobytes()).hexdigest(),
        )
