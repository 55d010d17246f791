"""Samples given from Python, for :func:`dd.train`."""

from __future__ import annotations

from dd.axis import Axis
from dd.config import RunConfig, Settings
from dd.data._base import Dataset, Pool
from dd.errors import ConfigError


class Tensors(Dataset):
    """The caller's own samples; the command line cannot reach them, and no table holds them."""

    generated = True
    options = (
        Axis("dim", int, 1, "input dimension", low=1),
        Axis("image", str, "none", "channels x height x width of images, as 3x32x32"),
    )

    def inputs(self, run: RunConfig) -> int:
        """As given."""
        return int(run.group_options("data")["dim"])

    def image(self, run: RunConfig) -> tuple[int, int, int] | None:
        """See :meth:`Dataset.image`."""
        shape = run.group_options("data").get("image", "none")
        if shape == "none":
            return None
        channels, height, width = (int(n) for n in shape.split("x"))
        return channels, height, width

    def ensure(self, settings: Settings) -> None:
        """Refuse a sweep: it has no samples.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("data", "tensors", "is for dd.train(x, y, ...) in Python (docs/packing.md)")

    def pool(self, run: RunConfig, settings: Settings) -> Pool:
        """See :meth:`ensure`."""
        self.ensure(settings)
        raise AssertionError
