"""Shared part of the synthetic teachers: inputs with a known law, a target function, Gaussian noise."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dd.components.dataset import Dataset, Pool
from dd.runs.axis import axis
from dd.runs.run import Run
from dd.runs.settings import Settings
from dd.streams import stream


@dataclass(frozen=True)
class Teacher(Dataset):
    """Base of the teachers: y = f(x) + noise for training, y = f(x) for testing, so the test loss is the excess risk.

    Separate streams draw direction, training inputs, noise and test inputs; samples are drawn one after the other,
    so training sets of growing size are nested. With ``data.test_seed`` the problem, direction and test inputs, stays
    as it is while ``data.seed`` redraws training inputs and noise.
    """

    classification = False
    outputs = 1
    generated = True

    dim: int = axis(30, "input dimension of the teacher", low=1)
    noise: float = axis(0.5, "standard deviation of the noise on training targets", low=0)
    inputs: str = axis("gaussian", "law of the inputs; the sphere has radius sqrt(dim)", choices=("gaussian", "sphere"))

    @property
    def input_count(self) -> int:
        """The option ``data.dim``."""
        return self.dim

    @abstractmethod
    def target(self, x: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Noise-free target [samples] of inputs [samples, dim], given a unit vector [dim]."""

    def _draw_inputs(self, seed: int, name: str, samples: int) -> NDArray[np.float64]:
        x = stream(seed, name).standard_normal((samples, self.dim))
        if self.inputs == "sphere":
            x *= np.sqrt(self.dim) / np.linalg.norm(x, axis=1, keepdims=True)
        return x

    def pool(self, run: Run, settings: Settings) -> Pool:
        """Draw inputs and targets."""
        direction = stream(run.test_set_seed, "teacher.direction").standard_normal(self.dim)
        direction /= np.linalg.norm(direction)
        x = self._draw_inputs(run.data_seed, "teacher.train", run.n_drawn)
        test_x = self._draw_inputs(run.test_set_seed, "teacher.test", run.n_test)
        noise = self.noise * stream(run.data_seed, "teacher.noise").standard_normal(run.n_drawn)
        y = (self.target(x, direction) + noise)[:, None]
        return Pool(x, y, test_x, self.target(test_x, direction)[:, None], source="drawn")
