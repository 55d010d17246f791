"""What runs say about the test set: the tables ``predictions`` and ``targets``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dd.arrow import lists, numbers, strings

PREDICTIONS_SCHEMA = pa.schema(
    [("run_id", pa.string()), ("targets_id", pa.string()), ("outputs", pa.list_(pa.float32()))]
)
"""Schema of ``predictions``: one row a run."""

TARGETS_SCHEMA = pa.schema(
    [("targets_id", pa.string()), ("n_test", pa.int64()), ("outputs", pa.int64()), ("targets", pa.list_(pa.float64()))]
)
"""Schema of ``targets``: one row, and one part, a test set."""


@dataclass(frozen=True)
class Prediction:
    """Test outputs of one run.

    Attributes:
        run_id: the run.
        outputs: [n_test, outputs], float32.
        targets_id: digest of the targets (``Problem.targets_id``).
        targets: what the outputs should be, without noise, [n_test, outputs], float64.
    """

    run_id: str
    outputs: NDArray[np.float32]
    targets_id: str
    targets: NDArray[np.float64]


def predictions_table(predictions: Sequence[Prediction]) -> pa.Table:
    """Rows of ``predictions``; outputs are flattened sample by sample."""
    columns = [
        strings([p.run_id for p in predictions]),
        strings([p.targets_id for p in predictions]),
        lists([p.outputs for p in predictions], pa.float32()),
    ]
    return pa.Table.from_arrays(columns, schema=PREDICTIONS_SCHEMA)


def targets_tables(predictions: Sequence[Prediction]) -> dict[str, pa.Table]:
    """The row of ``targets`` of each distinct test set, by its ``targets_id``."""
    distinct = {p.targets_id: p.targets for p in predictions}
    return {
        targets_id: pa.Table.from_arrays(
            [
                strings([targets_id]),
                *(numbers(np.array([size]), pa.int64()) for size in targets.shape),
                lists([targets], pa.float64()),
            ],
            schema=TARGETS_SCHEMA,
        )
        for targets_id, targets in distinct.items()
    }
