"""Samples given from Python to a sweep: written once beside the table, where workers and later sweeps find them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dd.cli.compose import compose_settings
from dd.cli.kept import assigned, keep
from dd.data.file import pool_from
from dd.errors import ConfigError
from dd.samples.arrays import Array, Samples, parts_of, samples_of

FOLDER = "data"
"""Folder of a table that holds samples; no part of the table."""


def overrides_for(data: object, overrides: Sequence[str]) -> list[str]:
    """Write samples to ``<results_dir>/<name>/data/`` unless they are there, and say where.

    Args:
        data: see :func:`dd.samples.arrays.parts_of`.
        overrides: of the sweep.

    Returns:
        The overrides of the sweep, and before them those that name the file.

    Raises:
        ConfigError: the samples cannot be taken, or an override names others.
        StoreError: the file cannot be written.
    """
    for override in overrides:
        key, _, value = str(override).partition("=")
        if key.lstrip("+~") in ("data", "data.path", "data.labels", "data.target", "data.task"):
            raise ConfigError(key, value, "dd.sweep has its samples from data=; leave the override out")
    held = samples_of(*parts_of("data", data))
    settings = compose_settings(["data=file", *overrides])
    path = _written(held, Path(settings.results_dir) / settings.name / FOLDER)
    task = "classification" if held.classification else "regression"
    return ["data=file", assigned("data.path", path), f"data.task={task}", *overrides]


def _written(held: Samples, folder: Path) -> Path:
    """The file of some samples, named by their digest; it appears whole or not at all."""
    path = folder / f"samples_{pool_from(held, '').sha256[:16]}.npz"
    parts = {"x": held.x, "y": _labels(held, held.y)}
    if held.test_x is not None and held.test_y is not None:
        parts |= {"x_test": held.test_x, "y_test": _labels(held, held.test_y)}
    keep(path, "the samples", lambda file: np.savez(file, allow_pickle=False, **parts))
    return path


def _labels(held: Samples, y: Array) -> Array:
    """Targets as they were called: text, or whole numbers."""
    if not held.names:
        return y
    try:
        return np.array([int(name) for name in held.names], np.int64)[y]
    except ValueError:
        return np.array(held.names)[y]
