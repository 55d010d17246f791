"""Shared part of the synthetic teachers: inputs with a known law, a target function, Gaussian noise."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dd.axis import Axis
from dd.config import RunConfig, Settings
from dd.data._base import Dataset, Pool
from dd.streams import stream

DIMENSION = Axis("dim", int, 30, "input dimension of the teacher", low=1)
NOISE = Axis("noise", float, 0.5, "standard deviation of the noise on training targets", low=0)
INPUTS = Axis("inputs", str, "gaussian", "law of the inputs; the sphere has radius sqrt(dim)",
              choices=("gaussian", "sphere"))  # fmt: skip


class Teacher(Dataset):
    """Base of the teachers: y = f(x) + noise for training, y = f(x) for testing, so the test loss is the excess risk.

    Separate streams draw direction, training inputs, noise and test inputs; samples are drawn one after the other,
    so training sets of growing size are nested. With ``data.test_seed`` the problem, direction and test inputs, stays
    as it is while ``data.seed`` redraws training inputs and noise.
    """

    classification = False
    outputs = 1
    generated = True
    options: ClassVar[tuple[Axis, ...]] = (DIMENSION, NOISE, INPUTS)

    def inputs(self, run: RunConfig) -> int:
        """The option ``data.dim``."""
        return int(run.group_options("data")["dim"])

    @abstractmethod
    def target(self, x: NDArray[np.float64], direction: NDArray[np.float64], run: RunConfig) -> NDArray[np.float64]:
        """Noise-free target [samples] of inputs [samples, dim], given a unit vector [dim]."""

    def _draw_inputs(self, run: RunConfig, seed: int, name: str, samples: int) -> NDArray[np.float64]:
        options = run.group_options("data")
        x = stream(seed, name).standard_normal((samples, options["dim"]))
        if options["inputs"] == "sphere":
            x *= np.sqrt(options["dim"]) / np.linalg.norm(x, axis=1, keepdims=True)
        return x

    def pool(self, run: RunConfig, settings: Settings) -> Pool:
        """Draw inputs and targets."""
        options = run.group_options("data")
        direction = stream(run.test_set_seed, "teacher.direction").standard_normal(options["dim"])
        direction /= np.linalg.norm(direction)
        x = self._draw_inputs(run, run.data_seed, "teacher.train", run.n_train)
        test_x = self._draw_inputs(run, run.test_set_seed, "teacher.test", run.n_test)
        noise = options["noise"] * stream(run.data_seed, "teacher.noise").standard_normal(run.n_train)
        y = (self.target(x, direction, run) + noise)[:, None]
        test_y = self.target(test_x, direction, run)[:, None]
        return Pool(x, y, test_x, test_y, source="drawn")
