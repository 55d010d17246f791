"""Disease progression of 442 diabetes patients after a year, from ten measurements (Efron et al. 2004)."""

from __future__ import annotations

from dataclasses import dataclass

from dd.components.dataset import Dataset, Pool
from dd.data._bundled import bundled_table
from dd.runs.run import Run
from dd.runs.settings import Settings

TABLES = (
    ("diabetes_data_raw.csv.gz", "86badf50b4f9436ddd1e497dc0ae1b93166f8120221ee7dca4634fe849f3be7c"),
    ("diabetes_target.csv.gz", "244713a551f62a291a354212d8a048adec6cb1244b2bc44e66a0698f5006d26d"),
)
"""Files of scikit-learn, and the digests of their decompressed text."""


@dataclass(frozen=True)
class Diabetes(Dataset):
    """442 samples of ten inputs and one real target; train and test are cut from them.

    Inputs and target have zero mean and unit variance over the whole set: the inputs of
    ``sklearn.datasets.load_diabetes`` times the square root of 442.
    """

    classification = False
    outputs = 1
    train_samples = 442
    pool_axes = ()

    @property
    def input_count(self) -> int:
        """Age, sex, body-mass index, blood pressure and six blood serum measurements."""
        return 10

    def pool(self, run: Run, settings: Settings) -> Pool:
        """Read and standardise the two tables."""
        (x, known_x), (y, known_y) = (bundled_table("diabetes", name, sha256) for name, sha256 in TABLES)
        return Pool(
            x=(x - x.mean(axis=0)) / x.std(axis=0),
            y=((y - y.mean()) / y.std())[:, None],
            test_x=None,
            test_y=None,
            source="scikit-learn",
            published=known_x and known_y,
        )
