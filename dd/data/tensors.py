"""Samples given from Python, for :func:`dd.train`."""

from __future__ import annotations

from dataclasses import dataclass

from dd.components.dataset import Dataset, Pool
from dd.errors import ConfigError
from dd.runs.axis import axis
from dd.runs.run import Run
from dd.runs.settings import Settings


@dataclass(frozen=True)
class Tensors(Dataset):
    """The caller's own samples; the command line cannot reach them, and no table holds them."""

    generated = True

    dim: int = axis(1, "input dimension", low=1)
    image_shape: str = axis("none", "channels x height x width of images, as 3x32x32", key="image")

    @property
    def input_count(self) -> int:
        """As given."""
        return self.dim

    @property
    def image(self) -> tuple[int, int, int] | None:
        """See :attr:`Dataset.image`."""
        if self.image_shape == "none":
            return None
        channels, height, width = (int(n) for n in self.image_shape.split("x"))
        return channels, height, width

    def ensure(self, settings: Settings) -> None:
        """Refuse a sweep: it has no samples.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("data", "tensors", "is for dd.train(x, y, ...) in Python (docs/packing.md)")

    def pool(self, run: Run, settings: Settings) -> Pool:
        """See :meth:`ensure`."""
        self.ensure(settings)
        raise AssertionError
