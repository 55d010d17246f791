"""Single-index teacher y = sum_k c_k He_k(<u, x>)/sqrt(k!) + noise, k = 1, 2, 3 (the Mei-Montanari set-up)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dd.axis import Axis
from dd.config import RunConfig
from dd.data._teacher import DIMENSION, INPUTS, NOISE, Teacher


class HermiteTeacher(Teacher):
    """Normalised Hermite polynomials of one direction; for Gaussian inputs the target's power is c1²+c2²+c3²."""

    options = (
        DIMENSION,
        NOISE,
        INPUTS,
        Axis("c1", float, 0.8, "weight of the linear part"),
        Axis("c2", float, 0.6, "weight of the quadratic part"),
        Axis("c3", float, 0.0, "weight of the cubic part"),
    )

    def target(self, x: NDArray[np.float64], direction: NDArray[np.float64], run: RunConfig) -> NDArray[np.float64]:
        """Sum of the three normalised Hermite polynomials."""
        options = run.group_options("data")
        t = x @ direction
        return options["c1"] * t + options["c2"] * (t**2 - 1) / np.sqrt(2) + options["c3"] * (t**3 - 3 * t) / np.sqrt(6)
