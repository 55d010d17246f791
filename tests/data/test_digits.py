"""The digits against scikit-learn's own loader."""

from __future__ import annotations

import hashlib

import numpy as np
from sklearn.datasets import load_digits

from dd.data.digits import Digits
from dd.problems.pools import former_digest
from dd.runs.settings import Settings
from tests.helpers import run_of


def test_digits_are_those_of_scikit_learn() -> None:
    pool = Digits().pool(run_of(), Settings())
    reference = load_digits()
    assert np.array_equal(pool.x, reference.data)
    assert np.array_equal(pool.y, reference.target)
    assert pool.published
    digest = hashlib.sha256(reference.data.astype("<f8").tobytes()).hexdigest()
    assert former_digest("digits", pool) == digest == "20def7f70a702f0af9732fbba4375e147a7d54fe70d8c45569b8e7c1c7010c10"
